"""How well a ranker knows whether its first answer is right, and what silence would gain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy import stats

BINS = 15
THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Point:
    """What is left if a ranker is silent below a confidence.

    Attributes:
        min_confidence: the least that is answered.
        coverage: share of the queries that are.
        accuracy: their accuracy@1; none where no query is.
    """

    min_confidence: float
    coverage: float
    accuracy: float | None


@dataclass(frozen=True)
class Bin:
    """The queries whose first answer is about as sure: a mark of a reliability diagram.

    Attributes:
        queries: how many.
        confidence: their mean confidence.
        accuracy: their accuracy@1.
        interval: of the accuracy, 95 % by Wilson's score.
    """

    queries: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """A ranker's confidence, measured on some queries.

    Attributes:
        error: expected calibration error, see `expected_calibration_error`.
        curve: coverage and accuracy at each of `THRESHOLDS`.
    """

    error: float
    curve: tuple[Point, ...]

    @classmethod
    def of(cls, confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> Calibration:
        """Measure the confidences of n queries by which first answers were right."""

        def points() -> Iterator[Point]:
            for least in THRESHOLDS:
                kept = confidence >= least
                accuracy = float(right[kept].mean()) if kept.any() else None
                yield Point(least, float(kept.mean()), accuracy)

        return cls(expected_calibration_error(confidence, right), tuple(points()))


def expected_calibration_error(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], *, bins: int = BINS
) -> float:
    """Mean of |accuracy - mean confidence| over equally wide bins, by their queries.

    Naeini et al. (2015), with the 15 bins of Guo et al. (2017).
    """
    off = np.bincount(_bin_of(confidence, bins), weights=right - confidence, minlength=bins)
    return float(np.abs(off).sum() / len(confidence))


def reliability(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], *, bins: int = BINS
) -> tuple[Bin, ...]:
    """The bins of `expected_calibration_error` that hold a query, the least sure first."""
    place = _bin_of(confidence, bins)

    def found() -> Iterator[Bin]:
        for inside in (place == b for b in np.unique(place)):
            queries, hits = int(inside.sum()), int(right[inside].sum())
            around = stats.binomtest(hits, queries).proportion_ci(method="wilson")
            mean = float(confidence[inside].mean())
            yield Bin(queries, mean, hits / queries, (float(around.low), float(around.high)))

    return tuple(found())


def coverage_curve(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> tuple[Point, ...]:
    """A point at each confidence that occurs: what is left if it is the least, all of it first."""
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    kept = last + 1
    accuracy = np.cumsum(right[order])[last] / kept
    points = zip(falling[last], kept / len(order), accuracy, strict=True)
    return tuple(Point(*map(float, point)) for point in points)[::-1]


def _bin_of(confidence: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " n"]:
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def calibrations(rows: pl.DataFrame) -> dict[str, Calibration]:
    """Overall, and of each query type; rows with `type`, `confidence` and `accuracy@1`."""
    parts = {"overall": rows, **{str(k): p for (k,), p in sorted(rows.group_by("type"))}}
    return {
        name: Calibration.of(part["confidence"].to_numpy(), part["accuracy@1"].to_numpy() > 0)
        for name, part in parts.items()
    }


def plain(found: dict[str, Calibration]) -> dict[str, Any]:
    """JSON values."""
    return {
        name: {"error": calibration.error, "curve": [asdict(point) for point in calibration.curve]}
        for name, calibration in found.items()
    }
