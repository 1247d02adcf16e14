"""The folder of one encoder in the feature store: what it says of itself, and adding to it."""

from __future__ import annotations

import errno
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from twinrank.encoding.encoder import Encoder
from twinrank.encoding.parts import (
    DamagedPartError,
    Part,
    clean,
    keys_of,
    merge_alike,
    open_part,
    remove_part,
    write_part,
)
from twinrank.errors import StoreError
from twinrank.files import write_file
from twinrank.progress import progress_bar

ABOUT = "encoder.json"
FORMAT = 1
# What a kill can lose: the features since the last part was published.
PUBLISH_S = 3.0
PUBLISH_BYTES = 2**28

# Encodes texts, and gives row numbers (n) with their features (n x 2 x d) as they are ready.
Batches = Callable[[Encoder, Sequence[str]], Iterator[tuple[np.ndarray, np.ndarray]]]

logger = logging.getLogger(__name__)


def encoded_here(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features as this process computes them."""
    return encoder.batches(texts)


@contextmanager
def said(folder: Path) -> Iterator[None]:
    """Turn what the system refuses into one line with the mend."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            mend = "make room, or set TWINRANK_CACHE to a larger disk; what is stored is kept"
        else:
            mend = "make it readable and writable, or set TWINRANK_CACHE to another folder"
        raise StoreError(f"{folder}: {reason}; {mend}") from error


def read_about(home: Path) -> dict[str, Any]:
    """What `encoder.json` says; empty if it is missing or damaged, for it can be written anew."""
    try:
        content = json.loads((home / ABOUT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def readable_parts(home: Path, dim: int) -> list[Part]:
    """All whole parts, without the lock: looks again if another run takes one away meanwhile."""
    while True:
        parts = []
        try:
            for folder in sorted(home.glob("part-*")):
                with suppress(DamagedPartError):  # said and mended once the lock is held
                    parts.append(open_part(folder, dim))
        except FileNotFoundError:
            continue
        return parts


def prepare(home: Path, encoder: Encoder) -> list[Part]:
    """Make the folder ready to be added to, and map its parts; only the holder of the lock may.

    Raises:
        StoreError: if another version of twinrank wrote it in another format.
        OSError: if it cannot be written.
    """
    home.mkdir(exist_ok=True)
    known = read_about(home)
    if known.get("format", FORMAT) != FORMAT:
        raise StoreError(
            f"{home}: written in format {known['format']}, this twinrank reads {FORMAT}; "
            "clear it, or set TWINRANK_CACHE to another folder"
        )
    if known.get("fingerprint") != encoder.fingerprint:
        about = {
            "format": FORMAT,
            "fingerprint": encoder.fingerprint,
            "name": encoder.name,
            "max_tokens": encoder.max_tokens,
            "precision": encoder.precision,
            "dim": encoder.dim,
        }
        write_file(home / ABOUT, json.dumps(about, indent=2))
    clean(home)
    parts = []
    for folder in sorted(home.glob("part-*")):
        try:
            parts.append(open_part(folder, encoder.dim))
        except DamagedPartError as error:
            logger.warning("%s: damaged (%s); removed, its texts are encoded again", folder, error)
            remove_part(folder)
    return parts


def add(
    home: Path,
    encoder: Encoder,
    texts: Sequence[str],
    parts: Sequence[Part],
    progress: str | None,
    batches_of: Batches,
) -> list[Part]:
    """Encode `texts` into new parts every few seconds; only the holder of the lock may.

    Args:
        home: the folder of the encoder.
        encoder: what encodes.
        texts: all different, and in none of `parts`.
        parts: those there are.
        progress: label of the progress bar.
        batches_of: what carries the encoding out.

    Returns:
        All parts there are then; small ones are merged on the way.

    Raises:
        StoreError: if the disk is full; what was published before stays.
    """
    keys = keys_of(texts)
    now = list(parts)
    rows: list[np.ndarray] = []
    batches: list[np.ndarray] = []

    def publish() -> None:
        nonlocal now
        with said(home):
            folder = write_part(home, keys[np.concatenate(rows)], batches)
            now.append(open_part(folder, encoder.dim))
        rows.clear()
        batches.clear()
        with suppress(OSError):  # no room to merge now: the small parts serve as well
            now = merge_alike(home, now, encoder.dim)

    began = time.monotonic()
    with progress_bar(progress, len(texts)) as advance:
        for numbers, features in batches_of(encoder, texts):
            rows.append(numbers)
            batches.append(features)
            advance(len(numbers))
            held = sum(batch.nbytes for batch in batches)
            if time.monotonic() - began > PUBLISH_S or held > PUBLISH_BYTES:
                publish()
                began = time.monotonic()
        if batches:
            publish()
    return now
