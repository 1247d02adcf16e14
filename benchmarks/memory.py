"""How much memory this process takes, as Linux tells it."""

from __future__ import annotations

import re
import resource
import sys
import threading
from pathlib import Path

STATUS = Path("/proc/self/status")
SAMPLE_EVERY_S = 0.01


class Anonymous:
    """The peak of anonymous memory in MB while it is entered; None where it cannot be told."""

    def __init__(self) -> None:
        self.peak: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Anonymous:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while (held := anonymous_mb()) is not None:
            self.peak = max(self.peak or 0, held)
            if self._over.wait(SAMPLE_EVERY_S):
                return


def anonymous_mb() -> float | None:
    """What this process holds now that is no file's; None where it cannot be told."""
    found = STATUS.exists() and re.search(r"RssAnon:\s+(\d+) kB", STATUS.read_text())
    return int(found[1]) / 1e3 if found else None


def highest_mb() -> float:
    """Of resident memory, the highest so far.

    The rusage figure is a last resort: on Linux it counts the parent's before the exec.
    """
    if STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())):
        return int(found[1]) / 1e3
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
