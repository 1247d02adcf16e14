"""The course of any training: epoch after epoch, measured, checkpointed, the best one kept."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from twinrank.model.towers import Towers
from twinrank.recipe import PretrainingSettings, TrainingSettings
from twinrank.train.checkpoint import Checkpoint, optimizer_state, restore_optimizer
from twinrank.train.index import Index

Record = dict[str, Any]
Validate = Callable[[Towers], Mapping[str, Any]]
OnEpoch = Callable[[Checkpoint], None]


class Stepper:
    """AdamW with clipped gradients on all that is trained of some towers."""

    def __init__(self, towers: Towers, settings: TrainingSettings | PretrainingSettings) -> None:
        scalars = [towers.log_scale, *(towers.memory.parameters() if towers.memory else ())]
        of_scalars = {id(parameter) for parameter in scalars}
        weights = [p for p in towers.parameters() if id(p) not in of_scalars]
        groups = [
            {"params": weights, "weight_decay": settings.weight_decay},
            {"params": scalars, "weight_decay": 0.0},  # which would pull them to no meaning
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        self._parameters = [*weights, *scalars]
        self._clip = settings.clip

    def step(self, loss: Tensor) -> None:
        """Go one step down a loss."""
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self._parameters, self._clip)
        self.optimizer.step()


def run_epochs(
    towers: Towers,
    stepper: Stepper,
    one_pass: Callable[[int, list[Record]], Record],
    validate: Validate,
    *,
    finished: Callable[[list[Record]], bool],
    keep: Callable[[list[Record]], bool],
    index: Index | None,
    seed: int,
    saved: Checkpoint | None,
    on_epoch: OnEpoch,
) -> list[Record]:
    """Train towers in place; leave them in eval mode, as they were after the epoch to keep.

    Args:
        towers: trained by `one_pass`, through `stepper`.
        stepper: its optimiser is part of a checkpoint.
        one_pass: trains for the epoch of a number, from 1 on, given the records of those before
            it, and tells what to record.
        validate: measures towers in eval mode, before training and after each epoch.
        finished: whether the records so far are all.
        keep: whether the epoch just recorded is the one to keep.
        index: goes into checkpoints too.
        seed: every epoch seeds itself with it, so that going on needs no generator state.
        saved: where an earlier call stood.
        on_epoch: called with where training stands before it and after each epoch.

    Returns:
        A record an epoch, from before training (epoch 0) on.
    """

    def now() -> Checkpoint:
        held = index.state() if index else {}
        moments = optimizer_state(stepper.optimizer)
        return Checkpoint(towers.state_dict(), best, moments, held, list(history))

    if saved:
        history, best = list(saved.history), saved.best
        towers.load_state_dict(saved.towers)
        restore_optimizer(stepper.optimizer, saved.optimizer)
        if index:
            index.load_state(saved.index)
    else:
        history, best = [_record(0, towers, validate, {"train_loss": None}, 0.0)], {}
        on_epoch(now())
    while not finished(history):
        epoch = len(history)
        torch.manual_seed(1_000_003 * seed + epoch)
        towers.train()
        started = time.perf_counter()
        told = one_pass(epoch, history)
        seconds = time.perf_counter() - started
        history.append(_record(epoch, towers, validate, told, seconds))
        if keep(history):
            best = copy.deepcopy(towers.state_dict())
        on_epoch(now())
    towers.load_state_dict(best)
    towers.eval()
    return history


def _record(epoch: int, towers: Towers, validate: Validate, told: Record, seconds: float) -> Record:
    towers.eval()
    with torch.inference_mode():
        measured = validate(towers)
    scale = towers.scale.item()
    return {"epoch": epoch, **told, "seconds": round(seconds, 4), "scale": scale, **measured}
