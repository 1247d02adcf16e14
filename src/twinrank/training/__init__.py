"""Training: losses, pairing, pre-training, and towers fitted on stored features."""

from twinrank.training.calibration import fit_confidence, fit_scale, fit_weights
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.loop import OnEpoch, Record, Validate, since_best
from twinrank.training.losses import barlow_twins, cross_entropy
from twinrank.training.pairing import Groups, Pairs
from twinrank.training.pretraining import Sightings, groups_of, pretrain
from twinrank.training.team import Team, TeamLostError, is_main
from twinrank.training.tower_training import Examples, fit_towers
from twinrank.training.trackers import check_tracker, tracking
from twinrank.training.train import fit
from twinrank.training.tuning_loop import Course, Tokens, Tuned, WholeIndex, tune

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
    "check_tracker",
    "cross_entropy",
    "fit",
    "fit_confidence",
    "fit_scale",
    "fit_towers",
    "fit_weights",
    "groups_of",
    "is_main",
    "pretrain",
    "since_best",
    "tracking",
    "tune",
]
