"""`index.json`: what the folder of a local index holds, and whether it still is what it was."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinrank.errors import AnswerIndexError, NoAnswerIndexError
from twinrank.files import UNFINISHED, checksum, write_file

Kind = Literal["flat", "hnsw"]
CARD, LOCK = "index.json", ".lock"
# A card may come from anybody: it names files of its own folder alone.
FileName = Annotated[str, Field(pattern=r"^(vectors|rows)-[0-9a-f]{12}\.\w+$")]
MEND = "make it anew: twinrank index RANKER --to PLACE --fresh"


class Card(BaseModel):
    """`index.json`: what the folder holds, and the checksums of its files."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    kind: Kind
    fingerprint: str
    dim: int
    answers: int
    vectors: int
    files: dict[FileName, str]


def read_card(folder: Path) -> Card:
    """The card of an index, its files checked.

    Raises:
        NoAnswerIndexError: if there is none.
        AnswerIndexError: if a file is missing, or not as it was written.
    """
    file = folder / CARD
    if not file.is_file():
        raise NoAnswerIndexError(
            f"{folder}: no {CARD} here, so it is no index; make it: "
            f"twinrank index RANKER --to {folder}"
        )
    try:
        card = Card.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise AnswerIndexError(f"{file}: {place}: {first['msg']}; {MEND}") from None
    for name, expected in card.files.items():
        if not (folder / name).is_file():
            raise AnswerIndexError(f"{folder / name}: missing; {MEND}")
        if checksum(folder / name) != expected:
            raise AnswerIndexError(
                f"{folder / name}: not as {CARD} says it was written (checksum differs); {MEND}"
            )
    return card


def glanced(folder: Path) -> Card | None:
    """The card of an index whose files are not checked; none if there is no card that is whole."""
    file = folder / CARD
    try:
        return Card.model_validate_json(file.read_bytes()) if file.is_file() else None
    except (OSError, ValidationError):
        return None


def write_card(folder: Path, card: Card) -> None:
    """Put a card in the place of another, and remove the files that nobody names any more.

    The caller holds the folder's lock: `.tmp*` is what safetensors leaves when it is killed.
    """
    write_file(folder / CARD, card.model_dump_json(indent=2) + "\n")
    for pattern in ("vectors-*.faiss", "rows-*.safetensors", ".tmp*", UNFINISHED):
        for file in folder.glob(pattern):
            if file.name not in card.files:
                with suppress(OSError):  # still open, where that forbids it: the next one does
                    file.unlink()
