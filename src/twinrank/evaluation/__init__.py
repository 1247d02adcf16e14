"""Metrics, uncertainty and comparison."""

from twinrank.evaluation.evaluation import Evaluation, by_type, evaluate, means, measure, summarise
from twinrank.evaluation.metrics import METRICS, per_query

__all__ = [
    "METRICS",
    "Evaluation",
    "by_type",
    "evaluate",
    "means",
    "measure",
    "per_query",
    "summarise",
]
