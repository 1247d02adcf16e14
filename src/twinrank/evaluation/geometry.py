"""The geometry of a ranker's space on a split: what lies near what, and how the space is used.

A figure that is undefined (nothing to compare, no spread) is None. A vector of length zero has no
direction; it stays zero where others are scaled to unit length, as the ranker leaves it. A feature
that varies by no more than rounding (of float32, beside the largest feature) counts as constant:
MiniLM has three of these, of which one, scaled up, tells how long a text is; and a collapsed
ranker would look alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.spatial.distance import pdist

from twinrank.data import Dataset, Queries
from twinrank.errors import RankerError
from twinrank.evaluation.evaluate import align_labels
from twinrank.ranking import Ranker

MAX_PAIRED = 2000  # vectors of which all pairs are taken
ROUNDING = 1e-6  # of the largest value: some units in the last place of float32
FOLDS = 5  # of the probe of the type

Points = Float[np.ndarray, "n d"]
Groups = Int[np.ndarray, " n"]
Figures = dict[str, float | None]


@dataclass(frozen=True)
class Geometry:
    """A ranker's space on one split of a data set."""

    data: str
    split: str
    dim: int
    queries: int
    answers: int
    paired: int  # answers with queries of two types or more, which `centroid_distance` is over
    figures: Figures  # by name, as `measure_space` gives them

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values, the figures beside the rest."""
        values = asdict(self)
        figures: Figures = values.pop("figures")
        return values | figures


@dataclass(frozen=True)
class View:
    """Centroids and queries in the plane of the centroids' two main axes.

    Attributes:
        centroids: answer, title, type, queries (how many), x, y, text (of the query nearest to
            the centroid in the full space); a row an answer and type.
        queries: type, text, x, y.
        explained: share of the centroids' variance on each axis.
    """

    centroids: pl.DataFrame = field(repr=False)
    queries: pl.DataFrame = field(repr=False)
    explained: tuple[float, float]


@dataclass(frozen=True)
class Cells:
    """The queries of one answer and one type, wherever there are any: c cells, by answer."""

    answer: Int[np.ndarray, " c"]  # the column of each cell's answer
    counts: Int[np.ndarray, " c"]  # queries of each cell
    row: Int[np.ndarray, " labels"]  # the query of each label
    column: Int[np.ndarray, " labels"]  # its answer
    owner: Int[np.ndarray, " labels"]  # its cell

    @classmethod
    def from_labels(cls, labels: sparse.csr_array, types: Sequence[str]) -> Cells:
        """Collect the cells of labelled queries (n x m) of n types."""
        row, column = (side.astype(np.int64) for side in labels.nonzero())
        names, kinds = np.unique(np.asarray(types, dtype=str), return_inverse=True)
        cell, owner, counts = np.unique(
            column * len(names) + kinds[row], return_inverse=True, return_counts=True
        )
        return cls(cell // len(names), counts, row, column, owner)

    def means(self, points: Points) -> Float[np.ndarray, "c d"]:
        """Compute the centroid of each cell."""
        shape = (len(self.counts), len(points))
        member = sparse.csr_array((np.ones(len(self.row)), (self.owner, self.row)), shape=shape)
        return np.asarray(member @ points / self.counts[:, None])

    def pairs(self) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
        """Pair the cells of each answer, two by two."""
        most = int(np.bincount(self.answer, minlength=1).max())
        same = [np.flatnonzero(self.answer[k:] == self.answer[:-k]) for k in range(1, most)]
        first = np.concatenate([*same, np.empty(0, dtype=np.int64)])
        return first, np.concatenate([*(p + k + 1 for k, p in enumerate(same)), first[:0]])


def geometry(ranker: Ranker, dataset: Dataset, *, split: str = "test") -> Geometry:
    """Measure a ranker's space on one split of a data set.

    Raises:
        DataError: if the split is missing or holds no label.
        RankerError: if the ranker has no space (BM25), or does not know all answers.
    """
    queries, points, answers = read_vectors(ranker, dataset, split)
    types, threads = queries.frame["type"].to_list(), queries.frame["thread"].to_list()
    cells = Cells.from_labels(queries.labels, types)
    paired = len(np.unique(cells.answer[cells.pairs()[0]]))
    figures = measure_space(points, answers, queries.labels, types, threads)
    sizes = (points.shape[1], len(points), len(answers), paired)
    return Geometry(dataset.name, split, *sizes, figures)


def measure_space(
    queries: Float[np.ndarray, "n d"],
    answers: Float[np.ndarray, "m d"],
    labels: sparse.csr_array,
    types: Sequence[str],
    threads: Sequence[str],
    *,
    seed: int = 0,
) -> Figures:
    """Compute the figures of a space.

    - `centroid_distance`, of the handover: all vectors scaled to 0..1 feature by feature,
      Euclidean distance between the centroids of an answer's queries of two types; mean over the
      pairs of types of an answer, then over answers.
    - `answer_distance`: in the same space, from a query to its right answers; mean over a query's
      answers, then over queries.
    - `..._relative`: these over the mean distance of two random queries in the same space.
    - `type_auc`: of a logistic regression that tells the type from the vector, see `type_auc`.
    - `answer_share`, `type_share`: epsilon squared (Kelley 1935), the share of the queries'
      variance between answers (types) less what chance gives: 0 by chance, 1 at most. Over
      queries with one right answer.

    Labels (n x m) are not 0 where an answer is right; types and threads are of the n queries. The
    seed is of the folds, and of the 2000 queries drawn where there are more, for the mean distance
    of two.
    """
    queries = _level_constant(queries.astype(np.float64))
    answers = answers.astype(np.float64)
    cells = Cells.from_labels(labels, types)
    rng = np.random.default_rng(seed)
    sampled_queries = rng.permutation(len(queries))[:MAX_PAIRED]
    single = np.flatnonzero(np.bincount(cells.row, minlength=len(queries)) == 1)
    answer_of = np.zeros(len(queries), dtype=np.int64)
    answer_of[cells.row] = cells.column
    kinds = np.unique(np.asarray(types, dtype=str), return_inverse=True)[1]
    return {
        **_scaled_distances(queries, answers, cells, sampled_queries),
        "type_auc": type_auc(queries, kinds, threads, seed=seed),
        "answer_share": _share_between(queries[single], answer_of[single]),
        "type_share": _share_between(queries[single], kinds[single]),
    }


def _scaled_distances(
    queries: Points, answers: Float[np.ndarray, "m d"], cells: Cells, pool: Int[np.ndarray, " s"]
) -> Figures:
    low = np.minimum(queries.min(axis=0), answers.min(axis=0))
    high = np.maximum(queries.max(axis=0), answers.max(axis=0))
    span = np.where(_are_constant(low, high), np.inf, high - low)
    scaled, right = (queries - low) / span, (answers[cells.column] - low) / span
    centroids, (first, second) = cells.means(scaled), cells.pairs()
    random = pdist(scaled[pool]).mean() if len(pool) > 1 else 0.0
    distances = {
        "centroid_distance": _mean_of_means(
            lengths(centroids[first] - centroids[second]), cells.answer[first]
        ),
        "answer_distance": _mean_of_means(lengths(scaled[cells.row] - right), cells.row),
    }
    relative = {
        f"{name}_relative": value / random if value is not None and random else None
        for name, value in distances.items()
    }
    return distances | relative


def type_auc(points: Points, kinds: Groups, threads: Sequence[str], *, seed: int) -> float | None:
    """Mean area under the ROC curve of a logistic regression over folds that keep threads whole.

    With more than two types, the mean over types of one against the rest. None if there is one
    type, a type has fewer than five threads, or a fold lacks a type.
    """
    # Here, since it takes a second, and nothing else of measuring and ranking needs it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    thread = np.unique(threads, return_inverse=True)[1]
    threads_per_kind = np.bincount(np.unique(np.stack([kinds, thread]), axis=1)[0])
    count = len(threads_per_kind)
    if count < 2 or threads_per_kind.min() < FOLDS:
        return None
    areas = []
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(points, kinds, thread):
        if any(len(np.unique(kinds[part])) < count for part in (train, test)):
            return None
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        chances = probe.fit(points[train], kinds[train]).predict_proba(points[test])
        targets = [1] if count == 2 else range(count)
        areas.append([roc_auc_score(kinds[test] == kind, chances[:, kind]) for kind in targets])
    return float(np.mean(areas))


def _share_between(points: Points, groups: Groups) -> float | None:
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    n, g = len(points), len(counts)
    if not 1 < g < n or not (moved := _centre(points)).any():
        return None
    sums = sparse.csr_array((np.ones(n), (group, np.arange(n))), shape=(g, n)) @ moved
    left = moved - (sums / counts[:, None])[group]
    return float(1 - (left**2).sum() / (moved**2).sum() * (n - 1) / (n - g))


def _mean_of_means(values: Float[np.ndarray, " n"], groups: Groups) -> float | None:
    """Average over groups the mean of each; None without values."""
    frame = pl.DataFrame({"group": groups, "value": values})
    means = frame.group_by("group", maintain_order=True).mean()["value"].to_numpy()
    return float(means.mean()) if len(means) else None


def centroid_view(ranker: Ranker, dataset: Dataset, *, split: str = "test") -> View:
    """Find the plane of the centroids of each answer's queries of each type.

    Where there is no spread, x and y are 0.

    Raises:
        DataError, RankerError: as `geometry`.
    """
    queries, points, _ = read_vectors(ranker, dataset, split)
    points = _level_constant(points)
    points = points - points[0]  # equal vectors are exactly zero then, and their means too
    cells = Cells.from_labels(queries.labels, queries.frame["type"].to_list())
    centroids = cells.means(points)
    off_centroid = lengths(points[cells.row] - centroids[cells.owner])
    order = np.lexsort((off_centroid, cells.owner))
    nearest = cells.row[order[np.unique(cells.owner[order], return_index=True)[1]]]
    planes, shares = main_axes(centroids, 2, centroids, points)
    answers = ranker.answers.select("title", answer="id")[cells.answer]
    groups = answers.hstack(queries.frame[nearest].select("type", "text"))
    groups = groups.with_columns(queries=pl.Series(cells.counts))
    frames = [
        frame.with_columns(x=pl.Series(plane[:, 0]), y=pl.Series(plane[:, 1]))
        for frame, plane in zip((groups, queries.frame.select("type", "text")), planes, strict=True)
    ]
    return View(frames[0], frames[1], (float(shares[0]), float(shares[1])))


def read_vectors(
    ranker: Ranker, dataset: Dataset, split: str
) -> tuple[Queries, Points, Float[np.ndarray, "m d"]]:
    """Give a split's queries, labels in the ranker's columns, and the vectors of both sides.

    An answer of several passages lies at their mean.
    """
    dense = ranker.dense
    if dense is None:
        raise RankerError(
            f"{ranker.recipe.name} ranks by words and has no space to measure; "
            "take a recipe with an encoder, such as zero-shot"
        )
    queries = dataset.split(split)
    queries = replace(queries, labels=align_labels(ranker, dataset, queries))
    features = dense.reader(queries.texts, progress="Encoding queries")
    return queries, dense.towers.project_queries(features).astype(np.float64), dense.centres()


def unit_vectors(points: Points) -> Points:
    """Scale points to length one; zero stays zero."""
    norms = lengths(points)[:, None]
    return points / np.where(norms > 0, norms, 1)


def lengths(points: Points) -> Float[np.ndarray, " n"]:
    """Compute the Euclidean length of each row."""
    return np.asarray(np.linalg.norm(points, axis=1))


def main_axes(
    fitted: Float[np.ndarray, "_ d"], size: int, *others: Float[np.ndarray, "_ d"]
) -> tuple[list[Float[np.ndarray, "_ size"]], Float[np.ndarray, " size"]]:
    """Project others on the main axes of fitted points (PCA); give the variance share of each axis.

    Axes that the points do not have are 0.
    """
    coordinates = [np.zeros((len(rows), size)) for rows in others]
    shares = np.zeros(size)
    moved = _centre(fitted)
    if moved.any():
        _, values, axes = np.linalg.svd(moved, full_matrices=False)
        count = min(size, len(values))
        largest = np.abs(axes).argmax(axis=1)
        axes *= np.sign(axes[np.arange(len(axes)), largest])[:, None]  # one sign, whatever LAPACK
        shares[:count] = values[:count] ** 2 / (values**2).sum()
        for table, rows in zip(coordinates, others, strict=True):
            table[:, :count] = (rows - fitted.mean(axis=0)) @ axes[:count].T
    return coordinates, shares


def _are_constant(
    low: Float[np.ndarray, " d"], high: Float[np.ndarray, " d"]
) -> Bool[np.ndarray, " d"]:
    """Find features that are constant but for rounding, from their lowest and highest values."""
    return np.asarray(high - low <= ROUNDING * max(abs(low).max(), abs(high).max()))


def _level_constant(points: Points) -> Points:
    """Make constant what is constant but for rounding."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.where(_are_constant(low, high), low, points)


def _centre(points: Points) -> Points:
    """Move points about their mean; equal vectors come out exactly zero."""
    moved = points - points[0]
    return np.asarray(moved - moved.mean(axis=0))
