"""How well a ranker knows whether its first answer is right, and what silence would gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

BINS = 15  # of equal width, as in Guo et al. (2017)
THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.8)

Confidences = Float[np.ndarray, " n"]
Hits = Bool[np.ndarray, " n"]  # whether the first answer is right


@dataclass(frozen=True)
class Point:
    """What is left if a ranker is silent below `min_confidence`.

    `coverage` is the share of the queries that are answered; `accuracy` is their accuracy@1, None
    where no query is answered.
    """

    min_confidence: float
    coverage: float
    accuracy: float | None


@dataclass(frozen=True)
class Bin:
    """The queries of similar confidence: one mark of a reliability diagram.

    `confidence` and `accuracy` (at 1) are means over the queries; `interval` is Wilson's 95%
    interval of the accuracy.
    """

    queries: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error, and coverage and accuracy at each of `THRESHOLDS`."""

    error: float
    curve: tuple[Point, ...]


def measure_calibration(confidence: Confidences, right: Hits) -> Calibration:
    """Measure the confidences of n queries by whether their first answers are right."""
    points = []
    for threshold in THRESHOLDS:
        answered = confidence >= threshold
        accuracy = float(right[answered].mean()) if answered.any() else None
        points.append(Point(threshold, float(answered.mean()), accuracy))
    return Calibration(expected_calibration_error(confidence, right), tuple(points))


def expected_calibration_error(confidence: Confidences, right: Hits) -> float:
    """Mean of |accuracy - mean confidence| over bins, weighted by their queries (Naeini 2015)."""
    sums = np.bincount(_bin_of(confidence), weights=right - confidence)
    return float(np.abs(sums).sum() / len(confidence))


def reliability(confidence: Confidences, right: Hits) -> tuple[Bin, ...]:
    """Give the bins of `expected_calibration_error` that hold a query, the least sure first."""
    bin_of, marks = _bin_of(confidence), []
    for inside in (bin_of == b for b in np.unique(bin_of)):
        queries, hits = int(inside.sum()), int(right[inside].sum())
        bounds = stats.binomtest(hits, queries).proportion_ci(method="wilson")
        interval = (float(bounds.low), float(bounds.high))
        marks.append(Bin(queries, float(confidence[inside].mean()), hits / queries, interval))
    return tuple(marks)


def _bin_of(confidence: Confidences) -> Int[np.ndarray, " n"]:
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
