"""Who may read a file: people's texts their owner alone, all else whoever the umask lets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_private(file: Path) -> None:
    """Put an empty file there that its owner alone may read, instead of what is there."""
    file.unlink(missing_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


@contextmanager
def by_umask(file: Path) -> Iterator[Path]:
    """Give a file that is written meanwhile the mode of any new one.

    What safetensors writes would be its owner's alone.
    """
    file.touch()
    mode = file.stat().st_mode & 0o777
    yield file
    file.chmod(mode)
