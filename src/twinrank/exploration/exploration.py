"""Everything that is looked at in a data set before anything is trained on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from jaxtyping import Float

from twinrank.data import Dataset, Description, describe
from twinrank.data.statistics import unspaced_warning
from twinrank.encoding import Encoder, FeatureStore
from twinrank.evaluation.geometry import measure_space
from twinrank.evaluation.space import main_axes
from twinrank.exploration.counts import (
    Lengths,
    answer_types,
    by_popularity,
    popularity,
    token_lengths,
    unseen_answers,
)
from twinrank.exploration.labels import Check, check_by_planting, doubtful_labels
from twinrank.exploration.near import Kinship, kinship, nearest
from twinrank.exploration.sample import Sample, draw
from twinrank.exploration.twins import answer_twins, overlap, query_twins
from twinrank.exploration.words import marking_words

PAIRED = 4_000  # labelled queries of which all pairs are looked at
FITTED = 2_000  # queries whose main axes are found, and labelled ones whose types are told apart


@dataclass(frozen=True)
class Exploration:
    """What a data set looks like, to an encoder and to people.

    Attributes:
        description: its counts.
        encoder, max_tokens: whose features these are, and where it cuts.
        longest: how many tokens it could read, if it says so.
        sample: what was read.
        popularity, answer_types, known, unseen: see `counts.popularity`, `answer_types`,
            `by_popularity` and `unseen_answers`.
        lengths: in tokens.
        kinship: how near queries are that belong together, of at most 4,000 labelled ones.
        space: of at most 2,000 labelled queries: how well a linear probe tells the types, and the
            shares of variance between types and between answers, as `evaluation.geometry` has them.
        doubts, check: see `labels.doubtful_labels`, and how well that finds swapped labels.
        unused: answers that are never right though they are the nearest to a labelled query:
            answer (column), queries (to how many), query (row of the nearest of them).
        twins, overlap, answer_twins: see `twins`.
        plane: x, y of each query of the sample on the two main axes of the raw features (of at
            most 2,000 of them), and the share of the variance on each.
        words: that mark each type.
        unspaced: see `unspaced_warning`.
    """

    description: Description
    encoder: str
    max_tokens: int
    longest: int | None
    sample: Sample = field(repr=False)
    popularity: pl.DataFrame = field(repr=False)
    answer_types: pl.DataFrame = field(repr=False)
    known: float | None
    unseen: dict[str, int]
    lengths: Lengths = field(repr=False)
    kinship: Kinship = field(repr=False)
    space: dict[str, float | None]
    doubts: pl.DataFrame = field(repr=False)
    check: Check | None
    unused: pl.DataFrame = field(repr=False)
    twins: pl.DataFrame = field(repr=False)
    overlap: dict[str, dict[str, int]]
    answer_twins: pl.DataFrame = field(repr=False)
    plane: tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " 2"]] = field(repr=False)
    words: pl.DataFrame = field(repr=False)
    unspaced: tuple[str, ...]


def explore(
    dataset: Dataset, encoder: Encoder, store: FeatureStore | None = None, *, seed: int = 0
) -> Exploration:
    """Look at a data set with the features of an encoder; nothing is trained.

    Args:
        dataset: with or without labels.
        encoder: gives mean-pooled features.
        store: keeps them; without one, each text is encoded anew.
        seed: of what is drawn where there is much.

    Raises:
        EncoderError, StoreError: if features cannot be had.
    """
    sample = draw(dataset, encoder, store, seed=seed)
    ranked = popularity(dataset)
    asked = np.flatnonzero(sample.labelled)
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(asked)[:PAIRED])
    twins = query_twins(sample)
    return Exploration(
        description=describe(dataset),
        encoder=encoder.name,
        max_tokens=encoder.max_tokens,
        longest=encoder.longest,
        sample=sample,
        popularity=ranked,
        answer_types=answer_types(dataset),
        known=by_popularity(dataset),
        unseen=unseen_answers(dataset),
        lengths=token_lengths(sample, encoder),
        kinship=kinship(
            sample.points[some],
            sample.labels[some],
            sample.codes("type")[some],
            sample.codes("thread")[some],
        ),
        space=_space(sample, rng.permutation(some)[:FITTED]),
        doubts=doubtful_labels(sample),
        check=check_by_planting(sample, seed=seed),
        unused=_unused(sample, ranked, asked),
        twins=twins,
        overlap=overlap(sample, twins),
        answer_twins=answer_twins(sample),
        plane=_plane(sample, rng.permutation(len(sample))[:FITTED]),
        words=marking_words(sample.frame["text"].to_list(), sample.frame["type"].to_list()),
        unspaced=unspaced_warning(dataset),
    )


def _space(sample: Sample, rows: np.ndarray) -> dict[str, float | None]:
    if len(rows) < 2:
        return {}
    frame = sample.frame[rows]
    figures = measure_space(
        sample.features[rows],
        sample.answer_points,
        sample.labels[rows],
        frame["type"].to_list(),
        frame["thread"].to_list(),
    )
    return {name: figures[name] for name in ("type_auc", "type_share", "answer_share")}


def _plane(
    sample: Sample, rows: np.ndarray
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " 2"]]:
    if not len(rows):
        return np.zeros((0, 2)), np.zeros(2)
    (spots,), shares = main_axes(sample.features[rows], 2, sample.features)
    return spots, shares


def _unused(sample: Sample, ranked: pl.DataFrame, asked: np.ndarray) -> pl.DataFrame:
    never = ranked.filter(pl.col("queries") == 0)["answer"]
    unused = sample.answers["id"].is_in(never.implode()).to_numpy()
    found, cosines = nearest(sample.points[asked], sample.answer_points, 1)
    table = pl.DataFrame(
        {"answer": found.ravel(), "query": asked[: found.size], "cosine": cosines.ravel()}
    )
    mine = table.filter(pl.Series(unused[table["answer"].to_numpy()]))
    grouped = mine.group_by("answer").agg(
        queries=pl.len(), query=pl.col("query").sort_by("cosine").last()
    )
    return grouped.sort("queries", "answer", descending=[True, False])
