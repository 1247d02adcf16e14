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
from twinrank.evaluation.geometry import Geometry, View, centroid_view, geometry
from twinrank.evaluation.metrics import METRICS
from twinrank.evaluation.mistakes import Mistakes, mistakes
from twinrank.evaluation.significance import TESTED, Difference, compare_pairs, differences, holm

__all__ = [
    "METRICS",
    "TESTED",
    "Difference",
    "Evaluation",
    "Geometry",
    "Mistakes",
    "Signs",
    "View",
    "by_type",
    "centroid_view",
    "compare_pairs",
    "differences",
    "evaluate",
    "evaluate_run",
    "geometry",
    "holm",
    "means",
    "measure",
    "mistakes",
    "signs_of_collapse",
    "summarise",
]
