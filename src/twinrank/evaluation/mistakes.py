"""Where a ranker is wrong: the answers it mistakes for each other, and its worst misses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy import sparse

from twinrank.evaluation.metrics import PUBLISHED_METRICS, ranks_of_right


@dataclass(frozen=True)
class Mistakes:
    """The queries of an evaluation whose first answer is wrong.

    Attributes:
        queries: how many were measured.
        misses: the rows of those queries, in their order.
        directed: right, first, misses, queries: to how many queries of the answer `right` the
            ranker gave `first` instead, and how many queries it has; most misses first.
        confused: one, other, misses, one_for_other, other_for_one, queries: the same of the pair,
            `one_for_other` where `other` was right; most misses first, `one` before `other` in
            the alphabet.
    """

    queries: int
    misses: pl.DataFrame = field(repr=False)
    directed: pl.DataFrame = field(repr=False)
    confused: pl.DataFrame = field(repr=False)

    def worst(self, most: int, by: str = "loss") -> pl.DataFrame:
        """Give the misses of the highest loss: sure of a wrong answer, the right one far behind."""
        return self.misses.sort(by, descending=True, maintain_order=True).head(most)

    def surest(self, most: int) -> pl.DataFrame:
        """Give the misses of the highest confidence; none if the ranker gives no confidence."""
        sure = "confidence" in self.misses.columns
        return self.worst(most, "confidence") if sure else self.misses.clear()

    def as_dict(self, most: int) -> dict[str, Any]:
        """Give plain JSON values: counts, and the first `most` of each list."""
        return {
            "queries": self.queries,
            "misses": self.misses.height,
            "confused_pairs": self.confused.height,
            "confused": self.confused.head(most).to_dicts(),
            "directed": self.directed.head(most).to_dicts(),
            "worst": self.worst(most).to_dicts(),
            "surest": self.surest(most).to_dicts(),
        }


def mistakes(rows: pl.DataFrame) -> Mistakes:
    """Collect the mistakes in the rows of an evaluation (see `Evaluation.per_query`).

    A query with several right answers counts for the one with the best rank.
    """
    misses = rows.drop(*PUBLISHED_METRICS, "among_options", strict=False)
    misses = misses.filter(pl.col("first") != pl.col("right"))
    queries_of = dict(rows.group_by("right").len().iter_rows())

    def queries(column: str) -> pl.Expr:
        return pl.col(column).replace_strict(queries_of, default=0)

    directed = misses.group_by("right", "first").agg(misses=pl.len())
    directed = directed.with_columns(queries=queries("right"))
    directed = directed.sort("misses", "right", "first", descending=[True, False, False])
    pairs = directed.with_columns(
        pl.min_horizontal("right", "first").alias("one"),
        pl.max_horizontal("right", "first").alias("other"),
    )
    of_other = pl.col("misses").filter(pl.col("right") == pl.col("other")).sum()
    confused = pairs.group_by("one", "other").agg(pl.sum("misses"), one_for_other=of_other)
    confused = confused.with_columns(
        other_for_one=pl.col("misses") - pl.col("one_for_other"),
        queries=queries("one") + queries("other"),
    ).sort("misses", "one", "other", descending=[True, False, False])
    return Mistakes(rows.height, misses, directed, confused)


def outcomes(
    scores: Float[np.ndarray, "n m"], labels: sparse.csr_array
) -> dict[str, Int[np.ndarray, " n"]]:
    """Give for each query its `first` answer, the `right` one of the best rank, and that `rank`.

    Answers are columns of the scores; each query has at least one right answer, and of equal
    scores the earlier column ranks first.
    """
    scores = np.asarray(scores, dtype=np.float64)
    ranks = ranks_of_right(scores, labels)
    owner = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    best = np.lexsort((ranks, owner))[labels.indptr[:-1]]
    return {
        "first": scores.argmax(axis=1),
        "right": labels.indices[best].astype(np.int64),
        "rank": ranks[best].astype(np.int64),
    }
