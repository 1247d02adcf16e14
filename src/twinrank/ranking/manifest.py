"""The parts of a ranker, and the manifest that its folder has of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from twinrank import __version__
from twinrank.data import Dataset
from twinrank.errors import RankerError
from twinrank.files import is_folder
from twinrank.ranking.scoring import Confidence, Scoring
from twinrank.recipe import Recipe

# A manifest may come from anybody: it names files of its folder alone.
FileName = Literal[
    "corpus.jsonl",
    "towers.safetensors",
    "vectors.safetensors",
    "past.jsonl",
    "idf.json",
    "removed.jsonl",
    "index.faiss",
]
ANSWERS, TOWERS, VECTORS, PAST, IDF, REMOVED, INDEX = get_args(FileName)
ENCODER, DIGITS = "encoder", 12
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
EncoderName = Annotated[str, Field(pattern=f"^{ENCODER}-[0-9a-f]{{{DIGITS}}}$")]


class Learned(BaseModel):
    """The feedback that a ranker learned from: queries that were added to the data.

    The fingerprint is of both; `hold_back` is the share of the texts that were held back.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    queries: int
    hold_back: float
    on: date | None = None  # the day (UTC); rankers of before have none


class Origin(BaseModel):
    """The data a ranker was made from, and the quality it reached on the validation split.

    `folder` is where the data was. `labelled` counts its labelled queries, by split and type, with
    those that it `learned` from feedback. If `refit`, it was trained again on train and validation
    together, after quality and confidence were measured on validation.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    data_fingerprint: str
    folder: str | None = None
    seed: int
    quality: dict[str, Any] | None = None
    labelled: dict[str, dict[str, int]] | None = None
    learned: Learned | None = None
    refit: bool = False

    def dataset(self) -> Dataset:
        """Load the data, if it still is where it was, and unchanged.

        Raises:
            RankerError: if it is not, or is not known to be.
        """
        if self.folder is None or not is_folder(self.folder):
            raise RankerError(
                f"the data this ranker was trained on ({self.data}) is not at {self.folder}; "
                "give --data"
            )
        dataset = Dataset.load(Path(self.folder))
        if dataset.fingerprint != self.data_fingerprint:
            raise RankerError(
                f"{self.folder}: no longer the data this ranker was trained on (its fingerprint "
                f"was {self.data_fingerprint}, now it is {dataset.fingerprint}), so that it may "
                f"have seen what is measured; give --data {self.folder} to measure all the same"
            )
        return dataset


class Removed(BaseModel):
    """An answer that was removed, and what it needs to come back as it was.

    Attributes:
        at: when.
        answer: its row of `Ranker.answers`.
        past: texts of the past queries that were labelled with it.
        newcomer: whether it was added after training.
        ranker: fingerprint of the ranker whose towers learned `offset`.
        offset: of the answer, if they learned any.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    answer: dict[str, Any]
    past: tuple[str, ...] = ()
    newcomer: bool = True
    ranker: str
    offset: tuple[float, ...] | None = None


@dataclass
class Contents:
    """The parts of a ranker that its folder holds.

    Attributes:
        recipe: how it was made.
        answers: as in `Dataset.answers`, in the order of the scores' columns.
        scoring: the signals that score them, and their weights.
        origin: what it was trained on, and what it reached there.
        confidence: how likely its first answer is right; None without a validation split.
        removed: answers that `Ranker.restore_answer` can bring back.
    """

    recipe: Recipe
    answers: pl.DataFrame
    scoring: Scoring
    origin: Origin
    confidence: Confidence | None = None
    removed: tuple[Removed, ...] = ()


class Manifest(BaseModel):
    """The content of `manifest.json`.

    Attributes:
        files: sha256 of each file of the version.
        packaged: the folders of the ranker's folder that hold its encoders, each converted.
        encoder_folder: where the encoder was, if the recipe names a folder relative to another.
        relative_folders: the way from the ranker's folder to those of `data` and `encoder`: all
            of them may be moved together.
    """

    model_config = ConfigDict(frozen=True)

    twinrank: str = __version__
    recipe: Recipe
    origin: Origin
    encoder_identity: Checksum | None = None
    scale: FiniteFloat | None = None
    weights: dict[str, FiniteFloat] | None = None
    confidence: Confidence | None = None
    answers: int
    files: dict[FileName, Checksum] = {}
    packaged: tuple[EncoderName, ...] | None = None
    encoder_folder: str | None = None
    relative_folders: dict[str, str] = {}

    def find_folder(self, content: Literal["data", "encoder"], ranker: Path) -> Path | None:
        """Return the folder where the data or the encoder is: where it was, or moved along."""
        absolute = self.origin.folder if content == "data" else self.encoder_folder
        relative = self.relative_folders.get(content)
        folders = [absolute and Path(absolute), relative and ranker.resolve() / relative]
        return next((folder for folder in folders if folder and is_folder(folder)), None)

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the folders, in the ranker's, with the encoders that were tuned or packaged."""
        if self.packaged or self.recipe.tuning is None or self.encoder_identity is None:
            return self.packaged or ()
        return (encoder_name(self.encoder_identity),)


def encoder_name(identity: str) -> str:
    """Name the folder of an encoder in a ranker's, which all versions with that encoder share."""
    return f"{ENCODER}-{identity[:DIGITS]}"
