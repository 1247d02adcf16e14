"""The feature store: each text is encoded once by each encoder, whatever runs and is killed."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from twinrank.encoding.cache import cache_root
from twinrank.encoding.encoder import POOLINGS, Encoder
from twinrank.encoding.features import Features, look_up
from twinrank.encoding.home import (
    ABOUT,
    Batches,
    add,
    encoded_here,
    prepare,
    read_about,
    readable_parts,
    said,
)
from twinrank.encoding.parts import KEY, keys_of
from twinrank.errors import StoreError
from twinrank.progress import progress_bar

WAIT_SAID_AFTER_S = 1.0
HASHED_AT_ONCE = 65_536

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreEntry:
    """What the store holds of one encoder."""

    fingerprint: str
    name: str
    max_tokens: int
    precision: str
    texts: int
    bytes: int
    last_use: datetime

    def as_dict(self) -> dict[str, str | int]:
        """Plain JSON values."""
        return {**asdict(self), "last_use": self.last_use.isoformat(timespec="seconds")}


class FeatureStore:
    """Features on disk, keyed by an encoder's fingerprint and a text's digest.

    Args:
        root: its folder; by default $TWINRANK_CACHE, else ~/.cache/twinrank/features.
        batches: what encodes texts that are new; by default the encoder itself, here.
    """

    def __init__(self, root: Path | None = None, *, batches: Batches = encoded_here) -> None:
        self.root = Path(root or cache_root()).expanduser()
        self._batches = batches

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path]]:
        """A copy in another process encodes what is new there."""
        return FeatureStore, (self.root,)

    def features(
        self, encoder: Encoder, texts: Sequence[str], pooling: str, *, progress: str | None = None
    ) -> Features:
        """Features (N x d) of N texts; only texts the store has not seen are encoded.

        Args:
            encoder: what encodes what is new.
            texts: in any order, with any duplicates.
            pooling: one of POOLINGS; both are stored at once.
            progress: label of the progress bar; None shows none.

        Raises:
            StoreError: if the store cannot be read or written; what it holds stays whole.
            EncoderError: if the encoder cannot be loaded or run.
        """
        if pooling not in POOLINGS:
            raise StoreError(f"pooling {pooling!r} is not stored; choose {' or '.join(POOLINGS)}")
        home = self.root / encoder.fingerprint
        with progress_bar(progress and f"{progress} (look-up)", len(texts)) as advance:
            digests = np.empty(len(texts), KEY)
            for start in range(0, len(texts), HASHED_AT_ONCE):
                chunk = keys_of(texts[start : start + HASHED_AT_ONCE])
                digests[start : start + len(chunk)] = chunk
                advance(len(chunk))
        keys, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
        with said(home):
            parts = readable_parts(home, encoder.dim)
        places = look_up(parts, keys)
        encoded = 0
        if len(places.missing):
            with self._locked(encoder.fingerprint):
                with said(home):
                    parts = prepare(home, encoder)
                missing = np.sort(first[look_up(parts, keys).missing])
                encoded = len(missing)
                new = [texts[i] for i in missing]
                parts = add(home, encoder, new, parts, progress, self._batches)
            places = look_up(parts, keys)
        with suppress(OSError):  # a store that may only be read is used all the same
            os.utime(home / "encoder.json")
        return Features(
            encoder.dim,
            encoded,
            tuple(part.features for part in parts),
            places.at(inverse),
            POOLINGS.index(pooling),
        )

    def held(self, encoder: Encoder) -> int:
        """How many texts it has an encoder's features of."""
        home = self.root / encoder.fingerprint
        with said(home):
            return sum(len(part) for part in readable_parts(home, encoder.dim))

    def entries(self) -> list[StoreEntry]:
        """What is stored, the last used first."""
        found = []
        for home in self._homes():
            with said(home):
                about = read_about(home)
                parts = readable_parts(home, about["dim"])
                found.append(
                    StoreEntry(
                        fingerprint=home.name,
                        name=about["name"],
                        max_tokens=about["max_tokens"],
                        precision=about["precision"],
                        texts=sum(len(part) for part in parts),
                        bytes=_size(home),
                        last_use=datetime.fromtimestamp((home / ABOUT).stat().st_mtime, UTC),
                    )
                )
        return sorted(found, key=lambda entry: entry.last_use, reverse=True)

    def clear(self, fingerprint: str | None = None) -> int:
        """Remove one encoder's features, or all, and return the bytes freed.

        Args:
            fingerprint: the encoder's, or how it begins; all that begin so are cleared.

        Raises:
            StoreError: if there are none of that encoder, or a run is writing them.
        """
        homes = [home for home in self._homes() if home.name.startswith(fingerprint or "")]
        if fingerprint is not None and not homes:
            raise StoreError(f"{self.root}: nothing is stored under {fingerprint}; see the entries")
        freed = 0
        for home in homes:
            with self._locked(home.name, wait=False), said(home):
                freed += _size(home)
                shutil.rmtree(home)
        return freed

    def _homes(self) -> list[Path]:
        """The folders that a store made: nothing else under the root is ever touched."""
        return sorted(
            file.parent
            for file in self.root.glob(f"*/{ABOUT}")
            if read_about(file.parent).get("fingerprint") == file.parent.name
        )

    @contextmanager
    def _locked(self, fingerprint: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the lock of one encoder's folder; the system frees it if the holder is killed."""
        lock = FileLock(self.root / f"{fingerprint}.lock")
        with said(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=WAIT_SAID_AFTER_S)
            except Timeout:
                if not wait:
                    raise StoreError(
                        f"{self.root / fingerprint}: another run is encoding; wait until it ends"
                    ) from None
                logger.warning("%s: waiting for another run that is encoding", self.root)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _size(home: Path) -> int:
    return sum(file.stat().st_size for file in home.rglob("*") if file.is_file())
