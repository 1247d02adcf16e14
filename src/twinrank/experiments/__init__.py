"""Comparisons of runs, sweeps, and studies that explain them."""

from twinrank.experiments.compare import Comparison, Entry, compare
from twinrank.experiments.examine import Examination, Run, examine
from twinrank.experiments.plans import Plan, study_named
from twinrank.experiments.results import results
from twinrank.experiments.study import Study, run_study

__all__ = [
    "Comparison",
    "Entry",
    "Examination",
    "Plan",
    "Run",
    "Study",
    "compare",
    "examine",
    "results",
    "run_study",
    "study_named",
]
