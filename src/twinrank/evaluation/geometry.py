"""The geometry of a ranker's space on a split: what lies near what, and how the space is used.

A figure that is undefined (nothing to compare, no spread) is None. What counts as constant or as
without direction: see `space.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.spatial.distance import pdist

from twinrank.data import Dataset
from twinrank.evaluation.space import (
    Points,
    cells_of,
    centred,
    flat,
    lengths,
    placed,
    snapped,
    unit_vectors,
)
from twinrank.ranking import Ranker

SAMPLE = 2000  # vectors of which all pairs are taken
FOLDS = 5

Groups = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Geometry:
    """What a ranker's space looks like on one split; see `measure_space` for the figures.

    Attributes:
        data, split: the queries measured.
        dim, queries, answers: d, n and m.
        paired: answers with queries of two types or more, which `centroid_distance` is over.
        figures: by name, as `measure_space` gives them.
    """

    data: str
    split: str
    dim: int
    queries: int
    answers: int
    paired: int
    figures: dict[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, the figures beside the rest."""
        plain = asdict(self)
        figures: dict[str, float | None] = plain.pop("figures")
        return {**plain, **figures}


def geometry(ranker: Ranker, dataset: Dataset, *, split: str = "test") -> Geometry:
    """Measure a ranker's space on one split of a data set.

    Raises:
        DataError: if the split is missing or holds no label.
        RankerError: if the ranker has no space (BM25), does not know all answers, or its vectors
            are not finite.
    """
    queries, points, answers = placed(ranker, dataset, split)
    types, threads = queries.frame["type"].to_list(), queries.frame["thread"].to_list()
    cells = cells_of(queries.labels, types)
    return Geometry(
        data=dataset.name,
        split=split,
        dim=points.shape[1],
        queries=len(points),
        answers=len(answers),
        paired=len(np.unique(cells.answer[cells.pairs()[0]])),
        figures=measure_space(points, answers, queries.labels, types, threads),
    )


def measure_space(
    queries: Float[np.ndarray, "n d"],
    answers: Float[np.ndarray, "m d"],
    labels: sparse.csr_array,
    types: Sequence[str],
    threads: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, float | None]:
    """The figures of a space.

    - `centroid_distance`, of the handover: all vectors scaled to 0..1 feature by feature,
      Euclidean distance between the centroids of an answer's queries of two types; mean over the
      pairs of types of an answer, then over answers.
    - `answer_distance`: in the same space, from a query to its right answers; mean over a query's
      answers, then over queries.
    - `..._relative`: these over the mean distance of two random queries in the same space.
    - `type_auc`: of a logistic regression that tells the type from the vector; mean over five
      folds that keep threads whole, macro one-vs-rest if there are more types than two. None if a
      type has fewer than five threads or a fold lacks one.
    - `alignment` (Wang and Isola 2020, arXiv 2005.10242, alpha = 2): squared distance on the unit
      sphere (0 to 4) from a query to its right answers, mean as above; `type_alignment`: of
      two queries of one answer and different types, mean over all such pairs.
    - `uniformity` (there too, t = 2): log of the mean of exp(-2 squared distance) over pairs of
      queries on the sphere, 0 if all are one point, lower if spread; `answer_uniformity`.
    - `effective_rank` (Roy and Vetterli 2007): exp of the entropy (nats) of the normalised
      singular values of the centred queries; 1 to d.
    - `answer_share`, `type_share`: epsilon squared (Kelley 1935), the share of the queries'
      variance between answers (types) less what chance gives: 0 by chance, 1 at most. Over
      queries with one right answer.

    Args:
        queries: their vectors.
        answers: their vectors.
        labels: n x m, not 0 where an answer is right.
        types: of the queries (n).
        threads: of the queries (n).
        seed: of the folds, and of the 2000 queries or answers drawn where there are more for the
            figures over all pairs.
    """
    queries = snapped(queries.astype(np.float64))
    cells = cells_of(labels, types)
    first, second = cells.pairs()
    row, right = cells.row, answers[cells.column].astype(np.float64)
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(queries))[:SAMPLE]
    some_answers = rng.permutation(len(answers))[:SAMPLE]

    low = np.minimum(queries.min(axis=0), answers.min(axis=0))
    high = np.maximum(queries.max(axis=0), answers.max(axis=0))
    span = np.where(flat(low, high), np.inf, high - low)
    scaled = (queries - low) / span
    centroids = cells.means(scaled)
    between = lengths(centroids[first] - centroids[second])
    centroid_distance = _mean_of_means(between, cells.answer[first])
    to_answer = lengths(scaled[row] - (right - low) / span)
    answer_distance = _mean_of_means(to_answer, row)
    random = pdist(scaled[some]).mean() if len(some) > 1 else 0.0

    unit = unit_vectors(queries)
    to_right = lengths(unit[row] - unit_vectors(right)) ** 2
    centroids = cells.means(unit)
    within = np.bincount(
        cells.owner, lengths(unit[row] - centroids[cells.owner]) ** 2, len(cells.counts)
    )
    # The mean over pairs from two clouds: what their means are apart, and their own variances.
    variance = within / cells.counts
    apart = lengths(centroids[first] - centroids[second]) ** 2 + variance[first] + variance[second]
    weight = cells.counts[first] * cells.counts[second]

    alone = np.flatnonzero(np.bincount(row, minlength=len(queries)) == 1)
    answer_of = np.zeros(len(queries), dtype=np.int64)
    answer_of[row] = cells.column
    kinds = np.unique(np.asarray(types, dtype=str), return_inverse=True)[1]
    return {
        "centroid_distance": centroid_distance,
        "centroid_distance_relative": _over(centroid_distance, random),
        "answer_distance": answer_distance,
        "answer_distance_relative": _over(answer_distance, random),
        "type_auc": _probe(queries, kinds, threads, seed),
        "alignment": _mean_of_means(to_right, row),
        "type_alignment": float(np.average(apart, weights=weight)) if len(apart) else None,
        "uniformity": _uniformity(unit[some]),
        "answer_uniformity": _uniformity(unit_vectors(answers[some_answers].astype(np.float64))),
        "effective_rank": _effective_rank(queries),
        "answer_share": _share_between(queries[alone], answer_of[alone]),
        "type_share": _share_between(queries[alone], kinds[alone]),
    }


