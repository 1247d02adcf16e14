"""Metrics, uncertainty, comparison, and the geometry of a ranker's space."""

from twinrank.evaluation.collapse import Signs, signs_of_collapse
from twinrank.evaluation.evaluate import (
    Evaluation,
    by_type,
    evaluate,
    means,
    measure,
    summarise,
)
from twinrank.evaluation.geometry import Geometry, View, centroid_views, geometry
from twinrank.evaluation.metrics import METRICS, per_query
from twinrank.evaluation.mistakes import Mistakes, mistakes
from twinrank.evaluation.reliability import (
    coverage_curve,
    expected_calibration_error,
    measure_calibration,
    reliability,
)
from twinrank.evaluation.significance import Difference, differences, holm

__all__ = [
    "METRICS",
    "Difference",
    "Evaluation",
    "Geometry",
    "Mistakes",
    "Signs",
    "View",
    "by_type",
    "centroid_views",
    "coverage_curve",
    "differences",
    "evaluate",
    "expected_calibration_error",
    "geometry",
    "holm",
    "means",
    "measure",
    "measure_calibration",
    "mistakes",
    "per_query",
    "reliability",
    "signs_of_collapse",
    "summarise",
]
