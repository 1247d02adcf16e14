"""Metrics, uncertainty and comparison."""

from twinrank.evaluate.evaluation import Evaluation, by_type, evaluate, means, measure, summarise
from twinrank.evaluate.metrics import METRICS, per_query

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
