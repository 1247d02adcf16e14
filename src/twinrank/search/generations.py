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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from twinrank import __version__
from twinrank.data.files import QUERIES
from twinrank.errors import RankerError
from twinrank.permissions import by_umask, make_private
from twinrank.search.card import (
    ANSWERS,
    CARD,
    ENCODER,
    FORMAT,
    LEFT,
    PAST,
    Card,
    aside,
    encoder_name,
    file_name,
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
                self._streams[name] = opening.enter_context(file.open("rb"))
                if name.endswith(TENSORS):
                    with suppress(SafetensorError):  # damaged: its checksum tells
                        self._tensors[name] = safe_open(file, "pt")
            for name, expected in card.files.items():
                self._check(name, expected)
            self._stack = opening.pop_all()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors.clear()
        self._stack.close()

    def stream(self, name: str) -> BufferedReader:
        """A file, from its beginning."""
        self._streams[name].seek(0)
        return self._streams[name]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """What a safetensors file holds, mapped into memory."""
        held = self._tensors[name]
        return {key: held.get_tensor(key) for key in held.keys()}  # noqa: SIM118 (no mapping)

    def _check(self, name: str, expected: str) -> None:
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
        RankerError: if another writes there, and this is not to wait for it.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        if not wait:
            raise RankerError(f"{path}: another writes here; try again later") from None
        log.warning("%s: waiting for another that writes here", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def put(path: Path, name: str, write: Writer) -> str:
    """Write a file under the name that its content gives it; give its checksum.

    People's texts are their owner's alone to read; the mode of other files is the umask's.
    """
    beside = path / aside(name)
    if name == PAST:
        make_private(beside)
        write(beside)
    else:
        with by_umask(beside):
            write(beside)
    with beside.open("rb") as stream:
        os.fsync(stream.fileno())
        checksum = _checksum(stream)
    beside.replace(path / file_name(name, checksum))
    return checksum


def swap(path: Path, card: Card, *, keep: bool) -> None:
    """Put a ranker, whose files are written, in place of the one that is there.

    Args:
        path: the folder; see `writing`.
        card: of the new ranker.
        keep: the old ranker, to go back to, instead of the one that it replaced.
    """
    there = _readable(path)
    kept = there and (there.model_copy(update={"previous": None}) if keep else there.previous)
    _replace(path, card.model_copy(update={"previous": kept}), there)


def rewrite(path: Path, change: Callable[[Opened], Mapping[str, Writer]]) -> None:
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
            _clear(path, set(), card.named)  # what a kill left
        else:
            _replace(path, changed, card)


def _rewritten(path: Path, card: Card, change: Callable[[Opened], Mapping[str, Writer]]) -> Card:
    """A card that names the changed files, which are written."""
    with Opened(path, card) as files:
        changes = dict(change(files))
        if not changes:
            return card
        if card.format == 1:  # its plain names would be others' too
            for name in set(card.files) - set(changes):
                changes[name] = partial(shutil.copyfile, path / name)
            if card.encoder:
                identity = str(card.encoder_identity)
                copy_encoder(path / card.encoder, path, identity)
        written = {name: put(path, name, write) for name, write in changes.items()}
    return card.model_copy(update={"format": FORMAT, "files": card.files | written})


def copy_encoder(folder: Path, path: Path, identity: str) -> None:
    """Put a tuned encoder into a ranker's folder, whole or not at all."""
    to = path / encoder_name(identity)
    if to.exists():
        return
    beside = path / aside(ENCODER)
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, beside)
    beside.rename(to)


def _replace(path: Path, card: Card, there: Card | None) -> None:
    """Put a card in place of the one that is there, and remove the files it does not name."""
    beside = path / aside(CARD)
    beside.write_text(card.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    with beside.open("rb") as stream:
        os.fsync(stream.fileno())
    beside.replace(path / CARD)
    before = there.named if there else set()
    if (path / QUERIES).exists():
        before.discard(ANSWERS)  # a data set's own
    _clear(path, before, card.named)


def _clear(path: Path, before: set[str], named: set[str]) -> None:
    """Remove what was a ranker's, or would have been, and is named no more."""
    for entry in path.iterdir():
        ours = LEFT.fullmatch(entry.name) or entry.name in before
        if ours and entry.name not in named:
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
        with file.open("rb") as stream:
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
            f"{file}: {place}: {first['msg']}; this twinrank ({__version__}) reads formats 1 to "
            f"{FORMAT}: train again, or use the version that wrote it"
        ) from None
    return card, (status.st_ino, status.st_mtime_ns, status.st_size)


def _checksum(stream: BufferedReader) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()
