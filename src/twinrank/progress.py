"""A progress bar with rate and time left, for work that takes longer than two seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHOWN_AFTER_S = 2.0

# Tells a bar how much has been done since the last call, and a note to show next to it.
Advance = Callable[..., None]


@contextmanager
def progress_bar(label: str | None, total: int, *, unit: str = "texts") -> Iterator[Advance]:
    """Give a function to call with how much was done since its last call.

    The bar goes to stderr, if that is a terminal, and only once two seconds have passed with
    work left. Log lines go above it. Without a label there is none.
    """
    if label is None or sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, note="": None
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from twinrank.console import visible

    bar = tqdm(
        total=total,
        desc=visible(label),
        unit=f" {unit}",
        delay=SHOWN_AFTER_S,
        dynamic_ncols=True,
        smoothing=0.05,
    )

    def advance(done: int, note: str = "") -> None:
        bar.set_postfix_str(visible(note), refresh=False)
        bar.update(done)

    with bar, logging_redirect_tqdm():
        yield advance
