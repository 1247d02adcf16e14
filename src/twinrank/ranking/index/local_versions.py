"""The local indexes of one place: each ranker's has a folder, named by its fingerprint.

A ranker finds its own there; the ranker that was replaced has its own still. What is made lies in
a folder beside, `NAME.new`, until it is whole and published; who makes it has that folder's lock,
and a second process that makes the same takes `NAME-2.new`. An index from before there were such
folders lies in the place itself: it is read there, and moved when another is made.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from twinrank.ranking.index.local_card import CARD, LOCK, glanced, read_card, write_card

DIGITS = 12  # of a fingerprint, in names
NEW = ".new"


def found(place: Path, fingerprint: str) -> Path:
    """The folder of a ranker's index; if it has none, of another's, or the place itself."""
    own = place / fingerprint[:DIGITS]
    if (own / CARD).is_file():
        return own
    others = [] if (place / CARD).is_file() else _versions(place)
    return others[-1] if others else place


def made(place: Path, fingerprint: str) -> tuple[Path, FileLock]:
    """The folder to make a ranker's index in, and its lock, which is taken.

    What lies in the place itself gets a folder, too.
    """
    if glanced(place):
        _move_old(place)
    for number in count(1):
        more = f"-{number}" if number > 1 else ""
        folder = place / f"{fingerprint[:DIGITS]}{more}{NEW}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_of(folder)
        with suppress(Timeout, FileNotFoundError):  # another makes one there, or removes it now
            lock.acquire(blocking=False)
            return folder, lock
    raise AssertionError


def lock_of(folder: Path) -> FileLock:
    """The lock of who writes there; who has it may take it again."""
    return FileLock(folder / LOCK, is_singleton=True)


def published(folder: Path) -> Path:
    """The folder where an index is found, from the one where it is: moved, if it was made anew.

    Of other rankers' indexes the one that was published last stays, and what nobody finishes goes.
    """
    own = folder
    if folder.suffix == NEW:
        card = read_card(folder)
        own = folder.with_name(card.fingerprint[:DIGITS])
        own.mkdir(exist_ok=True)
        with lock_of(own):
            for name in card.files:
                (folder / name).replace(own / name)
            write_card(own, card)
    for left in own.parent.glob(f"*{NEW}"):
        with suppress(Timeout), lock_of(left).acquire(blocking=False):
            shutil.rmtree(left, ignore_errors=True)
    for old in _others(own)[:-1]:
        shutil.rmtree(old, ignore_errors=True)  # another may do so, too
    (own / CARD).touch()
    return own


def _move_old(place: Path) -> None:
    with lock_of(place):
        if card := glanced(place):  # still
            folder = place / card.fingerprint[:DIGITS]
            folder.mkdir(exist_ok=True)
            for name in [*card.files, CARD]:  # the card last: until then it is looked for there
                if (place / name).exists():
                    (place / name).replace(folder / name)


def _others(own: Path) -> list[Path]:
    """The indexes of other rankers beside one, those published last at the end."""
    return [folder for folder in _versions(own.parent) if folder != own]


def _versions(place: Path) -> list[Path]:
    """The indexes that have folders there, the last published last."""
    folders = [card.parent for card in place.glob(f"*/{CARD}")]
    cards = [(folder, glanced(folder)) for folder in folders]
    own = [f for f, card in cards if card and card.fingerprint[:DIGITS] == f.name]
    return sorted(own, key=lambda folder: (folder / CARD).stat().st_mtime_ns)
