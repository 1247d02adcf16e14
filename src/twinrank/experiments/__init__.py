"""Comparisons of runs, sweeps, finished runs examined, and the handover's study."""

from twinrank.experiments.compare import (
    Comparison,
    Entry,
    Examination,
    Run,
    compare,
    examine,
)
from twinrank.experiments.handover_study import Plan, Study, find_plan, run_study

__all__ = [
    "Comparison",
    "Entry",
    "Examination",
    "Plan",
    "Run",
    "Study",
    "compare",
    "examine",
    "find_plan",
    "run_study",
]
