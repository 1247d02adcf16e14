"""Metrics, uncertainty, comparison, and the geometry of a ranker's space."""

from twinrank.evaluation.confidence import Calibration, expected_calibration_error
from twinrank.evaluation.evaluation import Evaluation, by_type, evaluate, means, measure, summarise
from twinrank.evaluation.geometry import Geometry, geometry
from twinrank.evaluation.metrics import METRICS, per_query
from twinrank.evaluation.significance import Difference, differences, holm
from twinrank.evaluation.views import View, centroid_views

__all__ = [
    "METRICS",
    "Calibration",
    "Difference",
    "Evaluation",
    "Geometry",
    "View",
    "by_type",
    "centroid_views",
    "differences",
    "evaluate",
    "expected_calibration_error",
    "geometry",
    "holm",
    "means",
    "measure",
    "per_query",
    "summarise",
]
