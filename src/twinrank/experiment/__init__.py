"""Runs of recipes, comparisons of runs, and studies that explain them."""

from twinrank.experiment.compare import Comparison, Entry, compare
from twinrank.experiment.examine import Examination, Run, examine
from twinrank.experiment.gate import Compared
from twinrank.experiment.learn import Learning, learn, roll_back
from twinrank.experiment.plans import Plan, study_named
from twinrank.experiment.results import results
from twinrank.experiment.run import fit
from twinrank.experiment.study import Study, run_study
from twinrank.experiment.tracking import check_tracker, tracking

__all__ = [
    "Compared",
    "Comparison",
    "Entry",
    "Examination",
    "Learning",
    "Plan",
    "Run",
    "Study",
    "check_tracker",
    "compare",
    "examine",
    "fit",
    "learn",
    "results",
    "roll_back",
    "run_study",
    "study_named",
    "tracking",
]
