"""A run told to TensorBoard, Weights & Biases or MLflow as it goes, each by its own library.

Nothing leaves the machine unless its user has set that library up to send it. A call of `train`
is a run there with the whole history, also what earlier calls of it recorded.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from twinrank.data import Dataset
from twinrank.errors import TwinrankError
from twinrank.extras import check_installed
from twinrank.recipe import Recipe
from twinrank.training.loop import Record
from twinrank.training.team import is_main

PROJECT = "twinrank"  # where Weights & Biases and MLflow put runs, unless their own variables say
Numbers = dict[str, float]


@dataclass(frozen=True)
class _Run:
    """What a library is told of a run before it begins: its name, all choices, and its folder."""

    name: str
    choices: dict[str, Any]
    out: Path


class Tracker:
    """Takes the records of a run, and takes them apart into the numbers a library logs.

    Args:
        log: called with the numbers of an epoch, its number, and the name of its stage.
        finish: called with those of the finished ranker.
    """

    def __init__(
        self, log: Callable[[Numbers, int, str], None], finish: Callable[[Numbers], None]
    ) -> None:
        self._log, self._finish = log, finish

    def epoch(self, record: Record) -> None:
        """Take the record of an epoch, as in `metrics.jsonl`."""
        stage = record["stage"]
        told = {name: value for name, value in record.items() if name not in ("stage", "epoch")}
        self._log(_numbers(told, f"{stage}/"), record["epoch"], stage)

    def reached(self, quality: Mapping[str, Any] | None) -> None:
        """Take what the finished ranker reaches on the validation split, if there is one."""
        self._finish(_numbers(quality or {}, "ranker/"))


@contextmanager
def tracking(
    name: str | None, dataset: Dataset, recipe: Recipe, *, seed: int, out: Path
) -> Iterator[Tracker]:
    """Tell a tracker of a run; without a name nobody, as in all processes but the first.

    Args:
        name: `tensorboard`, `wandb` or `mlflow`.
        dataset: with `recipe` and `seed`, what is carried out.
        recipe: see `dataset`.
        seed: see `dataset`.
        out: folder of the run.

    Raises:
        TwinrankError: if there is no such tracker, or its library is missing.
    """
    if name is None or not is_main():
        yield Tracker(lambda figures, epoch, stage: None, lambda figures: None)
        return
    check_tracker(name)
    data = {"data": dataset.name, "data_fingerprint": dataset.fingerprint}
    choices = {"seed": seed, **data, "recipe": recipe.values()}
    with TRACKERS[name](_Run(f"{recipe.name}, seed {seed}", choices, out)) as tracker:
        yield tracker


def check_tracker(name: str | None) -> None:
    """Refuse a tracker that cannot be used, before any work is done.

    Raises:
        TwinrankError: if there is no such tracker, or its library is missing.
    """
    if name is None:
        return
    if name not in TRACKERS:
        raise TwinrankError(f"no tracker is called {name!r}; choose {', '.join(TRACKERS)}")
    more = ("sqlalchemy", "alembic") if name == "mlflow" else ()
    check_installed(f"runs that are tracked by {name}", name, name, *more)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under names with slashes: `types/question/map@10`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        place = f"{prefix}{name}"
        found |= flat(value, f"{place}/") if isinstance(value, Mapping) else {place: value}
    return found


def _numbers(values: Mapping[str, Any], prefix: str) -> Numbers:
    """The numbers among nested values; an untrained epoch has no training loss."""
    return {n: float(v) for n, v in flat(values, prefix).items() if isinstance(v, int | float)}


@contextmanager
def _tensorboard(run: _Run) -> Iterator[Tracker]:
    """Event files in the folder `tensorboard` of the run."""
    from torch.utils.tensorboard import SummaryWriter

    def finish(figures: Numbers) -> None:
        writer.add_hparams(flat(run.choices), figures, run_name=".")

    def log(figures: Numbers, epoch: int, _: str) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    # What earlier calls wrote is told again: TensorBoard is to forget it.
    with SummaryWriter(run.out / "tensorboard", purge_step=0) as writer:
        text = json.dumps(run.choices, indent=2)
        writer.add_text("choices", f"```json\n{text}\n```")
        yield Tracker(log, finish)


@contextmanager
def _wandb(run: _Run) -> Iterator[Tracker]:
    """A run of Weights & Biases, in the folder `wandb` of the run; offline without a key."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    online = "WANDB_MODE" in os.environ or wandb.login(prompt=False)
    run.out.mkdir(parents=True, exist_ok=True)
    with wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=run.name,
        config=run.choices,
        dir=run.out,
        mode=None if online else "offline",
        settings=wandb.Settings(console="off"),
    ) as there:
        known: set[str] = set()

        def log(figures: Numbers, epoch: int, stage: str) -> None:
            if stage not in known:
                there.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
                known.add(stage)
            there.log({f"{stage}/epoch": epoch, **figures})

        yield Tracker(log, there.summary.update)


@contextmanager
def _mlflow(run: _Run) -> Iterator[Tracker]:
    """A run of MLflow, where its own variables say; by default in `mlflow.db` right here."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from sqlalchemy.engine import make_url

    uri = mlflow.get_tracking_uri()
    file = make_url(uri).database if uri.startswith("sqlite") else None
    # Of several that make the tables of one file at once all but one would fail.
    with FileLock(f"{file}.lock") if file else nullcontext():
        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & set(os.environ):
            mlflow.set_experiment(PROJECT)
        started = mlflow.start_run(run_name=run.name)

    def log(figures: Numbers, epoch: int, _: str) -> None:
        mlflow.log_metrics(_named(figures), step=epoch)

    with started:
        mlflow.set_tag("twinrank.out", str(run.out.resolve()))
        mlflow.log_params(_named(flat(run.choices)))
        yield Tracker(log, lambda figures: log(figures, 0, "ranker"))


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values under names that MLflow allows: it has no @, which our metrics have."""

    def spelt(sign: re.Match[str]) -> str:
        return "_at_" if sign[0] == "@" else f"_{ord(sign[0]):x}_"

    return {re.sub(r"[^\w\-. :/]", spelt, name): value for name, value in values.items()}


TRACKERS: dict[str, Callable[[_Run], AbstractContextManager[Tracker]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
