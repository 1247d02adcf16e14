"""The folder in which this machine keeps what it once computed."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """$TWINRANK_CACHE, else ~/.cache/twinrank/features."""
    return Path(os.environ.get("TWINRANK_CACHE") or "~/.cache/twinrank/features").expanduser()
