"""How well a ranker knows whether its first answer is right, and what silence would gain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

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
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    off = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(off).sum() / len(confidence))


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
