"""The loop of every training: epoch after epoch, measured, checkpointed, the best one kept."""

from __future__ import annotations

import copy
import inspect
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import DivergedError
from twinrank.files import failures_of, write_file
from twinrank.progress import progress_bar
from twinrank.ranking import Origin
from twinrank.recipe import Keep, PretrainingSettings, Recipe, TrainingSettings, TuningSettings
from twinrank.training.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    State,
    flatten_optimizer_state,
    restore_optimizer,
)
from twinrank.training.distributed import average_gradients, from_main, is_main
from twinrank.training.negatives import ExactIndex
from twinrank.training.tower_modules import Towers

METRICS_FILE = "metrics.jsonl"
FIGURES_IN_BAR = {"barlow_loss": "Barlow loss", "loss": "validation loss", "map@10": "MAP@10"}

Settings = TrainingSettings | PretrainingSettings | TuningSettings
Record = dict[str, Any]
Validate = Callable[[Towers], Mapping[str, Any]]
OnEpoch = Callable[[Checkpoint], None]
OnRecord = Callable[[Record], None]


class AdamW(torch.optim.AdamW):
    """torch's, called past the wrappers that import its compiler, which takes two seconds."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)


class Trainer(ABC):
    """Trains a module in place by AdamW, and leaves it in eval mode as after its best epoch.

    Every epoch seeds itself, so that going on needs no generator state.

    Args:
        module: weights of it that are frozen are in no checkpoint.
        settings: learning rate, decay and the norm of the gradient to clip at, among others.
        weights: parameters that decay.
        scalars: parameters that do not, as decay would pull them to a value without meaning.
        seed: decides everything random.
        epochs: at most as many.
    """

    stage: str  # in metrics.jsonl
    table: ClassVar[str]  # of a recipe, with the settings
    scalar_rate: ClassVar[float | None] = None  # the learning rate of scalars, if another

    def __init__(
        self,
        module: nn.Module,
        settings: Settings,
        weights: Iterable[Parameter],
        scalars: Iterable[Parameter],
        *,
        seed: int,
        epochs: int,
    ) -> None:
        self.module, self.settings = module, settings
        self.weights, self.scalars = list(weights), list(scalars)
        self.seed, self.epochs = seed, epochs
        self.steps: int | None = None  # of an epoch, if a progress bar is to count them
        self.on_step: Callable[[], None] = lambda: None  # called after each of those
        self.index: ExactIndex | None = None  # answers to score against; part of a checkpoint
        self.keep: Keep | None = getattr(settings, "keep", None)  # none: the last epoch is the best
        self.optimizer: AdamW

    @abstractmethod
    def train_epoch(self, epoch: int) -> Record:
        """Train for the epoch of a number, from 1 on, and return the figures to record."""

    @abstractmethod
    def measure(self) -> Record:
        """Measure the module, which is in eval mode; called before training and after an epoch."""

    def is_finished(self, history: list[Record]) -> bool:
        """Tell whether no epoch is to follow."""
        return len(history) > self.epochs

    def begin(self, saved: Checkpoint | None) -> None:  # noqa: B027 (nothing by default)
        """Make ready for the first epoch, or for that after a checkpoint."""

    def step(self, loss: Tensor, *, rate: float = 1.0) -> None:
        """Go one step down a loss, at a share of the learning rates."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.zero_grad()
        loss.backward()
        average_gradients([*self.weights, *self.scalars])
        clip_grad_norm_([*self.weights, *self.scalars], self.settings.clip)
        self.optimizer.step()

    def run(
        self,
        *,
        saved: Checkpoint | None = None,
        on_epoch: OnEpoch = lambda checkpoint: None,
    ) -> list[Record]:
        """Train until it is finished.

        Args:
            saved: where an earlier call stopped; going on from there gives what never stopping
                would have given, bit for bit on a CPU.
            on_epoch: called with a checkpoint, whose last record is the epoch's, before training
                (unless going on) and after each epoch.

        Returns:
            A record for each epoch, from before training (epoch 0) on.

        Raises:
            DivergedError: if a figure of an epoch is not finite; the epoch is not recorded.
        """
        self.optimizer = self._build_optimizer()
        self.begin(saved)
        if saved:
            history, best = list(saved.history), saved.best
            self._check_finite(history[-1])
            self._load_learned(saved.learned)
            restore_optimizer(self.optimizer, saved.optimizer)
            if self.index:
                self.index.load_state(saved.index)
        else:
            record = {"train_loss": None} | ({"index": self.index.kind} if self.index else {})
            history, best = [self._complete_record(0, record, 0.0)], {}
            on_epoch(self._checkpoint(history, best))
        while not self.is_finished(history):
            epoch = len(history)
            torch.manual_seed(1_000_003 * self.seed + epoch)
            self.module.train()
            started = time.perf_counter()
            record = self.train_epoch(epoch)
            seconds = time.perf_counter() - started
            history.append(self._complete_record(epoch, record, seconds))
            if self.keep is None or since_best(history, self.keep) == 0:
                best = copy.deepcopy(self._learned())
            on_epoch(self._checkpoint(history, best))
        self._load_learned(from_main(lambda: best))
        self.module.eval()
        return history

    def _build_optimizer(self) -> AdamW:
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        scalar_rate = self.scalar_rate or rate
        groups = [
            {"params": self.weights, "lr": rate, "rate": rate, "weight_decay": decay},
            {"params": self.scalars, "lr": scalar_rate, "rate": scalar_rate, "weight_decay": 0.0},
        ]
        return AdamW(groups, fused=True)

    def _complete_record(self, epoch: int, record: Record, seconds: float) -> Record:
        """Add measurements to the record of an epoch, and refuse one that is not finite."""
        self._check_finite({"epoch": epoch, **record})
        self.module.eval()
        with torch.inference_mode():
            measured = self.measure()
        record = {"epoch": epoch, **record, "seconds": round(seconds, 4), **measured}
        self._check_finite(record)
        return record

    def _check_finite(self, record: Record) -> None:
        for name, value in record.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise DivergedError(
                    f"training diverged in epoch {record['epoch']}: {name} is {value}; lower the "
                    f"recipe's {self.table}.learning_rate = {self.settings.learning_rate:g}"
                )

    def _checkpoint(self, history: list[Record], best: State) -> Checkpoint:
        index = self.index.state() if self.index else {}
        moments = flatten_optimizer_state(self.optimizer)
        return Checkpoint(self._learned(), best, moments, index, list(history))

    def _learned(self) -> State:
        """Return parameters that are trained, and buffers."""
        frozen = {n for n, weight in self.module.named_parameters() if not weight.requires_grad}
        return {n: t for n, t in self.module.state_dict().items() if n not in frozen}

    def _load_learned(self, learned: State) -> None:
        self.module.load_state_dict({**self.module.state_dict(), **learned})


