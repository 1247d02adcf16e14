"""What can be counted without features: how often each answer is right, and how long texts are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int

from twinrank.data import Dataset, answer_texts, section_texts
from twinrank.encoding import Encoder
from twinrank.exploration.sample import Sample

COMMONEST = 3  # answers that are named for every query by a ranker that knows nothing else
ANSWERS, SECTIONS = "the answers", "the sections of answers"  # as people read them

Tokens = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class Lengths:
    """Tokens of texts before any are cut, special ones included.

    Attributes:
        types: of the queries of each type.
        answers: of the answers.
        sections: of their sections; None where no answer has several.
    """

    types: dict[str, Tokens]
    answers: Tokens
    sections: Tokens | None

    def rows(self) -> list[tuple[str, Tokens]]:
        """All with their names, for people."""
        parts = [] if self.sections is None else [(SECTIONS, self.sections)]
        return [*self.types.items(), (ANSWERS, self.answers), *parts]


def popularity(dataset: Dataset) -> pl.DataFrame:
    """Each answer, the one with the most queries first.

    Returns:
        answer, title, queries, and share (of all labels, this and the answers before it).
    """
    counts = dataset.labels.group_by("answer").agg(queries=pl.len())
    answers = dataset.answers.select(pl.col("id").alias("answer"), "title")
    joined = answers.join(counts, on="answer", how="left", maintain_order="left")
    ranked = joined.with_columns(pl.col("queries").fill_null(0)).sort(
        "queries", descending=True, maintain_order=True
    )
    total = max(dataset.labels.height, 1)
    return ranked.with_columns(share=pl.col("queries").cum_sum() / total)


def answer_types(dataset: Dataset) -> pl.DataFrame:
    """How many queries of each type each answer is right for: answer, type, queries."""
    kinds = dataset.queries.select("id", "type").collect(engine="streaming")
    labels = dataset.labels.join(kinds, left_on="query", right_on="id")
    return labels.group_by("answer", "type").agg(queries=pl.len()).sort("answer", "type")


def by_popularity(dataset: Dataset) -> float | None:
    """Top-3 accuracy on validation of always naming train's three commonest answers.

    None where either has no labels.
    """
    train = dataset.labels.filter(pl.col("split") == "train")
    asked = dataset.labels.filter(pl.col("split") == "validation")
    if train.is_empty() or asked.is_empty():
        return None
    counts = train.group_by("answer").len().sort("len", "answer", descending=[True, False])
    named = counts["answer"].head(COMMONEST)
    right = asked.filter(pl.col("answer").is_in(named.implode()))["query"].n_unique()
    return right / asked["query"].n_unique()


def unseen_answers(dataset: Dataset) -> dict[str, int]:
    """How many queries of validation and of test have no right answer with a label in train.

    None where train has no labels.
    """
    split = pl.col("split")
    taught = dataset.labels.filter(split == "train")["answer"].unique()
    if taught.is_empty():
        return {}
    known = dataset.labels.group_by("split", "query").agg(
        pl.col("answer").is_in(taught.implode()).any()
    )
    lost = known.filter(~pl.col("answer"))
    return {name: lost.filter(split == name).height for name in ("validation", "test")}


def token_lengths(sample: Sample, encoder: Encoder) -> Lengths:
    """Count the tokens of all texts of a sample."""
    kinds = sorted(sample.frame["type"].unique())
    own = {kind: sample.frame.filter(pl.col("type") == kind)["text"].to_list() for kind in kinds}
    sections, owners = section_texts(sample.answers)
    several = len(sections) > len(np.unique(owners))
    return Lengths(
        types={kind: encoder.count_tokens(texts) for kind, texts in own.items()},
        answers=encoder.count_tokens(answer_texts(sample.answers)),
        sections=encoder.count_tokens(sections) if several else None,
    )


def unread(tokens: Tokens, limit: int) -> tuple[float, float]:
    """The share of texts longer than a limit, and the share of all tokens behind it."""
    behind = np.maximum(tokens - limit, 0)
    longer = float((behind > 0).mean()) if len(tokens) else 0.0
    return longer, float(behind.sum() / max(tokens.sum(), 1))
