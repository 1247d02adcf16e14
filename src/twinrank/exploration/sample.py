"""The queries and answers whose features are read: all, or whole threads drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy import sparse

from twinrank.data import Dataset, Description, Queries
from twinrank.data.texts import shorten
from twinrank.encoding import Encoder, FeatureStore
from twinrank.evaluation.geometry import unit_vectors
from twinrank.ranking import Reader
from twinrank.recipe import EncoderSettings

# At most as many are read: queries of threads with a label, of threads without, and answers.
MAX_LABELLED, MAX_UNLABELLED, MAX_ANSWERS = 15_000, 5_000, 20_000
MAX_ROWS = 30  # of a table of texts


@dataclass(frozen=True)
class Sample:
    """Queries and answers with their features: n queries, m answers, d features.

    Attributes:
        frame: of the queries: id, type, thread, text, split (null where there is no label).
        answers: as in the data set.
        labels: n x m, 1 where an answer is right.
        features: of the queries, as the encoder gives them.
        points, answer_points: features at length one, so that a product is a cosine.
        queries_left_out, answers_left_out: how many were not read.
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
    def types(self) -> list[str]:
        """The types of its queries, in alphabetical order."""
        return sorted(self.frame["type"].unique())

    @property
    def labelled(self) -> Bool[np.ndarray, " n"]:
        """Which queries have a label."""
        return np.asarray(np.diff(self.labels.indptr) > 0)

    def codes(self, column: str) -> Int[np.ndarray, " n"]:
        """Give a number for each value of a column, equal where the values are."""
        return self.frame[column].rank("dense").to_numpy().astype(np.int64)

    def describe_query(self, row: int) -> str:
        """Write a query for a table: type, split and text."""
        about = ", ".join(filter(None, (self.frame["type"][row], self.frame["split"][row])))
        return f"[{about}] {shorten(self.frame['text'][row])}"

    def describe_labelled(self, row: int) -> str:
        """Write a query for a table, and below it the titles of its right answers."""
        titles = self.answers["title"].gather(self.labels[[row]].indices)
        return f"{self.describe_query(row)}\n→ {shorten('; '.join(titles))}"


@dataclass(frozen=True)
class Subject:
    """All that a check may look at: a data set, its counts, and the features of a sample."""

    dataset: Dataset
    description: Description
    encoder: Encoder
    sample: Sample


def draw_sample(dataset: Dataset, encoder: Encoder, store: FeatureStore | None = None) -> Sample:
    """Read a data set, or at most so much of it, in memory that does not grow with it.

    Threads are drawn whole, but for the last. Answers that are right for a query come first.
    """
    rng = np.random.default_rng(0)
    split_of = dataset.labels.select(pl.col("query").alias("id"), "split").unique("id")
    heads = dataset.queries.select("id", "thread")
    queries = dataset.select(heads["id"].gather(_draw_threads(heads, split_of["id"], rng)))
    frame = queries.frame.select("id", "type", "thread", "text")
    frame = frame.join(split_of, on="id", how="left", maintain_order="left")
    columns = _draw_answers(queries, rng)
    answers = dataset.answers[columns]
    reader = Reader.build(encoder, EncoderSettings(pooling="mean"), store)
    texts = [*reader.queries(queries.texts), *reader.passages(answers).rows]
    features = reader.features(texts, progress="Encoding")
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


def _draw_threads(
    heads: pl.DataFrame, labelled: pl.Series, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Draw rows of queries thread by thread, and give them in order."""
    is_labelled = pl.col("id").is_in(labelled.implode()).any().over("thread")
    columns = heads.select(is_labelled.alias("labelled"), pl.col("thread").rank("dense") - 1)
    thread = columns["thread"].to_numpy().astype(np.int64)
    order = np.argsort(rng.permutation(thread.max(initial=-1) + 1)[thread], kind="stable")
    has_label = columns["labelled"].to_numpy()[order]
    rows = [order[has_label][:MAX_LABELLED], order[~has_label][:MAX_UNLABELLED]]
    return np.sort(np.concatenate(rows))


def _draw_answers(queries: Queries, rng: np.random.Generator) -> Int[np.ndarray, " m"]:
    """Draw columns of answers, those that are right for a query first, and give them in order."""
    count = queries.labels.shape[1]
    right = np.zeros(count, bool)
    right[queries.labels.indices] = True
    order = rng.permutation(count)
    return np.sort(order[np.argsort(~right[order], kind="stable")][:MAX_ANSWERS])
