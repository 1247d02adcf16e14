"""One stage of a training: from where its checkpoint stands, with metrics and a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from twinrank.progress import Advance, progress_bar
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.loop import Record
from twinrank.training.resume import Keeper, OnRecord, saved_in


@runtime_checkable
class Stage(Protocol):
    """A training that can go on from a checkpoint."""

    def __call__(  # noqa: D102
        self, *, saved: Checkpoint | None, on_epoch: Callable[[Checkpoint], None]
    ) -> list[Record]: ...


@dataclass
class Bar:
    """What a progress bar counts: epochs, or the steps of which an epoch has several.

    Attributes:
        label: in front of it; none shows no bar.
        epochs: at most.
        steps: of an epoch, which the stage reports by `advance`; none counts epochs.
    """

    label: str | None
    epochs: int
    steps: int | None = None
    _bar: Advance | None = None

    def advance(self) -> None:
        """To be called after each step."""
        if self._bar:
            self._bar(1)

    def shown_by(self, bar: Advance) -> None:
        """Take the bar that is advanced from now on."""
        self._bar = bar


def carry_out(
    stage: Stage,
    name: str,
    file: Path | None,
    identity: dict[str, Any],
    bar: Bar,
    on_record: OnRecord,
    *,
    ready: Callable[[], None] = lambda: None,
    writes: bool = True,
) -> None:
    """Run a stage from where its checkpoint stands.

    Args:
        stage: what is run.
        name: in the metrics.
        file: its checkpoint; none keeps nothing.
        identity: so that no other training goes on from there.
        bar: what the progress bar shows.
        on_record: called with each epoch's record, those before the checkpoint first.
        ready: called once the checkpoint has been read.
        writes: whether this process writes it.
    """
    saved = saved_in(file, identity) if file else None
    ready()
    kept = Keeper(file if writes else None, identity)

    def tell(record: Record, done: int) -> None:
        on_record({"stage": name, **record})
        advance(done, _note(record))

    def on_epoch(checkpoint: Checkpoint) -> None:
        kept.offer(checkpoint)
        record = checkpoint.history[-1]
        tell(record, int(record["epoch"] > 0 and bar.steps is None))

    each = bar.steps or 1
    unit = "steps" if bar.steps else "epochs"
    with progress_bar(bar.label, bar.epochs * each, unit=unit) as advance:
        bar.shown_by(advance)
        for record in saved.history if saved else []:
            tell(record, each * int(record["epoch"] > 0))
        stage(saved=saved, on_epoch=on_epoch)
    kept.finish()


def _note(record: Mapping[str, Any]) -> str:
    """What a progress bar says beside an epoch."""
    names = {"barlow_loss": "Barlow loss", "loss": "validation loss", "map@10": "MAP@10"}
    said = {name: record[key] for key, name in names.items() if key in record}
    return ", ".join(f"{name} {value:.3f}" for name, value in said.items())
