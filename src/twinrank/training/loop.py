"""The course of any training: epoch after epoch, measured, checkpointed, the best one kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_

from twinrank.errors import DivergedError
from twinrank.recipe import Keep, PretrainingSettings, TrainingSettings, TuningSettings
from twinrank.training.arithmetic import AdamW
from twinrank.training.checkpoint import Checkpoint, State, optimizer_state, restore_optimizer
from twinrank.training.index import Index
from twinrank.training.team import Team
from twinrank.training.tower_modules import Towers

Record = dict[str, Any]
Validate = Callable[[Towers], Mapping[str, Any]]
OnEpoch = Callable[[Checkpoint], None]
TABLES = {
    TrainingSettings: "training",
    PretrainingSettings: "pretraining",
    TuningSettings: "tuning",
}


class Stepper:
    """AdamW with clipped gradients.

    Args:
        weights: parameters that decay.
        scalars: those that do not: decay would pull them to no meaning.
        settings: rate, decay and the norm to clip at.
        scalar_rate: learning rate of `scalars`, if it is another.
        shared: called with all parameters between a gradient and its step, where several
            processes each have a part of it.
    """

    def __init__(
        self,
        weights: Iterable[Parameter],
        scalars: Iterable[Parameter],
        settings: TrainingSettings | PretrainingSettings | TuningSettings,
        *,
        scalar_rate: float | None = None,
        shared: Callable[[], None] = lambda: None,
    ) -> None:
        weights, scalars = list(weights), list(scalars)
        rates = (settings.learning_rate, scalar_rate or settings.learning_rate)
        decays = (settings.weight_decay, 0.0)
        groups = [
            {"params": parameters, "lr": rate, "rate": rate, "weight_decay": decay}
            for parameters, rate, decay in zip((weights, scalars), rates, decays, strict=True)
        ]
        self.optimizer = AdamW(groups, fused=True)
        self.rate = f"{TABLES[type(settings)]}.learning_rate = {settings.learning_rate:g}"
        self._parameters = [*weights, *scalars]
        self._clip = settings.clip
        self._shared = shared

    def step(self, loss: Tensor, *, share: float = 1.0) -> None:
        """Go one step down a loss, at a share of the learning rates."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["rate"]
        self.optimizer.zero_grad()
        loss.backward()
        self._shared()
        clip_grad_norm_(self._parameters, self._clip)
        self.optimizer.step()


def stepper_of(
    towers: Towers,
    settings: TrainingSettings | PretrainingSettings,
    team: Team | None = None,
) -> Stepper:
    """Trains all that is trained of some towers, alone or in a team that shares their rows."""
    scalars = [towers.log_scale, *(towers.memory.parameters() if towers.memory else ())]
    of_scalars = {id(parameter) for parameter in scalars}
    weights = [p for p in towers.parameters() if id(p) not in of_scalars]
    # Everyone of a team scores all rows: what comes after the towers has its whole gradient.
    after = [*scalars, *(p for p in weights if p is towers.offsets)]
    in_towers = [p for p in weights if p is not towers.offsets]
    shared = partial((team or Team()).sum_gradients, in_towers, alike=after)
    return Stepper(weights, scalars, settings, shared=shared)


def run_epochs(
    learner: nn.Module,
    stepper: Stepper,
    one_pass: Callable[[int], Record],
    validated: Callable[[], Mapping[str, Any]],
    *,
    finished: Callable[[list[Record]], bool],
    keep: Callable[[list[Record]], bool],
    index: Index | None,
    seed: int,
    saved: Checkpoint | None,
    on_epoch: OnEpoch,
) -> list[Record]:
    """Train a module in place; leave it in eval mode, as it was after the epoch to keep.

    Args:
        learner: trained by `one_pass`, through `stepper`. Its frozen weights are in no
            checkpoint.
        stepper: its optimiser is part of a checkpoint.
        one_pass: trains for the epoch of a number, from 1 on, and tells what to record.
        validated: measures the module in eval mode, before training and after each epoch.
        finished: whether the records so far are all.
        keep: whether the epoch just recorded is the one to keep.
        index: goes into checkpoints too, and which it is into the first record.
        seed: every epoch seeds itself with it, so that going on needs no generator state.
        saved: where an earlier call stood.
        on_epoch: called with where training stands before it and after each epoch.

    Returns:
        A record an epoch, from before training (epoch 0) on.

    Raises:
        DivergedError: if a figure of an epoch is not finite; the epoch is not recorded.
    """

    def now() -> Checkpoint:
        held = index.state() if index else {}
        moments = optimizer_state(stepper.optimizer)
        return Checkpoint(_learned(learner), best, moments, held, list(history))

    if saved:
        history, best = list(saved.history), saved.best
        _check_finite(history[-1], stepper)
        _take(learner, saved.learned)
        restore_optimizer(stepper.optimizer, saved.optimizer)
        if index:
            index.load_state(saved.index)
    else:
        told = {"train_loss": None} | ({"index": index.kind} if index else {})
        history, best = [_record(0, learner, validated, told, 0.0)], {}
        _check_finite(history[0], stepper)
        on_epoch(now())
    while not finished(history):
        epoch = len(history)
        torch.manual_seed(1_000_003 * seed + epoch)
        learner.train()
        started = time.perf_counter()
        told = one_pass(epoch)
        seconds = time.perf_counter() - started
        _check_finite({"epoch": epoch, **told}, stepper)
        history.append(_record(epoch, learner, validated, told, seconds))
        _check_finite(history[-1], stepper)
        if keep(history):
            best = copy.deepcopy(_learned(learner))
        on_epoch(now())
    _take(learner, best)
    learner.eval()
    return history


def since_best(history: list[Record], keep: Keep) -> int:
    """Epochs since the best, by validation.

    Epoch 0 does not compete: untrained projections score all answers alike, at a loss that the
    first epochs, confident and often wrong, exceed while they rank far better.
    """
    costs = [_cost(record, keep) for record in history[1:]]
    return len(costs) - 1 - costs.index(min(costs)) if costs else 0


def _cost(record: Record, keep: Keep) -> float:
    if keep == "loss":
        return float(record["loss"])
    return -min(float(figures["map@10"]) for figures in record["types"].values())


def _learned(module: nn.Module) -> State:
    """Parameters that are trained, and buffers."""
    frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    return {name: t for name, t in module.state_dict().items() if name not in frozen}


def _take(module: nn.Module, learned: State) -> None:
    different = set(_learned(module)) ^ set(learned)
    if different:
        raise RuntimeError(f"{min(different)}: in the checkpoint or in the model, not in both")
    module.load_state_dict(learned, strict=False)


def _record(
    epoch: int,
    learner: nn.Module,
    validated: Callable[[], Mapping[str, Any]],
    told: Record,
    seconds: float,
) -> Record:
    learner.eval()
    with torch.inference_mode():
        measured = validated()
    return {"epoch": epoch, **told, "seconds": round(seconds, 4), **measured}


def _check_finite(record: Record, stepper: Stepper) -> None:
    for name, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise DivergedError(
                f"training diverged in epoch {record['epoch']}: {name} is {value}; lower the "
                f"recipe's {stepper.rate}"
            )


def of_towers(towers: Towers, validate: Validate) -> Callable[[], Mapping[str, Any]]:
    """What is recorded of towers: their scale, and what is validated."""
    return lambda: {"scale": towers.scale.item(), **validate(towers)}
