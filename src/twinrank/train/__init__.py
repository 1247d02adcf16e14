"""Objectives, pairing, pre-training, and the fitting of towers on stored features."""

from twinrank.train.checkpoint import Checkpoint
from twinrank.train.fit import Examples, fit_towers
from twinrank.train.loop import Record
from twinrank.train.objectives import barlow_twins, cross_entropy
from twinrank.train.pairing import Groups, Pairs
from twinrank.train.pretrain import Sightings, groups_of, pretrain
from twinrank.train.temperature import fit_scale

__all__ = [
    "Checkpoint",
    "Examples",
    "Groups",
    "Pairs",
    "Record",
    "Sightings",
    "barlow_twins",
    "cross_entropy",
    "fit_scale",
    "fit_towers",
    "groups_of",
    "pretrain",
]
