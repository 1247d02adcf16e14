"""The cache folder: its place, its converted networks, and its errors."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinrank.errors import StoreError

MAKE_ROOM = "make room, or set TWINRANK_CACHE to a larger disk; what is stored is kept"
ALLOW_ACCESS = "make it readable and writable, or set TWINRANK_CACHE to another folder"
FIXES: dict[int | str | None, str] = {
    errno.ENOSPC: MAKE_ROOM,
    errno.EDQUOT: MAKE_ROOM,
    errno.EFBIG: MAKE_ROOM,
    "SQLITE_FULL": MAKE_ROOM,
    "SQLITE_IOERR_WRITE": MAKE_ROOM,  # also a quota, or a limit on the size of files
    "SQLITE_BUSY": "another process holds it: try again",
}


class DamagedStoreError(StoreError):
    """A file of features that SQLite cannot read."""


@dataclass(frozen=True)
class CachedNetwork:
    """A converted network in the cache: the identity of its encoder, and bytes on disk."""

    identity: str
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def cache_root() -> Path:
    """Return $TWINRANK_CACHE, else ~/.cache/twinrank/features."""
    return Path(os.environ.get("TWINRANK_CACHE") or "~/.cache/twinrank/features").expanduser()


def network_folder(identity: str) -> Path:
    """Return where the converted network of one encoder is cached."""
    return cache_root() / "networks" / identity


def cached_networks() -> list[CachedNetwork]:
    """List all converted networks in the cache, in the order of their identities."""
    networks = []
    for folder in sorted(network_folder("").glob("*/")):
        with storage_errors(folder):
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            networks.append(CachedNetwork(folder.name, size))
    return networks


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a refusal of the system, or of SQLite, into one line with the fix.

    Raises:
        DamagedStoreError: if SQLite finds the file damaged.
        StoreError: otherwise.
    """
    try:
        yield
    except OSError as error:
        fix = FIXES.get(error.errno, ALLOW_ACCESS)
        raise StoreError(f"{path}: {error.strerror or error}; {fix}") from error
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise DamagedStoreError(
                f"{path}: damaged ({error}); clear it, and its texts are encoded again: "
                f"twinrank cache --clear --encoder {path.stem[:12]}"
            ) from error
        reason = os.strerror(errno.ENOSPC) if name == "SQLITE_FULL" else str(error)
        raise StoreError(f"{path}: {reason}; {FIXES.get(name, ALLOW_ACCESS)}") from error
