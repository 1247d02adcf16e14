"""Nearest neighbours by cosine, and how near things are that belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

ROWS_A_BLOCK = 512
BINS = 100  # of cosines, from -1 to 1
RELATIONS = (
    "same thread",
    "same answer, same type",
    "same answer, other type",
    "other answer, same type",
    "other answer, other type",
)

Points = Float[np.ndarray, "n d"]
Codes = Int[np.ndarray, " n"]


def nearest(
    points: Float[np.ndarray, "n d"],
    others: Float[np.ndarray, "v d"],
    k: int,
    *,
    apart: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " v"]] | None = None,
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The k nearest others of each point, the nearest first, and their cosines.

    Where there are fewer than k, so many columns. One that may not count has cosine -inf.

    Args:
        points: of length one.
        others: of length one.
        k: how many.
        apart: a code for each point and each other; those of equal codes do not count.
    """
    k = min(k, len(others))
    found = np.zeros((len(points), k), np.int64)
    cosines = np.zeros((len(points), k), np.float32)
    if not k:
        return found, cosines
    for rows in _blocks(len(points)):
        products = points[rows] @ others.T
        if apart is not None:
            products[apart[0][rows, None] == apart[1][None]] = -np.inf
        some = np.argpartition(-products, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(products, some, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        found[rows] = np.take_along_axis(some, order, axis=1)
        cosines[rows] = np.take_along_axis(values, order, axis=1)
    return found, cosines


@dataclass(frozen=True)
class Kinship:
    """How near pairs of labelled queries are, by how they are related.

    Attributes:
        counts: pairs, a row for each of `RELATIONS`, a column a bin of cosines from -1 to 1.
        means: the mean cosine of each relation; nan where there is no pair.
        queries: whose pairs these are.
    """

    counts: Int[np.ndarray, "relations bins"]
    means: Float[np.ndarray, " relations"]
    queries: int

    @property
    def bins(self) -> Float[np.ndarray, " bins"]:
        """The middle of each bin."""
        return (np.arange(BINS) + 0.5) * 2 / BINS - 1

    def agreement(self) -> tuple[Int[np.ndarray, " bins"], Int[np.ndarray, " bins"]]:
        """Of the pairs in each bin of different threads: all, and those that share an answer."""
        same = self.counts[1:3].sum(axis=0)
        return same + self.counts[3:].sum(axis=0), same


def kinship(points: Points, labels: sparse.csr_array, types: Codes, threads: Codes) -> Kinship:
    """Count all pairs of n labelled queries by relation and cosine.

    Args:
        points: of length one.
        labels: n x m, not 0 where an answer is right.
        types: a code each.
        threads: a code each.
    """
    size = len(RELATIONS) * BINS
    counts, sums = np.zeros(size, np.int64), np.zeros(size)
    for rows in _blocks(len(points)):
        later = slice(rows.start, None)
        cosines = points[rows] @ points[later].T
        shared = (labels[rows] @ labels[later].T).toarray() > 0
        other = types[rows, None] != types[None, later]
        relation = np.where(shared, 1, 3) + other
        relation[threads[rows, None] == threads[None, later]] = 0
        place = np.clip(((cosines + 1) * (BINS / 2)).astype(np.int64), 0, BINS - 1)
        once = np.triu(np.ones(cosines.shape, bool), 1)
        at = (relation * BINS + place)[once]
        counts += np.bincount(at, minlength=size)
        sums += np.bincount(at, cosines[once], minlength=size)
    table = counts.reshape(len(RELATIONS), BINS)
    pairs = table.sum(axis=1)
    means = sums.reshape(table.shape).sum(axis=1) / np.where(pairs > 0, pairs, np.nan)
    return Kinship(table, means, len(points))


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, ROWS_A_BLOCK):
        yield slice(start, min(start + ROWS_A_BLOCK, count))
