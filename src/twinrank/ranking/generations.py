"""A ranker's folder while it changes: one ranker in place of another at once, never half of it.

Files of a ranker are never changed. A new one is written beside them, `ranker.json` is renamed over
the old one, and what it no longer names is removed. Who reads opens every file before it reads any:
what is open stays readable, and what vanished before makes it begin anew with the new card.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from twinrank import __version__
from twinrank.errors import RankerError
from twinrank.files import new_folder, write_by_content, write_file
from twinrank.ranking.card import (
    CARD,
    FORMAT,
    LEFT,
    PAST,
    REMOVED,
    Card,
    FileName,
    encoder_name,
)

LOCK = ".lock"
TENSORS = ".safetensors"
Result = TypeVar("Result")
Version = tuple[int, int, int]
Writer = Callable[[Path], object]

log = logging.getLogger(__name__)


class Opened:
    """The files of a ranker, open and checked against its card.

    Args:
        path: the folder.
        card: read from it.

    Raises:
        FileNotFoundError: if a file is missing.
        RankerError: if one is not as it was written.
    """

    def __init__(self, path: Path, card: Card) -> None:
        self.path, self.card = path, card
        self._stack = ExitStack()
        self._streams: dict[str, BufferedReader] = {}
        self._tensors: dict[str, Any] = {}  # safetensors has no types
        with self._stack as opening:
            for name in card.files:
                file = path / card.file(name)
                self._streams[name] = opening.enter_context(open_file(file))
                if name.endswith(TENSORS):
                    with suppress(SafetensorError):  # damaged: its checksum tells
                        self._tensors[name] = safe_open(file, "np")
            for name, expected in card.files.items():
                self._check(name, expected)
            self._stack = opening.pop_all()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors.clear()
        self._stack.close()

    def stream(self, name: str) -> BufferedReader:
        """A file, from its beginning.

        Raises:
            RankerError: if the card names none.
        """
        if name not in self._streams:
            raise RankerError(f"{self.path / CARD}: names no {name}; copy the folder again")
        self._streams[name].seek(0)
        return self._streams[name]

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """Return what a safetensors file holds."""
        held = self._tensors[name]
        return {key: held.get_tensor(key) for key in held.keys()}  # noqa: SIM118 (no mapping)

    def _check(self, name: FileName, expected: str) -> None:
        if _checksum(self._streams[name]) != expected:
            raise RankerError(
                f"{self.path / self.card.file(name)}: not as {CARD} says it was written (checksum "
                "differs); copy the folder again, or train again"
            )


def read(path: Path, use: Callable[[Opened], Result], *, previous: bool = False) -> Result:
    """What is made of a ranker's files; begun anew if another takes its place meanwhile.

    Args:
        path: the folder.
        use: is called with them, perhaps more than once.
        previous: read the ranker that was kept when another took its place.

    Raises:
        RankerError: if it is no ranker folder, or a file is missing or not as it was written, or
            if no previous ranker was kept.
    """
    while True:
        card, version = _card(path)
        chosen = card.previous if previous else card
        if chosen is None:
            raise RankerError(
                f"{path}: no previous ranker is kept here; only `twinrank learn` keeps the one it "
                "replaces"
            )
        try:
            with Opened(path, chosen) as files:
                return use(files)
        except (RankerError, OSError) as error:
            if _card(path)[1] != version:
                continue
            if isinstance(error, FileNotFoundError) and error.filename:
                raise RankerError(
                    f"{error.filename}: missing; copy the whole folder, or train again"
                ) from None
            raise


def read_card(path: Path) -> Card:
    """The card of a ranker folder, its files checked.

    Raises:
        RankerError: as `read` does.
    """
    return read(path, lambda files: files.card)


@contextmanager
def writing(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Take turns with all others that write into a folder; the system lets go of who is killed.

    Who holds it already may enter again.

    Raises:
        RankerError: if nobody may write there, or another does and this is not to wait for it.
    """
    lock = FileLock(path / LOCK, is_singleton=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            if not wait:
                raise RankerError(f"{path}: another writes here; try again later") from None
            log.warning("%s: waiting for another that writes here", path)
            lock.acquire()
    except OSError as error:
        raise RankerError(
            f"{path}: cannot be written to ({error.strerror or error}); check whose it is, and "
            "that it is not read-only"
        ) from None
    try:
        yield
    finally:
        lock.release()


def put(path: Path, name: str, write: Writer) -> str:
    """Write a file under the name that its content gives it; give its checksum.

    People's texts are their owner's alone to read.
    """
    return write_by_content(path / name, write, private=name in (PAST, REMOVED))[1]


def swap(path: Path, card: Card, *, keep: bool) -> None:
    """Put a ranker, whose files are written, in place of the one that is there.

    Args:
        path: the folder; see `writing`.
        card: of the new ranker.
        keep: the old ranker, to go back to, instead of the one that it replaced.
    """
    there = _readable(path)
    kept = there and (there.model_copy(update={"previous": None}) if keep else there.previous)
    _replace(path, card.model_copy(update={"previous": kept}))


def rewrite(path: Path, change: Callable[[Opened], Mapping[FileName, Writer]]) -> None:
    """Write files of the ranker that is there, and of the one that was kept, anew in their place.

    Args:
        path: the folder.
        change: gives, of an opened ranker, what writes each file that is to change.
    """
    with writing(path):
        card = _card(path)[0]
        previous = card.previous and _rewritten(path, card.previous, change)
        changed = _rewritten(path, card, change).model_copy(update={"previous": previous})
        if changed == card:
            _clear(path, card.named)  # what a kill left
        else:
            _replace(path, changed)


def _rewritten(
    path: Path, card: Card, change: Callable[[Opened], Mapping[FileName, Writer]]
) -> Card:
    """A card that names the changed files, which are written."""
    with Opened(path, card) as files:
        changes = dict(change(files))
        if not changes:
            return card
        written = {name: put(path, name, write) for name, write in changes.items()}
    return card.model_copy(update={"files": card.files | written})


def copy_encoder(folder: Path, path: Path, identity: str) -> None:
    """Put a tuned encoder into a ranker's folder, whole or not at all."""
    to = path / encoder_name(identity)
    if to.exists():
        return
    with new_folder(to) as beside:
        shutil.copytree(folder, beside, dirs_exist_ok=True)


def _replace(path: Path, card: Card) -> None:
    """Put a card in place of the one that is there, and remove the files it does not name."""
    write_file(path / CARD, card.model_dump_json(indent=2, exclude_none=True) + "\n")
    _clear(path, card.named)


@contextmanager
def undone(path: Path) -> Iterator[None]:
    """Remove what a change that fails has written, such as half a file on a full disk."""
    try:
        yield
    except BaseException:
        with suppress(OSError, RankerError):  # a card that cannot be read may name any of them
            named = _card(path)[0].named if (path / CARD).exists() else set()
            _clear(path, named)
        raise


def open_file(file: Path) -> BufferedReader:
    """Open a regular file to be read; a pipe or a device could be waited for for ever.

    Raises:
        RankerError: if it is another.
    """
    opened = os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise RankerError(f"{file}: no regular file; copy the folder again, or train again")
    return opened


def _clear(path: Path, named: set[str]) -> None:
    """Remove what was a ranker's, or would have been, and is named no more."""
    for entry in path.iterdir():
        if LEFT.fullmatch(entry.name) and entry.name not in named:
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with suppress(OSError):  # still open, where that forbids it: the next one does
                    entry.unlink()


def _readable(path: Path) -> Card | None:
    """The card that is there, if there is one that can be read."""
    try:
        return _card(path)[0]
    except RankerError:
        return None


def _card(path: Path) -> tuple[Card, Version]:
    """The card that is there now, and what tells it from the next."""
    file = path / CARD
    try:
        with open_file(file) as stream:
            status = os.fstat(stream.fileno())
            text = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        unfinished = (path / "checkpoint.safetensors").exists()
        mend = "its training has not finished: run it again" if unfinished else "check the path"
        raise RankerError(f"{path}: no {CARD} here, so it is no ranker folder; {mend}") from None
    try:
        card = Card.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RankerError(
            f"{file}: {place}: {first['msg']}; this twinrank ({__version__}) reads format "
            f"{FORMAT}: train again (in the same folder with --fresh)"
        ) from None
    return card, (status.st_ino, status.st_mtime_ns, status.st_size)


def _checksum(stream: BufferedReader) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()
