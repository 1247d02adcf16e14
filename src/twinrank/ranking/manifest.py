"""The manifest of a ranker's version: its recipe, where it comes from, its numbers, its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from twinrank import __version__
from twinrank.data import Dataset
from twinrank.errors import RankerError
from twinrank.ranking.confidence import Confidence
from twinrank.recipe import Recipe

# A manifest may come from anybody: it names files of its folder alone, and bounded numbers.
FileName = Literal[
    "corpus.jsonl",
    "towers.safetensors",
    "vectors.safetensors",
    "past.jsonl",
    "idf.json",
    "removed.jsonl",
    "index.faiss",
]
FILES: tuple[FileName, ...] = get_args(FileName)
ANSWERS, TOWERS, VECTORS, PAST, IDF, REMOVED, INDEX = FILES
ENCODER, DIGITS = "encoder", 12
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Weight = Annotated[FiniteFloat, Field(ge=-1e6, le=1e6)]


class Learned(BaseModel):
    """The feedback that a ranker learned from.

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
    """The data a ranker was made from, and the quality it reached on the validation split.

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
        """Load the data, if it still is where it was, and unchanged.

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


class Manifest(BaseModel):
    """The content of `manifest.json`.

    Attributes:
        files: sha256 of each file of the version.
        encoder_folder: where the encoder was, if the recipe names a folder relative to another.
        relative_folders: the way from the ranker's folder to those of `data` and `encoder`: all
            of them may be moved together.
    """

    model_config = ConfigDict(frozen=True)

    twinrank: str = __version__
    recipe: Recipe
    origin: Origin
    encoder_identity: Checksum | None = None
    scale: Weight | None = None
    weights: dict[str, Weight] | None = None
    confidence: Confidence | None = None
    answers: int
    files: dict[FileName, Checksum] = {}
    encoder_folder: str | None = None
    relative_folders: dict[str, str] = {}

    def folders(self, content: Literal["data", "encoder"], ranker: Path) -> list[Path]:
        """Return the existing folders where the data or the encoder may be."""
        absolute = self.origin.folder if content == "data" else self.encoder_folder
        relative = self.relative_folders.get(content)
        folders = [absolute and Path(absolute), relative and ranker.resolve() / relative]
        return [folder for folder in folders if folder and folder.is_dir()]

    @property
    def encoder(self) -> str | None:
        """Name of the ranker's folder with the encoder that was tuned for it, if one was."""
        if self.recipe.tuning is None or self.encoder_identity is None:
            return None
        return encoder_name(self.encoder_identity)


def encoder_name(identity: str) -> str:
    """Name the folder of a tuned encoder, which all versions with that encoder share."""
    return f"{ENCODER}-{identity[:DIGITS]}"
