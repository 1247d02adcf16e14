"""Runs of recipes, and comparisons of runs."""

from twinrank.experiment.compare import Comparison, Entry, compare
from twinrank.experiment.run import fit

__all__ = ["Comparison", "Entry", "compare", "fit"]
