"""`ranker.json`: what a ranker is, where it comes from, and the names of its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from twinrank import __version__
from twinrank.data import Dataset
from twinrank.errors import RankerError
from twinrank.files import DIGITS, name_by_content
from twinrank.ranking.confidence import Confidence
from twinrank.recipe import Recipe

FORMAT: Literal[3] = 3
CARD, README, ENCODER = "ranker.json", "README.md", "encoder"
# A card may come from anybody: it names files of its folder alone, and numbers that scores bear.
FileName = Literal[
    "corpus.jsonl",
    "towers.safetensors",
    "vectors.safetensors",
    "past.jsonl",
    "idf.json",
    "removed.jsonl",
]
FILES: tuple[FileName, ...] = get_args(FileName)
ANSWERS, TOWERS, VECTORS, PAST, IDF, REMOVED = FILES
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Weight = Annotated[FiniteFloat, Field(ge=-1e6, le=1e6)]


class Learned(BaseModel):
    """What a ranker was taught by feedback.

    Attributes:
        fingerprint: of the data and the queries that were added to it.
        queries: how many those are.
        hold_back: share of the texts that were held back.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    queries: int
    hold_back: float


class Origin(BaseModel):
    """What a ranker was made from, and what it reached on the validation split.

    `folder` is where the data was. `labelled` counts its labelled queries, by split and type, with
    those that it `learned` from feedback.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    data_fingerprint: str
    folder: str | None = None
    seed: int
    quality: dict[str, Any] | None = None
    labelled: dict[str, dict[str, int]] | None = None
    learned: Learned | None = None

    def dataset(self) -> Dataset:
        """The data, if it still is where it was, and what it was.

        Raises:
            RankerError: if it is not, or is not known to be.
        """
        if self.folder is None or not Path(self.folder).is_dir():
            where = f"not at {self.folder}" if self.folder else "of an unknown folder"
            raise RankerError(
                f"the data this ranker was trained on ({self.data}) is {where}; give --data"
            )
        dataset = Dataset.load(Path(self.folder))
        if dataset.fingerprint != self.data_fingerprint:
            raise RankerError(
                f"{self.folder}: no longer the data this ranker was trained on (its fingerprint "
                f"was {self.data_fingerprint}, now it is {dataset.fingerprint}), so that it may "
                f"have seen what is measured; give --data {self.folder} to measure all the same"
            )
        return dataset


class Card(BaseModel):
    """What `ranker.json` says.

    Attributes:
        format: of the folder; another one is not read.
        files: sha256 of each file, by its plain name. The name in the folder holds the checksum,
            and that of the encoder's folder its identity, so that a new ranker is written beside
            the old one.
        encoder_folder: where the encoder was, if the recipe names a folder relative to another.
        beside: the way from the ranker's folder to those of `data` and `encoder`: all of them may
            be moved together.
        previous: the ranker that stood here before, if it was kept to go back to.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[3] = FORMAT
    twinrank: str = __version__
    recipe: Recipe
    origin: Origin
    encoder_identity: Checksum | None = None
    scale: Weight | None = None
    weights: dict[str, Weight] | None = None
    confidence: Confidence | None = None
    answers: int
    files: dict[FileName, Checksum]
    encoder_folder: str | None = None
    beside: dict[str, str] = {}
    previous: Card | None = None

    def file(self, name: FileName) -> str:
        """The name, in the folder, of one of `files`."""
        return name_by_content(name, self.files[name])

    def places(self, what: str, home: Path) -> list[Path]:
        """The folders where the `data` or the `encoder` may be, those that are there."""
        known = self.origin.folder if what == "data" else self.encoder_folder
        near = home.resolve() / self.beside[what] if what in self.beside else None
        folders = [Path(known) if known else None, near]
        return [folder for folder in folders if folder and folder.is_dir()]

    @property
    def encoder(self) -> str | None:
        """The folder of its own encoder, if it was tuned for this ranker."""
        if self.recipe.tuning is None or self.encoder_identity is None:
            return None
        return encoder_name(self.encoder_identity)

    @property
    def named(self) -> set[str]:
        """All that it names in its folder, and the previous one too."""
        names = {self.file(name) for name in self.files} | {self.encoder or CARD}
        return names | (self.previous.named if self.previous else set())


def encoder_name(identity: str) -> str:
    """The name of the folder of an encoder."""
    return f"{ENCODER}-{identity[:DIGITS]}"


def _patterns() -> str:
    checksum = f"-[0-9a-f]{{{DIGITS}}}"
    whole = [f"{stem}{checksum}[.]{suffix}" for stem, suffix in (f.split(".") for f in FILES)]
    names = "|".join(re.escape(name) for name in (*FILES, CARD, README))
    written = rf"[.]({names}|{ENCODER}.*)([.]\w+)?[.]tmp"
    safetensors_own = r"[.]tmp\w{6}"
    return "|".join([*whole, ENCODER + checksum, written, safetensors_own])


# What saving rankers may leave in a folder, but for the card, README.md and the lock.
LEFT = re.compile(_patterns())
