"""Training: towers and encoders, from a recipe and a data set to a ranker."""

from twinrank.training.calibration import fit_confidence, fit_scale, fit_weights
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.distributed import ProcessLostError, is_main
from twinrank.training.encoder_tuning import EncoderTrainer, TokenizedTexts, TunedEncoder
from twinrank.training.loop import OnEpoch, Record, Trainer, read_records, since_best
from twinrank.training.losses import barlow_twins, cross_entropy
from twinrank.training.pretraining import Groups, PairedQueries, Pretrainer, check_pairs
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
    "ProcessLostError",
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
    "cross_entropy",
    "fit_confidence",
    "fit_scale",
    "fit_weights",
    "is_main",
    "read_records",
    "since_best",
    "tracking",
    "train",
]
