"""The converted models that this machine keeps, to be shown and cleared."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinrank.encoding.cache import cache_root
from twinrank.encoding.home import said
from twinrank.encoding.store import FeatureStore

FOLDER = "networks"


@dataclass(frozen=True)
class KeptNetwork:
    """What is kept of one encoder, by its identity: bytes on disk."""

    identity: str
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def network_home(identity: str) -> Path:
    """Where that of one encoder is kept."""
    return cache_root() / FOLDER / identity


def kept_networks() -> list[KeptNetwork]:
    """All that are kept, in the order of their identities."""
    found = []
    for home in sorted((cache_root() / FOLDER).glob("*/")):
        with said(home):
            size = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())
            found.append(KeptNetwork(home.name, size))
    return found


def clear_cache(store: FeatureStore, fingerprint: str | None = None) -> int:
    """Remove the features and the converted model of one encoder, or of all.

    Args:
        store: of the features.
        fingerprint: the encoder's, or how it begins; all that begin so are cleared.

    Returns:
        The bytes freed.

    Raises:
        StoreError: if there is nothing of that encoder, or a run is writing it.
    """
    start = fingerprint or ""
    gone = [one for one in kept_networks() if one.identity.startswith(start.partition("-")[0])]
    stored = any(entry.fingerprint.startswith(start) for entry in store.entries())
    freed = store.clear(fingerprint) if stored or not gone else 0
    for network in gone:
        with said(home := network_home(network.identity)):
            shutil.rmtree(home)
        freed += network.bytes
    return freed
