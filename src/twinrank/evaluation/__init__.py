"""Metrics, uncertainty, comparison, and the geometry of a ranker's space."""

from twinrank.evaluation.confidence import (
    Bin,
    Calibration,
    Point,
    coverage_curve,
    expected_calibration_error,
    reliability,
)
from twinrank.evaluation.evaluation import Evaluation, by_type, evaluate, means, measure, summarise
from twinrank.evaluation.geometry import Geometry, geometry
from twinrank.evaluation.metrics import METRICS, per_query
from twinrank.evaluation.mistakes import Mistakes, mistakes
from twinrank.evaluation.significance import Difference, differences, holm
from twinrank.evaluation.views import View, centroid_views

__all__ = [
    "METRICS",
    "Bin",
    "Calibration",
    "Difference",
    "Evaluation",
    "Geometry",
    "Mistakes",
    "Point",
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
    "mistakes",
    "per_query",
    "reliability",
    "summarise",
]
