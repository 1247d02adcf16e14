"""Stores of features: on disk, one SQLite file an encoder; and in memory, for what was met last.

The file is in SQLite's rollback-journal mode: unlike WAL it can be read in a read-only folder, and
by several machines in a shared one. One run at a time encodes for an encoder, under a file lock.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from threading import Lock

import numpy as np
from filelock import FileLock, Timeout

from twinrank.encoding.encoder import POOLINGS, Encoder
from twinrank.encoding.model_files import cache_root
from twinrank.errors import StoreError
from twinrank.progress import progress_bar

KEY_BYTES = 16
PAGE_BYTES = 16_384  # five texts of a 384-wide encoder fill .95 of one
COMMIT_EVERY_S = 3.0  # of encoding: the most that a kill loses
COMMIT_BYTES = 2**28
ROWS_PER_READ = 1_024  # in a transaction, so that a commit need not wait long
BUSY_TIMEOUT_S = 60.0
WARN_AFTER_S = 1.0
MAX_RECENT_TEXTS = 65_536  # 384 wide that is 100 MB
TABLE = "features (key BLOB PRIMARY KEY, cls BLOB NOT NULL, mean BLOB NOT NULL)"

# Encodes texts, and yields row numbers (n) with their features (n, 2, d) as they are ready.
Batches = Callable[[Encoder, Sequence[str]], Iterator[tuple[np.ndarray, np.ndarray]]]

log = logging.getLogger(__name__)


class FeatureStore:
    """Features on disk, by an encoder's fingerprint and a digest of the text.

    Args:
        root: its folder; by default $TWINRANK_CACHE, else ~/.cache/twinrank/features.
        batches: encodes new texts; by default the encoder itself, in this process.
    """

    def __init__(self, root: Path | None = None, *, batches: Batches | None = None) -> None:
        self.root = Path(root or cache_root()).expanduser()
        self._batches = batches

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path]]:
        """Pickle without `batches`: a copy in another process encodes there."""
        return FeatureStore, (self.root,)

    def features(
        self, encoder: Encoder, texts: Sequence[str], pooling: str, *, progress: str | None = None
    ) -> np.ndarray:
        """Return the features (N, d), float32, of N texts; only new texts are encoded.

        Args:
            encoder: encodes what is new.
            texts: in any order, with any duplicates.
            pooling: one of POOLINGS; both are stored at once.
            progress: label of the progress bar; None shows none.

        Raises:
            StoreError: if the store cannot be read or written; what it holds stays whole.
            EncoderError: if the encoder cannot be loaded or run.
        """
        if pooling not in POOLINGS:
            raise StoreError(f"pooling {pooling!r} is not stored; choose {' or '.join(POOLINGS)}")
        keys = [hash_text(text) for text in texts]
        features = np.empty((len(texts), encoder.width), np.float32)
        read = partial(self._read, encoder, keys, pooling, features)
        with progress_bar(progress and f"{progress} (look-up)", len(texts)) as advance:
            new = read(range(len(texts)), advance)
        if new:
            with self._lock(encoder.fingerprint):
                new = read(new)  # another run may have encoded them meanwhile
                self._encode(encoder, list(dict.fromkeys(texts[row] for row in new)), progress)
                if read(new):
                    raise StoreError(f"{self.root}: lacks what was just stored; run the same again")
        return features

    def count_texts(self, encoder: Encoder) -> int:
        """Count the texts whose features by this encoder are stored."""
        if not self._file(encoder.fingerprint).exists():
            return 0
        with self._open(encoder.fingerprint) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM features").fetchone()[0])

    def _file(self, fingerprint: str) -> Path:
        return self.root / f"{fingerprint}.sqlite"

    @contextmanager
    def _open(self, fingerprint: str) -> Iterator[sqlite3.Connection]:
        """Open an encoder's file, or make it; one that may not be written is read."""
        file = self._file(fingerprint)
        with (
            _storage_errors(file, sqlite3.Error),  # any OSError is of what encodes
            closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)) as connection,
        ):
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA cache_spill = OFF")  # others read until a commit
            connection.execute(f"CREATE TABLE IF NOT EXISTS {TABLE}")
            yield connection

    def _read(
        self,
        encoder: Encoder,
        keys: Sequence[bytes],
        pooling: str,
        features: np.ndarray,
        rows: Sequence[int],
        advance: Callable[[int], None] = lambda done: None,
    ) -> list[int]:
        """Fill in those rows of `features` that are stored, and return the others."""
        if not self._file(encoder.fingerprint).exists():
            return list(rows)
        missing_rows = []
        with self._open(encoder.fingerprint) as connection:
            for start in range(0, len(rows), ROWS_PER_READ):
                part = rows[start : start + ROWS_PER_READ]
                query = (
                    f"SELECT key, {pooling} FROM features "  # noqa: S608 (one of POOLINGS)
                    f"WHERE key IN ({', '.join('?' * len(part))})"
                )
                stored = dict(connection.execute(query, [keys[row] for row in part]))
                for row in part:
                    if keys[row] in stored:
                        features[row] = np.frombuffer(stored[keys[row]], np.float32)
                    else:
                        missing_rows.append(row)
                advance(len(part))
        return missing_rows

    def _encode(self, encoder: Encoder, texts: Sequence[str], progress: str | None) -> None:
        """Encode texts, and commit their features every few seconds."""
        encode = self._batches or (lambda encoder, texts: encoder.batches(texts))
        uncommitted_bytes, last_commit = 0, time.monotonic()
        with (
            progress_bar(progress, len(texts)) as advance,
            self._open(encoder.fingerprint) as connection,
            connection,
        ):
            for rows, features in encode(encoder, texts):
                pairs = zip(rows, features.astype(np.float32), strict=True)
                records = ((hash_text(texts[row]), *pair) for row, pair in pairs)
                connection.executemany("INSERT OR IGNORE INTO features VALUES (?, ?, ?)", records)
                advance(len(rows))
                uncommitted_bytes += features.nbytes
                if (
                    uncommitted_bytes > COMMIT_BYTES
                    or time.monotonic() - last_commit > COMMIT_EVERY_S
                ):
                    connection.commit()
                    uncommitted_bytes, last_commit = 0, time.monotonic()

    @contextmanager
    def _lock(self, fingerprint: str) -> Iterator[None]:
        """Hold the lock of one encoder's file; the system frees it if the holder is killed."""
        lock = FileLock(self.root / f"{fingerprint}.lock")
        with _storage_errors(self.root, OSError):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=WARN_AFTER_S)
            except Timeout:
                log.warning("%s: waiting for another run that is encoding", self.root)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()


