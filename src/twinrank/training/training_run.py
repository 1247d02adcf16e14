"""A run: what is to be trained, and its folder of checkpoints and metrics to go on from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.files import failures_of, write_file
from twinrank.progress import progress_bar
from twinrank.ranking import Origin
from twinrank.recipe import Recipe
from twinrank.training.checkpoint import Checkpoint, CheckpointWriter, load_checkpoint
from twinrank.training.distributed import from_main, is_main
from twinrank.training.loop import Record, Trainer

CHECKPOINT_FILES = TUNING_FILE, PRETRAINING_FILE, RANKING_FILE = (
    "tuning.safetensors",
    "pretraining.safetensors",
    "checkpoint.safetensors",
)
METRICS_FILE = "metrics.jsonl"
FIGURES_IN_BAR = {"barlow_loss": "Barlow loss", "loss": "validation loss", "map@10": "MAP@10"}

OnRecord = Callable[[Record], None]
# Runs a trainer; called as `fit(trainer, saved=..., on_epoch=...)`, like `Trainer.run`.
Fit = Callable[..., list[Record]]


@dataclass(frozen=True)
class TrainingRun:
    """One training, as `train` is asked for it.

    Attributes:
        dataset: to train on.
        recipe: every choice but the seed.
        origin: data and seed.
        out: folder of checkpoints and metrics; None keeps nothing.
        shared: folder where runs share their pre-training; None shares nothing.
        store: of features.
        device: as the caller names it.
        on_record: called with each record of an epoch.
        fit: runs the trainer of the towers, instead of this process alone.
    """

    dataset: Dataset
    recipe: Recipe
    origin: Origin
    out: Path | None
    shared: Path | None
    store: FeatureStore | None
    device: str
    on_record: OnRecord
    fit: Fit | None

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the training but the encoder's weights, as JSON values."""
        return identify(self.recipe, self.origin)

    def start_metrics(self) -> None:
        """Empty the metrics file: a run that goes on tells its past again."""
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


def identify(recipe: Recipe, origin: Origin) -> dict[str, Any]:
    """Return what decides a training, as JSON values."""
    return {"seed": origin.seed, "data": origin.data_fingerprint, "recipe": recipe.values()}


def read_records(out: Path) -> list[Record]:
    """Read the records of the run in a folder; none if it trained nothing."""
    file = out / METRICS_FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def run_stage(
    trainer: Trainer,
    run: TrainingRun,
    file: Path | None,
    identity: Mapping[str, Any],
    *,
    label: str,
    fit: Fit | None = None,
) -> list[Record]:
    """Run a trainer from its checkpoint on, with checkpoints and a progress bar.

    Args:
        trainer: of one stage of the run.
        run: takes the records, those before the checkpoint first.
        file: of the checkpoint; None keeps nothing.
        identity: of the training, so that no other goes on from its checkpoint.
        label: of the progress bar.
        fit: runs the trainer, if this process is not to run it by itself.

    Returns:
        The records of its epochs, those before the checkpoint too.
    """
    saved = from_main(lambda: load_checkpoint(file, identity) if file else None)
    writer = CheckpointWriter(file if is_main() else None, identity)
    steps, unit = (trainer.steps, "steps") if trainer.steps else (1, "epochs")

    def tell(record: Record, steps_done: int) -> None:
        run.record({"stage": trainer.stage, **record})
        figures = [f"{name} {record[k]:.3f}" for k, name in FIGURES_IN_BAR.items() if k in record]
        advance(steps_done, ", ".join(figures))

    def on_epoch(checkpoint: Checkpoint) -> None:
        writer.offer(checkpoint)
        record = checkpoint.history[-1]
        tell(record, int(record["epoch"] > 0 and unit == "epochs"))

    with progress_bar(label if is_main() else None, trainer.epochs * steps, unit=unit) as advance:
        trainer.on_step = lambda: advance(1)
        for record in saved.history if saved else []:
            tell(record, steps * int(record["epoch"] > 0))
        history = (fit or type(trainer).run)(trainer, saved=saved, on_epoch=on_epoch)
    writer.finish()
    return history
