"""Which answers the steps of a training score against, where its recipe leaves that open."""

from __future__ import annotations

import logging
import math

import psutil
import torch
from torch import Tensor

from twinrank.ranking import Passages
from twinrank.recipe import TrainingSettings
from twinrank.training.index import POOL

WORTH = 2.0  # times as fast as an exact epoch a sampled one has to be: the exact loss has no noise
# By `python benchmarks/training_scale.py`, in passages that a step projects and learns from:
RENEWED = 0.6  # a passage that is only projected, as all are where a sampled epoch begins
SEEN = 0.13  # an answer of the pool that is looked through for hard ones
# What an exact step holds, in numbers of four bytes for each feature of each passage, and for each
# query of the batch and each passage:
HELD = 7

log = logging.getLogger(__name__)


def index_of(settings: TrainingSettings, answers: Passages[Tensor], queries: int) -> str:
    """The index that settings ask for; for `auto` the exact one, unless a sample costs far less.

    It does where a sampled epoch is `WORTH` times as fast, or where an exact step would need more
    memory than there is now.

    Args:
        settings: of the training.
        answers: features of their passages, on the device of the training.
        queries: of an epoch.
    """
    if settings.index != "auto":
        return settings.index
    rows = answers.rows
    times = saved_by_sampling(settings, answers.answers, len(rows), queries)
    needed = 4 * HELD * len(rows) * (rows.shape[1] + settings.batch_size)
    if times < WORTH and needed < _free(rows.device):
        return "exact"
    told = "%d answers: steps score against a sample; all would take %.1f GB, %.1f times as long"
    log.info(told, answers.answers, needed / 1e9, times)
    return "sampled"


def saved_by_sampling(
    settings: TrainingSettings, answers: int, passages: int, queries: int
) -> float:
    """How many times as long an epoch takes that is exact, beside a sampled one, about."""
    share = min(1.0, (settings.batch_size + settings.answer_sample) / answers)
    steps = math.ceil(queries / settings.batch_size)
    pool = min(answers, POOL * settings.answer_sample)
    return passages / (share * passages + SEEN * pool + RENEWED * passages / steps)


def _free(device: torch.device) -> int:
    """Bytes that a training may still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
