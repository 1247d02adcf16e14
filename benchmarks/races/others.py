"""How much of the machine other processes took while something was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil


def used_by_others() -> Callable[[], float]:
    """Begin to count.

    Returns:
        To be called at the end: cores that others kept busy on average, with what a hypervisor
        took. Ours are this process and all that it has started and waited for.
    """
    began, busy, own = time.perf_counter(), _busy(), _own()

    def so_far() -> float:
        taken = (_busy() - busy) - (_own() - own)
        return max(0.0, taken / (time.perf_counter() - began))

    return so_far


def _busy() -> float:
    """Seconds that all cores were busy since the start of the machine."""
    spent = psutil.cpu_times()._asdict()
    # The system counts a guest's time as its user's too.
    resting = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(seconds for kind, seconds in spent.items() if kind not in resting))


def _own() -> float:
    """Seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])