@dataclass(frozen=True)
class TrainingRun:
    """One training: the arguments of `train`, whose documentation explains them."""

    dataset: Dataset
    recipe: Recipe
    origin: Origin  # data, seed, and whether it is refit
    out: Path | None
    store: FeatureStore | None
    device: str
    on_record: OnRecord

    def start_metrics(self) -> None:
        """Empty the metrics file: a run that goes on records its past again."""
        if self.out and is_main():
            write_file(self.out / METRICS_FILE, "")

    def record(self, record: Record) -> None:
        """Append a record to the metrics file, and pass it on."""
        if not is_main():
            return
        if self.out:
            file = self.out / METRICS_FILE
            with failures_of(file), file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
        self.on_record(record)


def read_records(out: Path) -> list[Record]:
    """Read the records of the run in a folder; none if it trained nothing."""
    file = out / METRICS_FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def identify(recipe: Recipe, origin: Origin) -> dict[str, Any]:
    """Return all that decides a training but the encoder's weights, as JSON values."""
    values = {"seed": origin.seed, "data": origin.data_fingerprint, "recipe": recipe.values()}
    return {**values, "refit": origin.refit}


def run_stage(
    trainer: Trainer,
    run: TrainingRun,
    file: Path | None,
    identity: Mapping[str, Any],
    *,
    label: str,
) -> list[Record]:
    """Run a trainer from its checkpoint on, and return its records, those of before too.

    Args:
        trainer: of one stage of the run.
        run: takes the records, those before the checkpoint first.
        file: of the checkpoint; None keeps nothing.
        identity: of the training, so that no other goes on from its checkpoint.
        label: of the progress bar.
    """
    saved = from_main(lambda: Checkpoint.load(file, identity) if file else None)
    writer = CheckpointWriter(file if is_main() else None, identity)
    steps, unit = (trainer.steps, "steps") if trainer.steps else (1, "epochs")

    def record_epoch(record: Record, steps_done: int) -> None:
        run.record({"stage": trainer.stage, **record})
        figures = [f"{name} {record[k]:.3f}" for k, name in FIGURES_IN_BAR.items() if k in record]
        advance(steps_done, ", ".join(figures))

    def on_epoch(checkpoint: Checkpoint) -> None:
        writer.offer(checkpoint)
        record = checkpoint.history[-1]
        record_epoch(record, int(record["epoch"] > 0 and unit == "epochs"))

    with progress_bar(label if is_main() else None, trainer.epochs * steps, unit=unit) as advance:
        trainer.on_step = lambda: advance(1)
        for record in saved.history if saved else []:
            record_epoch(record, steps * int(record["epoch"] > 0))
        history = trainer.run(saved=saved, on_epoch=on_epoch)
    writer.finish()
    return history


def split_parameters(towers: Towers) -> tuple[list[Parameter], list[Parameter]]:
    """Return the weights of towers, and their scalars: scale and memory."""
    scalars = [towers.log_scale, *(towers.memory.parameters() if towers.memory else ())]
    scalar_ids = {id(parameter) for parameter in scalars}
    return [p for p in towers.parameters() if id(p) not in scalar_ids], scalars


def since_best(history: list[Record], keep: Keep) -> int:
    """Count the epochs since the best, by validation.

    Epoch 0 does not compete: untrained projections score all answers alike, at a loss that the
    first epochs, confident and often wrong, exceed while they rank far better.
    """
    costs = [_cost(record, keep) for record in history[1:]]
    return len(costs) - 1 - costs.index(min(costs)) if costs else 0


def _cost(record: Record, keep: Keep) -> float:
    if keep == "loss":
        return float(record["loss"])
    return -min(float(figures["map@10"]) for figures in record["types"].values())
