"""Training: towers and encoders, from a recipe and a data set to a ranker."""

from twinrank.extras import check_installed

check_installed("trainings", "train", "torch", "transformers")

from twinrank.training.bootstrap import Bootstrapped, LanguageModel, bootstrap  # noqa: E402
from twinrank.training.distributed import is_main  # noqa: E402
from twinrank.training.loop import Record, read_records, since_best  # noqa: E402
from twinrank.training.pretraining import check_pairs, count_batches  # noqa: E402
from twinrank.training.trackers import check_tracker, tracking  # noqa: E402
from twinrank.training.train import train  # noqa: E402
from twinrank.training.training_data import TrainingData, build_reader  # noqa: E402

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
