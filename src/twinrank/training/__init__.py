"""Training: towers and encoders, from a recipe and a data set to a ranker."""

from twinrank.training.bootstrap import Bootstrapped, LanguageModel, bootstrap
from twinrank.training.distributed import is_main
from twinrank.training.loop import Record, read_records, since_best
from twinrank.training.pretraining import check_pairs, count_batches
from twinrank.training.trackers import check_tracker, tracking
from twinrank.training.train import train
from twinrank.training.training_data import TrainingData, build_reader

__all__ = [
    "Bootstrapped",
    "LanguageModel",
    "Record",
    "TrainingData",
    "bootstrap",
    "build_reader",
    "check_pairs",
    "check_tracker",
    "count_batches",
    "is_main",
    "read_records",
    "since_best",
    "tracking",
    "train",
]
