"""The local indexes of one place: each ranker's has a folder, named by its fingerprint.

A ranker finds its own there; the ranker that was replaced has its own still. What is made lies in
a folder beside, `NAME.new`, until it is whole and published. An index from before there were such
folders lies in the place itself: it is read there, and moved when another is made.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import FileLock

from twinrank.search.index.local_card import CARD, LOCK, glanced, read_card, write_card

DIGITS = 12  # of a fingerprint, in names
NEW = ".new"


def found(place: Path, fingerprint: str) -> Path:
    """The folder of a ranker's index; if it has none, of another's, or the place itself."""
    own = place / fingerprint[:DIGITS]
    if (own / CARD).is_file():
        return own
    others = [] if (place / CARD).is_file() else _versions(place)
    return others[-1] if others else place


def made(place: Path, fingerprint: str) -> Path:
    """The folder to make a ranker's index in; what lies in the place itself gets one, too."""
    if card := glanced(place):
        folder = place / card.fingerprint[:DIGITS]
        folder.mkdir(exist_ok=True)
        for name in [*card.files, CARD]:  # the card last: until then it is looked for where it was
            if (place / name).exists():
                (place / name).replace(folder / name)
    return place / f"{fingerprint[:DIGITS]}{NEW}"


def published(folder: Path) -> Path:
    """The folder where an index is found, from the one where it is: moved, if it was made anew.

    Of other rankers' indexes the one that was published last stays, and what nobody finished goes.
    """
    own = folder.with_suffix("") if folder.suffix == NEW else folder
    if folder != own:
        card = read_card(folder)
        own.mkdir(exist_ok=True)
        with FileLock(own / LOCK):
            for name in card.files:
                (folder / name).replace(own / name)
            write_card(own, card)
        for old in [*own.parent.glob(f"*{NEW}"), *_others(own)[:-1]]:
            shutil.rmtree(old)
    (own / CARD).touch()
    return own


def _others(own: Path) -> list[Path]:
    """The indexes of other rankers beside one, those published last at the end."""
    return [folder for folder in _versions(own.parent) if folder != own]


def _versions(place: Path) -> list[Path]:
    """The indexes that have folders there, the last published last."""
    folders = [card.parent for card in place.glob(f"*/{CARD}")]
    cards = [(folder, glanced(folder)) for folder in folders]
    own = [f for f, card in cards if card and card.fingerprint[:DIGITS] == f.name]
    return sorted(own, key=lambda folder: (folder / CARD).stat().st_mtime_ns)
