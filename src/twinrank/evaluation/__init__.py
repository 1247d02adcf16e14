"""Metrics, uncertainty, comparison, and the geometry of a ranker's space."""

from twinrank.evaluation.collapse import Signs, signs_of_collapse
from twinrank.evaluation.evaluate import (
    Evaluation,
    by_type,
    evaluate,
    evaluate_run,
    means,
    measure,
    summarise,
)
from twinrank.evaluation.geometry import Geometry, View, centroid_views, geometry
from twinrank.evaluation.metrics import METRICS, PUBLISHED_METRICS, per_query
from twinrank.evaluation.mistakes import Mistakes, mistakes
from twinrank.evaluation.reliability import reliability
from twinrank.evaluation.significance import Difference, differences, holm

__all__ = [
    "METRICS",
    "PUBLISHED_METRICS",
    "Difference",
    "Evaluation",
    "Geometry",
    "Mistakes",
    "Signs",
    "View",
    "by_type",
    "centroid_views",
    "differences",
    "evaluate",
    "evaluate_run",
    "geometry",
    "holm",
    "means",
    "measure",
    "mistakes",
    "per_query",
    "reliability",
    "signs_of_collapse",
    "summarise",
]
