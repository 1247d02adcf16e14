"""Parts of a feature store: immutable folders of sorted keys and their features.

A part is `keys.npy` (n 16-byte digests, ascending) and `features.npy` (n x 2 x d float32, in the
order of the keys). It is written aside, synced, and renamed into its place, so that a kill or a
full disk leaves whole parts only. One run at a time writes; readers need no lock.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from twinrank.files import UNFINISHED, new_folder

KEY = np.dtype("S16")
ASIDE = ".aside-"
REPLACES = "replaces.txt"
COPIED_AT_ONCE = 16_384

# Eight parts of about one size become one; from `LARGEST_MERGE` rows on they stay as they are.
MERGED = 8
LARGEST_MERGE = 2**20


class DamagedPartError(Exception):
    """A part whose files are not whole; says what is wrong."""


@dataclass(frozen=True)
class Part:
    """One part, memory-mapped: n keys ascending, and their features n x 2 x d."""

    folder: Path
    keys: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


def keys_of(texts: Iterable[str]) -> np.ndarray:
    """The 16-byte blake2b digest of each text's UTF-8 (N)."""
    digests = (
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY.itemsize).digest()
        for text in texts
    )
    return np.frombuffer(b"".join(digests), KEY)


def open_part(folder: Path, dim: int) -> Part:
    """Map a part.

    Raises:
        FileNotFoundError: if the part is gone: another run has merged or cleared it.
        DamagedPartError: if it is there but not whole.
    """
    keys = _map(folder, "keys.npy", KEY, ())
    features = _map(folder, "features.npy", np.dtype(np.float32), (2, dim))
    if len(keys) != len(features):
        raise DamagedPartError(f"{len(keys)} keys but {len(features)} features")
    if (keys[1:] <= keys[:-1]).any():
        raise DamagedPartError("keys.npy is not in order")
    return Part(folder, keys, features)


def _map(folder: Path, name: str, dtype: np.dtype[np.generic], row: tuple[int, ...]) -> np.ndarray:
    try:
        mapped = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        size = (folder / name).stat().st_size
    except FileNotFoundError:
        if folder.exists():
            raise DamagedPartError(f"{name} is missing") from None
        raise
    except (ValueError, EOFError) as error:  # a broken header, or fewer bytes than it promises
        raise DamagedPartError(f"{name}: {error}") from None
    if not isinstance(mapped, np.memmap) or mapped.dtype != dtype or mapped.shape[1:] != row:
        raise DamagedPartError(f"{name} holds something else")
    if size != mapped.offset + mapped.nbytes:
        raise DamagedPartError(f"{name} has {size} bytes, not {mapped.offset + mapped.nbytes}")
    return mapped


def write_part(
    parent: Path,
    keys: np.ndarray,
    sources: Sequence[np.ndarray],
    replaces: Sequence[Path] = (),
) -> Path:
    """Publish a part in `parent` and return its folder; only the holder of the lock may.

    Args:
        parent: the folder of the encoder.
        keys: N keys in the order of the rows of `sources`; of equal ones the first is kept.
        sources: arrays (n x 2 x d) of N rows together.
        replaces: parts that are wholly in this one.

    Raises:
        OSError: if it cannot be written; nothing is left behind then.
    """
    published = parent / f"part-{uuid.uuid4().hex}"
    ordered, order = np.unique(keys, return_index=True)
    with new_folder(published) as aside:
        with _synced(aside / REPLACES) as stream:
            stream.write("".join(f"{part.name}\n" for part in replaces).encode())
        _write_array(aside / "keys.npy", ordered.shape, KEY, [ordered])
        shape = (len(order), *sources[0].shape[1:])
        _write_array(aside / "features.npy", shape, np.dtype(np.float32), _gather(sources, order))
        _sync_folder(aside)
    _sync_folder(parent)
    return published


def _gather(sources: Sequence[np.ndarray], order: np.ndarray) -> Iterator[np.ndarray]:
    ends = np.cumsum([len(source) for source in sources])
    for start in range(0, len(order), COPIED_AT_ONCE):
        rows = order[start : start + COPIED_AT_ONCE]
        owners = np.searchsorted(ends, rows, side="right")
        chunk = np.empty((len(rows), *sources[0].shape[1:]), np.float32)
        for owner in np.unique(owners):
            mine = owners == owner
            chunk[mine] = sources[owner][rows[mine] - (ends[owner] - len(sources[owner]))]
        yield chunk


def _write_array(
    file: Path, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Iterable[np.ndarray]
) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with _synced(file) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for chunk in chunks:
            stream.write(np.ascontiguousarray(chunk, dtype).tobytes())


@contextmanager
def _synced(file: Path) -> Iterator[BinaryIO]:
    with file.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # only POSIX systems open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_part(folder: Path) -> None:
    """Take a part away so that no reader finds half of it; who has it mapped keeps it."""
    aside = folder.with_name(f"{ASIDE}{uuid.uuid4().hex}")
    with suppress(OSError):  # Windows keeps what is mapped: the next run tries again
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def clean(parent: Path) -> None:
    """Remove what a killed run left: half a part, or parts already merged into another."""
    for left in (*parent.glob(f"{ASIDE}*"), *parent.glob(UNFINISHED)):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    for file in parent.glob(f"part-*/{REPLACES}"):
        for name in file.read_text(encoding="utf-8").split():
            if (parent / name).is_dir():
                remove_part(parent / name)


def merge_alike(parent: Path, parts: Sequence[Part], dim: int) -> list[Part]:
    """Merge eight parts of about one size into one, as long as there are; the parts there are then.

    A row is copied once for each size it passes, so n rows cost at most n log8(n) copies, and at
    most seven parts of a size remain.

    Raises:
        OSError: if there is no room for a merged part; all parts still stand then.
    """
    alike: dict[int, list[Part]] = {}
    for part in parts:
        if len(part) < LARGEST_MERGE:
            alike.setdefault((len(part).bit_length() - 1) // 3, []).append(part)
    for members in alike.values():
        if len(members) >= MERGED:
            keys = np.concatenate([part.keys for part in members])
            replaced = [part.folder for part in members]
            merged = write_part(parent, keys, [part.features for part in members], replaced)
            for folder in replaced:
                remove_part(folder)
            others = [part for part in parts if part.folder not in replaced]
            return merge_alike(parent, [*others, open_part(merged, dim)], dim)
    return list(parts)
