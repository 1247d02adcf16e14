"""Objectives and the fitting of towers on stored features."""

from twinrank.train.checkpoint import Checkpoint
from twinrank.train.fit import Examples, fit_towers
from twinrank.train.objectives import cross_entropy
from twinrank.train.temperature import fit_scale

__all__ = ["Checkpoint", "Examples", "cross_entropy", "fit_scale", "fit_towers"]
