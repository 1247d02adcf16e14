"""Objectives, pairing, pre-training, and the fitting of towers on stored features."""

from twinrank.train.calibrate import fit_confidence, fit_scale, fit_weights
from twinrank.train.checkpoint import Checkpoint
from twinrank.train.fit import Examples, fit_towers
from twinrank.train.loop import OnEpoch, Record, Validate, since_best
from twinrank.train.objectives import barlow_twins, cross_entropy
from twinrank.train.pairing import Groups, Pairs
from twinrank.train.pretrain import Sightings, groups_of, pretrain
from twinrank.train.team import Team, TeamLostError, is_main
from twinrank.train.tune import Course, Tokens, Tuned, WholeIndex, tune

__all__ = [
    "Checkpoint",
    "Course",
    "Examples",
    "Groups",
    "OnEpoch",
    "Pairs",
    "Record",
    "Sightings",
    "Team",
    "TeamLostError",
    "Tokens",
    "Tuned",
    "Validate",
    "WholeIndex",
    "barlow_twins",
    "cross_entropy",
    "fit_confidence",
    "fit_scale",
    "fit_towers",
    "fit_weights",
    "groups_of",
    "is_main",
    "pretrain",
    "since_best",
    "tune",
]
