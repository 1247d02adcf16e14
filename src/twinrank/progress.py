"""A progress bar with rate and time left, for what takes longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from twinrank.terminal import PlainConsole

SHOWN_AFTER_S = 2.0


@runtime_checkable
class Advance(Protocol):
    """Tells a bar how much has been done since the last call, and what to say beside it."""

    def __call__(self, done: int, note: str = "") -> None: ...  # noqa: D102


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        digits = 0 if (task.speed or 0) >= 10 else 1
        unit = task.fields["unit"]
        return Text(f"{task.speed or 0:,.{digits}f} {unit}/s", style="progress.data.speed")


@contextmanager
def progress_bar(label: str | None, total: int, *, unit: str = "texts") -> Iterator[Advance]:
    """Give a function to call with how much was done since its last call.

    The bar goes to stderr, if that is a terminal, and only once two seconds have passed with
    work left. Without a label there is none.
    """
    if label is None or not (console := PlainConsole(stderr=True)).is_terminal:
        yield lambda done, note="": None
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        speed_estimate_period=60,
    )
    task = bar.add_task(label, total=total, unit=unit, note="")
    began = time.monotonic()

    def advance(done: int, note: str = "") -> None:
        bar.update(task, advance=done, note=note)
        if not bar.live.is_started and time.monotonic() - began > SHOWN_AFTER_S:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
