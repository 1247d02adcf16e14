"""Bytes and seconds for people, with three digits."""

from __future__ import annotations

SIZES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
HOUR, MINUTE = 3600, 60


def size(count: float) -> str:
    """Bytes: 1.23 GB."""
    for least, unit in SIZES:
        if count >= least:
            return f"{_three(count / least)} {unit}"
    return f"{count:,.0f} B"


def duration(seconds: float) -> str:
    """Milliseconds, seconds, minutes or hours: 1.23 h."""
    if seconds < 1:
        return f"{_three(1e3 * seconds)} ms"
    if seconds < MINUTE:
        return f"{_three(seconds)} s"
    if seconds < HOUR:
        return f"{_three(seconds / MINUTE)} min"
    return f"{_three(seconds / HOUR)} h"


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"