class RecentFeatures:
    """Features in memory, of the texts asked for last.

    Used in place of a `FeatureStore` by a service; nothing of it outlives the process. Threads
    take turns, and so use the encoder in turns.

    Args:
        max_texts: how many are remembered, over all encoders; those of one call may be more.
    """

    def __init__(self, max_texts: int = MAX_RECENT_TEXTS) -> None:
        self.max_texts = max_texts
        self._features: OrderedDict[tuple[str, str, bytes], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def features(
        self, encoder: Encoder, texts: Sequence[str], pooling: str, *, progress: str | None = None
    ) -> np.ndarray:
        """Return the features (N, d), float32, of N texts, as `FeatureStore.features` does."""
        keys = [(encoder.fingerprint, pooling, hash_text(text)) for text in texts]
        with self._lock:
            new = {
                key: text
                for key, text in zip(keys, texts, strict=True)
                if key not in self._features
            }
            if new:
                encoded = encoder.encode(list(new.values()), progress=progress)
                # A copy of each row, since a view would keep the whole array in memory.
                rows = map(np.copy, encoded[:, POOLINGS.index(pooling)])
                self._features.update(zip(new, rows, strict=True))
            features = np.empty((len(texts), encoder.width), np.float32)
            for row, key in zip(features, keys, strict=True):
                row[:] = self._features[key]
                self._features.move_to_end(key)
            while len(self._features) > self.max_texts:
                self._features.popitem(last=False)
            return features


def hash_text(text: str) -> bytes:
    """Return the key of a text: a digest, for a conversation is longer than its features."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


@contextmanager
def _storage_errors(path: Path, kind: type[Exception]) -> Iterator[None]:
    """Turn a refusal of the system, or of SQLite, into one line with the fix."""
    try:
        yield
    except kind as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreError(
                f"{path}: damaged ({error}); remove this file, and its texts are encoded again"
            ) from error
        raise StoreError(
            f"{path}: {getattr(error, 'strerror', None) or error}; make room there and let it be "
            "written, or set TWINRANK_CACHE to another folder; what is stored is kept"
        ) from error
