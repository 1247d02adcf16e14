"""Comparisons of runs, sweeps, finished runs examined, and the handover's study."""

from twinrank.experiments.compare import Comparison, Examination, Run, compare, examine
from twinrank.experiments.handover_study import run_study

__all__ = [
    "Comparison",
    "Examination",
    "Run",
    "compare",
    "examine",
    "run_study",
]
