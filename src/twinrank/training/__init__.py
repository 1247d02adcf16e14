"""Training: towers and encoders, from a recipe and a data set to a ranker."""

from twinrank.training.calibration import fit_confidence, fit_scale, fit_weights
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.distributed import is_main
from twinrank.training.encoder_tuning import EncoderTrainer, TokenizedTexts, TunedEncoder
from twinrank.training.loop import OnEpoch, Record, Trainer, read_records, since_best
from twinrank.training.losses import barlow_twins, cross_entropy, flat_loss
from twinrank.training.pretraining import (
    Groups,
    PairedQueries,
    Pretrainer,
    check_pairs,
    count_batches,
    first_axis,
    warn_of_collapse,
)
from twinrank.training.tower_training import TowerTrainer
from twinrank.training.trackers import check_tracker, tracking
from twinrank.training.train import train
from twinrank.training.training_data import Examples, TrainingData, build_reader

__all__ = [
    "Checkpoint",
    "EncoderTrainer",
    "Examples",
    "Groups",
    "OnEpoch",
    "PairedQueries",
    "Pretrainer",
    "Record",
    "TokenizedTexts",
    "TowerTrainer",
    "Trainer",
    "TrainingData",
    "TunedEncoder",
    "barlow_twins",
    "build_reader",
    "check_pairs",
    "check_tracker",
    "count_batches",
    "cross_entropy",
    "first_axis",
    "fit_confidence",
    "fit_scale",
    "fit_weights",
    "flat_loss",
    "is_main",
    "read_records",
    "since_best",
    "tracking",
    "train",
    "warn_of_collapse",
]