def _probe(
    points: Points,
    kinds: Groups,
    threads: Sequence[str],
    seed: int,
) -> float | None:
    from sklearn.exceptions import ConvergenceWarning  # all slow to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    own = np.unique(np.stack([kinds, np.unique(threads, return_inverse=True)[1]]), axis=1)[0]
    several = np.bincount(own)
    if len(several) < 2 or several.min() < FOLDS:
        return None
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    figures = []
    for train, test in folds.split(points, kinds, threads):
        if any(len(np.unique(kinds[part])) < len(several) for part in (train, test)):
            return None
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        with warnings.catch_warnings():  # what is nearly converged ranks as well
            warnings.simplefilter("ignore", ConvergenceWarning)
            chances = probe.fit(points[train], kinds[train]).predict_proba(points[test])
        one = chances[:, 1] if len(several) == 2 else chances
        figures.append(roc_auc_score(kinds[test], one, multi_class="ovr"))
    return float(np.mean(figures))


def _effective_rank(points: Points) -> float | None:
    values = np.linalg.svd(centred(points), compute_uv=False)
    if not values.any():
        return None
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _share_between(points: Points, groups: Groups) -> float | None:
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    n, g = len(points), len(counts)
    if not 1 < g < n or not (moved := centred(points)).any():
        return None
    sums = sparse.csr_array((np.ones(n), (group, np.arange(n))), shape=(g, n)) @ moved
    left = moved - (sums / counts[:, None])[group]
    return float(1 - (left**2).sum() / (moved**2).sum() * (n - 1) / (n - g))


def _uniformity(unit: Points) -> float | None:
    if len(unit) < 2:
        return None
    return float(np.log(np.exp(-2 * pdist(unit, "sqeuclidean")).mean()))


def _mean_of_means(values: Float[np.ndarray, " n"], groups: Groups) -> float | None:
    """The mean over groups of the mean within each."""
    if not len(values):
        return None
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return float((values / counts[group]).sum() / len(counts))


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None or not unit else float(value / unit)
