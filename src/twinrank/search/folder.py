"""A ranker on disk: JSON, safetensors and the answers in BEIR's layout, with checksums."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from twinrank import __version__
from twinrank.data import Dataset, answer_texts, read_answers, write_answers
from twinrank.encode import Encoder, FeatureStore
from twinrank.errors import DataError, EncoderError, RankerError
from twinrank.model import Towers
from twinrank.recipe import EncoderSettings, Recipe
from twinrank.search.bm25 import Bm25
from twinrank.search.dense import Dense, Reader

log = logging.getLogger(__name__)

FORMAT: Literal[1] = 1
CARD, ANSWERS, TOWERS, VECTORS = (
    "ranker.json",
    "corpus.jsonl",
    "towers.safetensors",
    "vectors.safetensors",
)


class Origin(BaseModel):
    """What a ranker was made from, and what it reached on the validation split.

    `folder` is where the data was, as it was given: often relative to where that was.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    data_fingerprint: str
    folder: str | None = None
    seed: int
    quality: dict[str, Any] | None = None

    def dataset(self) -> Dataset:
        """The data, if it still is where it was.

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
            log.warning("%s: not what it was when the ranker was trained", self.folder)
        return dataset


class Card(BaseModel):
    """`ranker.json`."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = FORMAT
    twinrank: str = __version__
    recipe: Recipe
    origin: Origin
    encoder_identity: str | None = None
    scale: float | None = None
    answers: int
    files: dict[str, str]


def save(
    path: Path, recipe: Recipe, answers: pl.DataFrame, channel: Bm25 | Dense, origin: Origin
) -> None:
    """Write a ranker folder. Every file is written beside and renamed, the card last."""
    path.mkdir(parents=True, exist_ok=True)
    beside = {ANSWERS: path / f"{ANSWERS}.tmp"}
    write_answers(answers, beside[ANSWERS])
    if isinstance(channel, Dense):
        beside |= {name: path / f"{name}.tmp" for name in (TOWERS, VECTORS)}
        towers = {name: tensor.contiguous() for name, tensor in channel.towers.state_dict().items()}
        save_file(towers, beside[TOWERS])
        save_file({"vectors": channel.vectors.contiguous()}, beside[VECTORS])
    card = Card(
        recipe=recipe,
        origin=origin,
        encoder_identity=channel.reader.encoder.identity if isinstance(channel, Dense) else None,
        scale=channel.scale if isinstance(channel, Bm25) else None,
        answers=answers.height,
        files={name: _checksum(file) for name, file in beside.items()},
    )
    beside[CARD] = path / f"{CARD}.tmp"
    beside[CARD].write_text(card.model_dump_json(indent=2, exclude_none=True) + "\n")
    for name, file in beside.items():
        file.replace(path / name)


def read_card(path: Path) -> Card:
    """The card of a ranker folder, its files checked.

    Raises:
        RankerError: if it is no ranker folder, or a file is missing or not as it was written.
    """
    file = path / CARD
    if not file.is_file():
        unfinished = (path / "checkpoint.safetensors").exists()
        mend = "its training has not finished: run it again" if unfinished else "check the path"
        raise RankerError(f"{path}: no {CARD} here, so it is no ranker folder; {mend}")
    try:
        card = Card.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RankerError(
            f"{file}: {place}: {first['msg']}; this twinrank ({__version__}) reads format "
            f"{FORMAT}: train again, or use the version that wrote it"
        ) from None
    for name, expected in card.files.items():
        if not (path / name).is_file():
            raise RankerError(f"{path / name}: missing; copy the whole folder, or train again")
        if _checksum(path / name) != expected:
            raise RankerError(
                f"{path / name}: not as {CARD} says it was written (checksum differs); "
                "copy the folder again, or train again"
            )
    return card


def load(
    path: Path, *, store: FeatureStore | None, device: str
) -> tuple[Recipe, pl.DataFrame, Bm25 | Dense, Origin]:
    """The parts of a ranker; see `Ranker.load`."""
    card = read_card(path)
    try:
        answers = read_answers(path / ANSWERS)
    except DataError as error:
        raise RankerError(str(error)) from None
    channel: Bm25 | Dense
    if card.recipe.encoder is None:
        channel = _words(card, answers)
    else:
        channel = _dense(path, card, store, device)
    return card.recipe, answers, channel, card.origin


def _words(card: Card, answers: pl.DataFrame) -> Bm25:
    language = card.recipe.words.language if card.recipe.words else "english"
    return Bm25(answer_texts(answers), language=language, scale=card.scale or 1.0)


def _dense(path: Path, card: Card, store: FeatureStore | None, device: str) -> Dense:
    settings = card.recipe.encoder
    assert settings is not None  # noqa: S101 (load chose)
    try:
        encoder = encoder_of(card.recipe, device)
    except EncoderError as error:
        raise RankerError(f"{path}: its encoder cannot be opened: {error}") from None
    if encoder.identity != card.encoder_identity:
        raise RankerError(
            f"{path}: made with an encoder {settings.name!r} whose weights or tokenizer differ "
            f"from the one found here (identity {card.encoder_identity}, here {encoder.identity}); "
            "install the encoder it was made with, or train again"
        )
    try:
        state = load_file(path / TOWERS)
        vectors = load_file(path / VECTORS)["vectors"]
        towers = towers_of(card.recipe, encoder.dim)
        towers.load_state_dict(state)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise RankerError(f"{path}: towers do not fit the recipe: {error}") from None
    return Dense(Reader(encoder, settings.pooling, store), towers.eval(), vectors)


def encoder_of(recipe: Recipe, device: str = "auto") -> Encoder:
    """The encoder of a recipe of the `dense` channel."""
    settings = recipe.encoder or EncoderSettings()
    return Encoder(
        settings.name,
        max_tokens=settings.max_tokens,
        precision=settings.precision,
        device=device,
    )


def towers_of(recipe: Recipe, dim: int) -> Towers:
    """Fresh towers as a recipe's ranker has them, for features `dim` wide."""
    if recipe.towers is None:
        return Towers("none", dim)
    base = recipe.pretraining is not None and recipe.pretraining.use == "freeze"
    settings = recipe.towers
    return Towers(settings.kind, dim, dual=settings.dual, dropout=settings.dropout, base=base)


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
