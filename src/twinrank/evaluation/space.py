"""The vectors of a split's queries and answers, and what is reckoned with them.

A vector of length zero has no direction; it stays zero where others are scaled to unit length,
as the ranker leaves it. A feature that varies by no more than rounding (of float32, beside the
largest feature) counts as constant. MiniLM has three of these, of which one, scaled up, tells how
long a text is; and a collapsed ranker would look alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from twinrank.data import Dataset, Queries
from twinrank.errors import RankerError
from twinrank.evaluation.evaluation import labels_in_ranker
from twinrank.ranking import Ranker

ROUNDING = 1e-6  # of the largest value: some units in the last place of float32

Points = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class Cells:
    """The queries of one answer and one type, wherever there are any: c cells, by answer.

    Attributes:
        answer, counts: of each cell: its answer's column, its queries.
        row, column, owner: of each label: its query, its answer, its cell.
    """

    answer: Int[np.ndarray, " c"]
    counts: Int[np.ndarray, " c"]
    row: Int[np.ndarray, " labels"]
    column: Int[np.ndarray, " labels"]
    owner: Int[np.ndarray, " labels"]

    def means(self, points: Points) -> Float[np.ndarray, "c d"]:
        """The centroid of each cell."""
        ones = np.ones(len(self.row))
        shape = (len(self.counts), len(points))
        sums = sparse.csr_array((ones, (self.owner, self.row)), shape=shape) @ points
        return np.asarray(sums / self.counts[:, None])

    def pairs(self) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
        """The cells of one answer, two by two."""
        most = int(np.bincount(self.answer, minlength=1).max())
        same = [np.flatnonzero(self.answer[k:] == self.answer[:-k]) for k in range(1, most)]
        first = np.concatenate([*same, np.empty(0, dtype=np.int64)])
        return first, np.concatenate([*(p + k + 1 for k, p in enumerate(same)), first[:0]])


def cells_of(labels: sparse.csr_array, types: Sequence[str]) -> Cells:
    """The cells of some labelled queries."""
    row, column = labels.nonzero()
    row, column = row.astype(np.int64), column.astype(np.int64)
    names, kinds = np.unique(np.asarray(types, dtype=str), return_inverse=True)
    cell, owner, counts = np.unique(
        column * len(names) + kinds[row], return_inverse=True, return_counts=True
    )
    return Cells(cell // len(names), counts, row, column, owner)


def placed(
    ranker: Ranker, dataset: Dataset, split: str
) -> tuple[Queries, Points, Float[np.ndarray, "m d"]]:
    """A split's queries, labels in the ranker's columns, and the vectors of both sides.

    An answer of several passages lies at their mean.
    """
    dense = ranker.dense
    if dense is None:
        raise RankerError(
            f"{ranker.recipe.name} ranks by words and has no space to measure; "
            "take a recipe with an encoder, such as zero-shot"
        )
    queries = dataset.split(split)
    queries = replace(queries, labels=labels_in_ranker(ranker, dataset, queries))
    points = dense.towers.project_queries(dense.reader(queries.texts, progress="Encoding queries"))
    vectors = (points.astype(np.float64), dense.centres())
    if not all(np.isfinite(side).all() for side in vectors):
        raise RankerError(
            f"{ranker.recipe.name} gives vectors that are not finite; train it anew with a lower "
            "learning rate"
        )
    return queries, *vectors


def flat(low: Float[np.ndarray, " d"], high: Float[np.ndarray, " d"]) -> Bool[np.ndarray, " d"]:
    """Which features are constant but for rounding, from their lowest and highest values."""
    return np.asarray(high - low <= ROUNDING * max(abs(low).max(), abs(high).max()))


def snapped(points: Points) -> Points:
    """Points where what is constant but for rounding is constant."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.where(flat(low, high), low, points)


def centred(points: Points) -> Points:
    """Points about their mean; equal vectors come out exactly zero."""
    moved = points - points[0]
    return np.asarray(moved - moved.mean(axis=0))


def unit_vectors(points: Points) -> Points:
    """Points at length one; zero stays zero."""
    long = lengths(points)[:, None]
    return points / np.where(long > 0, long, 1)


def lengths(points: Points) -> Float[np.ndarray, " n"]:
    """The Euclidean length of each row."""
    return np.asarray(np.linalg.norm(points, axis=1))


def main_axes(
    fitted: Float[np.ndarray, "_ d"], size: int, *others: Float[np.ndarray, "_ d"]
) -> tuple[list[Float[np.ndarray, "_ size"]], Float[np.ndarray, " size"]]:
    """Others on the main axes of some points, and the variance share of each; absent ones are 0."""
    from sklearn.decomposition import PCA  # slow to import, and ranking needs none

    if not (fitted != fitted[0]).any():
        return [np.zeros((len(other), size)) for other in others], np.zeros(size)
    pca = PCA(min(size, *fitted.shape), svd_solver="full").fit(fitted)
    pad = (0, size - pca.n_components_)
    moved = [np.pad(pca.transform(other), ((0, 0), pad)) for other in others]
    return moved, np.pad(pca.explained_variance_ratio_, pad)
