"""The local indexes of one place: each ranker's has a folder, named by its fingerprint.

A ranker finds its own there, so that the index of another is made beside it, and the ranker that
was replaced has its own still. An index from before there were such folders lies in the place
itself: it is read there, and moved when another is made.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from twinrank.search.index.local_card import CARD, glanced

DIGITS = 12  # of a fingerprint, in names


def found(place: Path, fingerprint: str) -> Path:
    """The folder of a ranker's index; if it has none, of another's, or the place itself."""
    own = place / fingerprint[:DIGITS]
    if (own / CARD).is_file():
        return own
    others = [] if (place / CARD).is_file() else _versions(place)
    return others[-1] if others else place


def made(place: Path, fingerprint: str) -> Path:
    """The folder for a ranker's index; what lies in the place itself gets one, too."""
    if card := glanced(place):
        folder = place / card.fingerprint[:DIGITS]
        folder.mkdir(exist_ok=True)
        for name in [*card.files, CARD]:  # the card last: until then it is looked for where it was
            if (place / name).exists():
                (place / name).replace(folder / name)
    return place / fingerprint[:DIGITS]


def retire(published: Path) -> None:
    """Remove the indexes of all rankers but this, and the one that was last written before it."""
    versions = _versions(published.parent)
    if published in versions:
        versions.remove(published)
        for folder in versions[:-1]:
            shutil.rmtree(folder)


def _versions(place: Path) -> list[Path]:
    """The indexes that have folders there, the last written last."""
    folders = [card.parent for card in place.glob(f"*/{CARD}")]
    cards = [(folder, glanced(folder)) for folder in folders]
    own = [f for f, card in cards if card and card.fingerprint[:DIGITS] == f.name]
    return sorted(own, key=lambda folder: (folder / CARD).stat().st_mtime_ns)
