"""Trackers: a run logged to TensorBoard, Weights & Biases or MLflow, each by its own library.

Nothing leaves the machine unless its user has set that library up to send it. A call of `train`
is a run there with the whole history, also the epochs that earlier calls of it recorded.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from twinrank.data import Dataset
from twinrank.errors import TwinrankError
from twinrank.extras import check_installed
from twinrank.recipe import Recipe
from twinrank.training.distributed import is_main
from twinrank.training.loop import Record

PROJECT = "twinrank"  # where Weights & Biases and MLflow put runs, unless their variables say
RANKER = "ranker"  # the stage of the figures that the finished ranker reaches

Numbers = dict[str, float]
Log = Callable[[Numbers, int, str], None]  # of an epoch of a stage: its numbers, by name


class Tracker:
    """Splits the records of a run into numbers, for a function that logs them; without it, none."""

    def __init__(self, log: Log | None = None) -> None:
        self._log = log

    def epoch(self, record: Record) -> None:
        """Log the record of an epoch, as in `metrics.jsonl`."""
        figures = {name: value for name, value in record.items() if name not in ("stage", "epoch")}
        self._log_numbers(figures, record["epoch"], record["stage"])

    def reached(self, quality: Mapping[str, Any] | None) -> None:
        """Log the quality of the finished ranker on the validation split, if there is one."""
        self._log_numbers(quality or {}, 0, RANKER)

    def _log_numbers(self, figures: Mapping[str, Any], epoch: int, stage: str) -> None:
        """Log what is a number; an untrained epoch has no training loss."""
        flat = _flatten(figures, f"{stage}/").items()
        if self._log:
            numbers = {name: float(v) for name, v in flat if isinstance(v, int | float)}
            self._log(numbers, epoch, stage)


@contextmanager
def tracking(
    name: str | None, dataset: Dataset, recipe: Recipe, *, seed: int, out: Path
) -> Iterator[Tracker]:
    """Log a run to `tensorboard`, `wandb` or `mlflow`.

    Without a name, and in all processes but the first, nothing is logged.

    Raises:
        TwinrankError: if there is no such tracker, or its library is missing.
    """
    if name is None or not is_main():
        yield Tracker()
        return
    check_tracker(name)
    data = {"data": dataset.name, "data_fingerprint": dataset.fingerprint}
    choices = {"seed": seed, **data, "recipe": recipe.values()}
    with TRACKERS[name](f"{recipe.name}, seed {seed}", choices, out) as log:
        yield Tracker(log)


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
    check_installed(f"runs that are tracked by {name}", "track", name, *more)


@contextmanager
def _open_tensorboard(_: str, choices: dict[str, Any], out: Path) -> Iterator[Log]:
    """Write event files to the folder `tensorboard` of the run."""
    from torch.utils.tensorboard import SummaryWriter

    # The epochs of earlier calls are logged again: TensorBoard is to forget them.
    with SummaryWriter(out / "tensorboard", purge_step=0) as writer:
        writer.add_text("choices", f"```json\n{json.dumps(choices, indent=2)}\n```")

        def log(numbers: Numbers, epoch: int, stage: str) -> None:
            if stage == RANKER:
                writer.add_hparams(_flatten(choices), numbers, run_name=".")
            else:
                for key, value in numbers.items():
                    writer.add_scalar(key, value, epoch)
            writer.flush()

        yield log


@contextmanager
def _open_wandb(name: str, choices: dict[str, Any], out: Path) -> Iterator[Log]:
    """Log a run of Weights & Biases, in the folder `wandb` of the run; offline without a key."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    is_online = "WANDB_MODE" in os.environ or wandb.login(prompt=False)
    out.mkdir(parents=True, exist_ok=True)
    with wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=name,
        config=choices,
        dir=out,
        mode=None if is_online else "offline",
        settings=wandb.Settings(console="off"),
    ) as run:

        def log(numbers: Numbers, epoch: int, stage: str) -> None:
            if stage == RANKER:
                run.summary.update(numbers)
                return
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
            run.log({f"{stage}/epoch": epoch, **numbers})

        yield log


@contextmanager
def _open_mlflow(name: str, choices: dict[str, Any], out: Path) -> Iterator[Log]:
    """Log a run of MLflow, where its variables say; by default in `mlflow.db` right here."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from sqlalchemy.engine import make_url

    uri = mlflow.get_tracking_uri()
    file = make_url(uri).database if uri.startswith("sqlite") else None
    # Of several that make the tables of one file at once all but one would fail.
    with FileLock(f"{file}.lock") if file else nullcontext():
        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & set(os.environ):
            mlflow.set_experiment(PROJECT)
        run = mlflow.start_run(run_name=name)

    def rename(values: Mapping[str, Any]) -> dict[str, Any]:
        """Put values under names that MLflow allows: it has no @, which our metrics have."""
        renamed = {name.replace("@", "_at_"): value for name, value in values.items()}
        return {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in renamed.items()}

    def log(numbers: Numbers, epoch: int, _: str) -> None:
        mlflow.log_metrics(rename(numbers), step=epoch)

    with run:
        mlflow.set_tag("twinrank.out", str(out.resolve()))
        mlflow.log_params(rename(_flatten(choices)))
        yield log


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Put nested values under names with slashes: `types/question/map@10`; a list is a text."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        value = ", ".join(map(str, value)) if isinstance(value, list) else value
        flat |= _flatten(value, f"{name}/") if isinstance(value, Mapping) else {name: value}
    return flat


TRACKERS = {"tensorboard": _open_tensorboard, "wandb": _open_wandb, "mlflow": _open_mlflow}
