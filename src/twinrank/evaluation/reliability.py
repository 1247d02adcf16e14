"""How well a ranker knows whether its first answer is right; what silence or a question gains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

BINS = 15  # of equal width, as in Guo et al. (2017)
THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.8)
ASK_THRESHOLDS = (0.3, 0.5, 0.7)

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
class AskPoint:
    """What a question back is worth, if it is asked where the first answer is less likely right.

    Attributes:
        ask_below: that probability.
        share: of the queries that are asked back.
        first: accuracy@1 of these.
        among: how often a right answer is among the options.
        others_first: accuracy@1 of the queries that are not asked back.
        others_top_3: how often one of their first three answers is right.
    """

    ask_below: float
    share: float
    first: float | None
    among: float | None
    others_first: float | None
    others_top_3: float | None


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error; a point at each of `THRESHOLDS`, and of `ASK_THRESHOLDS`."""

    error: float
    curve: list[Point]
    asking: list[AskPoint]


def measure_calibration(rows: pl.DataFrame) -> Calibration:
    """Measure confidences by whether first answers, or options, are right.

    Args:
        rows: of an evaluation, with `confidence` and `among_options`.
    """
    confidence, right = rows["confidence"].to_numpy(), rows["accuracy@1"].to_numpy() > 0
    points = []
    for threshold in THRESHOLDS:
        answered = confidence >= threshold
        accuracy = float(right[answered].mean()) if answered.any() else None
        points.append(Point(threshold, float(answered.mean()), accuracy))
    asking = [_measure_asking(rows, threshold) for threshold in ASK_THRESHOLDS]
    return Calibration(expected_calibration_error(confidence, right), points, asking)


def _measure_asking(rows: pl.DataFrame, ask_below: float) -> AskPoint:
    is_asked = (pl.col("confidence") < ask_below) & pl.col("among_options").is_not_null()
    asked, others = rows.filter(is_asked), rows.filter(~is_asked)
    figures = [asked["accuracy@1"], asked["among_options"].cast(pl.Float64)]
    figures += [others["accuracy@1"], others["accuracy@3"]]
    means = [None if column.is_empty() else float(np.mean(column.to_numpy())) for column in figures]
    return AskPoint(ask_below, asked.height / rows.height, *means)


def expected_calibration_error(confidence: Confidences, right: Hits) -> float:
    """Mean of |accuracy - mean confidence| over bins, weighted by their queries (Naeini 2015)."""
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    sums = np.bincount(bins, weights=right - confidence)
    return float(np.abs(sums).sum() / len(confidence))
