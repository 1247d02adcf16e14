"""What is read of a data set to explore it: all, or a sample of threads where there is much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy import sparse

from twinrank.data import Dataset, Queries, answer_texts
from twinrank.encoding import Encoder, FeatureStore
from twinrank.evaluation.space import unit_vectors
from twinrank.ranking import Reader

# At most as many are read: queries of threads with a label, of threads without, and answers.
LABELLED, UNLABELLED, ANSWERS = 15_000, 5_000, 20_000
POOLING = "mean"


@dataclass(frozen=True)
class Sample:
    """Queries and answers with their features: n queries, m answers, d features.

    Attributes:
        frame: of the queries: id, type, thread, text, split (null where there is no label).
        answers: as in the data set.
        labels: n x m, 1 where an answer is right.
        features: of the queries, as the encoder gives them.
        points: the same at length one, so that a product is a cosine; and `answer_points`.
        queries_left_out: how many were not read; and `answers_left_out`.
    """

    frame: pl.DataFrame
    answers: pl.DataFrame
    labels: sparse.csr_array
    features: Float[np.ndarray, "n d"]
    points: Float[np.ndarray, "n d"]
    answer_points: Float[np.ndarray, "m d"]
    queries_left_out: int = 0
    answers_left_out: int = 0

    def __len__(self) -> int:
        return self.frame.height

    @property
    def labelled(self) -> Bool[np.ndarray, " n"]:
        """Which queries have a label here."""
        return np.asarray(np.diff(self.labels.indptr) > 0)

    def codes(self, column: str) -> Int[np.ndarray, " n"]:
        """A number for each value of a column, equal where the values are."""
        return self.frame[column].rank("dense").to_numpy().astype(np.int64)


def draw(
    dataset: Dataset, encoder: Encoder, store: FeatureStore | None = None, *, seed: int = 0
) -> Sample:
    """Read a data set, or at most so much of it, in memory that does not grow with it.

    Threads are drawn whole, but for the last. Answers that are right for a query come first.

    Args:
        dataset: what to read.
        encoder: gives the features.
        store: keeps them; without one, each text is encoded anew.
        seed: another draws others.
    """
    rng = np.random.default_rng(seed)
    split_of = dataset.labels.select(pl.col("query").alias("id"), "split").unique("id")
    heads = dataset.queries.select("id", "thread").collect(engine="streaming")
    queries = dataset.select(heads["id"].gather(_drawn(heads, split_of["id"], rng)))
    frame = queries.frame.select("id", "type", "thread", "text")
    frame = frame.join(split_of, on="id", how="left", maintain_order="left")
    columns = _columns(queries, rng)
    answers = dataset.answers[columns]
    texts = [*queries.texts, *answer_texts(answers)]
    features = Reader(encoder, POOLING, store)(texts, progress="Encoding")
    points = unit_vectors(features)
    return Sample(
        frame=frame,
        answers=answers,
        labels=sparse.csr_array(queries.labels[:, columns]),
        features=features[: len(queries)],
        points=points[: len(queries)],
        answer_points=points[len(queries) :],
        queries_left_out=heads.height - len(queries),
        answers_left_out=dataset.answers.height - len(columns),
    )


def _drawn(
    heads: pl.DataFrame, labelled: pl.Series, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Rows of the queries to read, in order, thread by thread."""
    asked = pl.col("id").is_in(labelled.implode()).any().over("thread")
    known = heads.select(asked.alias("asked"), pl.col("thread").rank("dense") - 1)
    thread = known["thread"].to_numpy().astype(np.int64)
    order = np.argsort(rng.permutation(thread.max(initial=-1) + 1)[thread], kind="stable")
    there = known["asked"].to_numpy()[order]
    return np.sort(np.concatenate([order[there][:LABELLED], order[~there][:UNLABELLED]]))


def _columns(queries: Queries, rng: np.random.Generator) -> Int[np.ndarray, " m"]:
    """Columns of the answers to read, in order: those that are right for a query, then any."""
    count = queries.labels.shape[1]
    right = np.zeros(count, bool)
    right[queries.labels.indices] = True
    order = rng.permutation(count)
    return np.sort(order[np.argsort(~right[order], kind="stable")][:ANSWERS])
