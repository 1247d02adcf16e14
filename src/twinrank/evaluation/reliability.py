"""How well a ranker knows whether its first answer is right, and what silence would gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

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
class Calibration:
    """The expected calibration error, and coverage and accuracy at each of `THRESHOLDS`."""

    error: float
    curve: list[Point]


def measure_calibration(confidence: Confidences, right: Hits) -> Calibration:
    """Measure the confidences of n queries by whether their first answers are right."""
    points = []
    for threshold in THRESHOLDS:
        answered = confidence >= threshold
        accuracy = float(right[answered].mean()) if answered.any() else None
        points.append(Point(threshold, float(answered.mean()), accuracy))
    return Calibration(expected_calibration_error(confidence, right), points)


def expected_calibration_error(confidence: Confidences, right: Hits) -> float:
    """Mean of |accuracy - mean confidence| over bins, weighted by their queries (Naeini 2015)."""
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    sums = np.bincount(bins, weights=right - confidence)
    return float(np.abs(sums).sum() / len(confidence))
