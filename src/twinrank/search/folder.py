"""A ranker on disk: JSON, safetensors and the answers in BEIR's layout, with checksums."""

from __future__ import annotations

import hashlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor

from twinrank import __version__
from twinrank.data import Dataset, answer_texts, read_answers, write_answers
from twinrank.encode import Encoder, Store
from twinrank.errors import DataError, EncoderError, RankerError
from twinrank.model import Passages, Past, Towers
from twinrank.recipe import EncoderSettings, Recipe
from twinrank.search.bm25 import Bm25
from twinrank.search.confidence import Confidence
from twinrank.search.dense import Dense, Reader
from twinrank.search.fused import Fused
from twinrank.search.model_card import model_card
from twinrank.search.past import PastQueries
from twinrank.text import Idf, Selection

log = logging.getLogger(__name__)

FORMAT: Literal[1] = 1
CARD, ANSWERS, TOWERS, VECTORS, PAST, IDF, ENCODER, README = (
    "ranker.json",
    "corpus.jsonl",
    "towers.safetensors",
    "vectors.safetensors",
    "past.jsonl",
    "idf.json",
    "encoder",
    "README.md",
)
Channel = Bm25 | Dense | Fused


class Origin(BaseModel):
    """What a ranker was made from, and what it reached on the validation split.

    `folder` is where the data was, as it was given: often relative to where that was. `labelled`
    counts its labelled queries, by split and type.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    data_fingerprint: str
    folder: str | None = None
    seed: int
    quality: dict[str, Any] | None = None
    labelled: dict[str, dict[str, int]] | None = None

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
    """`ranker.json`."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = FORMAT
    twinrank: str = __version__
    recipe: Recipe
    origin: Origin
    encoder_identity: str | None = None
    scale: float | None = None
    weights: dict[str, float] | None = None
    confidence: Confidence | None = None
    answers: int
    files: dict[str, str]


@dataclass
class Contents:
    """What a ranker folder holds."""

    recipe: Recipe
    answers: pl.DataFrame
    channel: Channel
    origin: Origin
    confidence: Confidence | None


def save(path: Path, held: Contents) -> None:
    """Write a ranker folder. Every file is written beside and renamed, the card last.

    An encoder that was tuned for this ranker is copied there too, unless it is there already.
    README.md is for people: it is not checked when a ranker is loaded, and may be left out.
    """
    path.mkdir(parents=True, exist_ok=True)
    channel = held.channel
    dense, words = _dense_of(channel), _words_of(channel)
    if dense and held.recipe.tuning:
        _copy_encoder(dense.reader.encoder, path / ENCODER)
    beside = {ANSWERS: path / f"{ANSWERS}.tmp"}
    write_answers(held.answers, beside[ANSWERS])
    if dense:
        beside |= {name: path / f"{name}.tmp" for name in (TOWERS, VECTORS)}
        towers = {name: tensor.contiguous() for name, tensor in dense.towers.state_dict().items()}
        save_file(towers, beside[TOWERS])
        save_file(_tensors(dense, channel), beside[VECTORS])
        if dense.reader.selection:
            beside[IDF] = path / f"{IDF}.tmp"
            dense.reader.selection.idf.save(beside[IDF])
    if isinstance(channel, Fused) and channel.past:
        beside[PAST] = path / f"{PAST}.tmp"
        pl.DataFrame({"text": channel.past.texts}).write_ndjson(beside[PAST])
    card = Card(
        recipe=held.recipe,
        origin=held.origin,
        encoder_identity=dense.reader.encoder.identity if dense else None,
        scale=words.scale if words else None,
        weights=channel.weights if isinstance(channel, Fused) else None,
        confidence=held.confidence,
        answers=held.answers.height,
        files={name: _checksum(file) for name, file in beside.items()},
    )
    if text := _readme(path / README, held):
        beside[README] = path / f"{README}.tmp"
        beside[README].write_text(text, encoding="utf-8")
    beside[CARD] = path / f"{CARD}.tmp"
    beside[CARD].write_text(card.model_dump_json(indent=2, exclude_none=True) + "\n")
    for name, file in beside.items():
        file.replace(path / name)


def _readme(file: Path, held: Contents) -> str | None:
    """The text for README.md; none if another's stands there."""
    text = model_card(held, file.read_text(encoding="utf-8") if file.exists() else None)
    if text is None:
        log.warning("%s: not written by twinrank, so it stays as it is", file)
    return text


def _copy_encoder(encoder: Encoder, folder: Path) -> None:
    """Put a tuned encoder into a ranker's folder, whole or not at all."""
    own = Path(encoder.name)
    if folder.exists() and own.samefile(folder):
        return
    aside = folder.with_name(f".{folder.name}.tmp")
    for old in (aside, folder):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(own, aside)
    aside.rename(folder)


def _tensors(dense: Dense, channel: Channel) -> dict[str, Tensor]:
    """The vectors of answers, and the past queries without their texts."""
    tensors = {"vectors": dense.vectors.rows.contiguous()}
    if dense.vectors.owner is not None:
        tensors["owner"] = torch.as_tensor(dense.vectors.owner)
    if dense.past and isinstance(channel, Fused) and channel.past:
        tensors |= {"past": dense.past.vectors.contiguous(), "voters": dense.past.voters}
        tensors["votes"] = dense.past.answers
        tensors["newcomers"] = torch.as_tensor(channel.past.newcomers)
    return tensors


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


def load(path: Path, *, store: Store | None, device: str) -> Contents:
    """The parts of a ranker; see `Ranker.load`."""
    card = read_card(path)
    try:
        answers = read_answers(path / ANSWERS)
    except DataError as error:
        raise RankerError(str(error)) from None
    recipe = card.recipe
    words = _words(card, answers) if recipe.words else None
    channel: Channel
    if recipe.encoder is None:
        channel = words or Bm25(answer_texts(answers), language="english")
    else:
        channel = _opened(path, card, answers, words, store, device)
    return Contents(recipe, answers, channel, card.origin, card.confidence)


def _words(card: Card, answers: pl.DataFrame) -> Bm25:
    return Bm25(answer_texts(answers), language=card.recipe.language, scale=card.scale or 1.0)


def _opened(
    path: Path,
    card: Card,
    answers: pl.DataFrame,
    words: Bm25 | None,
    store: Store | None,
    device: str,
) -> Dense | Fused:
    settings = card.recipe.encoder
    assert settings is not None  # noqa: S101 (load chose)
    idf = Idf.load(path / IDF) if card.recipe.selects else None
    try:
        reader = reader_of(card.recipe, store, device, idf=idf, home=path)
    except EncoderError as error:
        raise RankerError(f"{path}: its encoder cannot be opened: {error}") from None
    encoder = reader.encoder
    if encoder.identity != card.encoder_identity:
        raise RankerError(
            f"{path}: made with an encoder {settings.name!r} whose weights or tokenizer differ "
            f"from the one found here (identity {card.encoder_identity}, here {encoder.identity}); "
            "install the encoder it was made with, or train again"
        )
    try:
        state = load_file(path / TOWERS)
        tensors = load_file(path / VECTORS)
        towers = towers_of(card.recipe, encoder.dim)
        towers.load_state_dict(state)
        owner = tensors["owner"].numpy() if "owner" in tensors else None
        vectors = Passages(tensors["vectors"], owner, answers.height)
        voted = None
        if card.recipe.memory:
            voted = Past(*(tensors[name] for name in ("past", "voters", "votes")))
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise RankerError(f"{path}: towers do not fit the recipe: {error}") from None
    dense = Dense(reader, towers.eval(), vectors, voted)
    if not card.recipe.fused:
        return dense
    past = _past(path, voted, tensors["newcomers"].numpy()) if voted else None
    return Fused(dense, past=past, words=words, recipe=card.recipe, weights=card.weights or {})


def _past(path: Path, voted: Past, newcomers: np.ndarray) -> PastQueries:
    texts = pl.read_ndjson(path / PAST, schema={"text": pl.String})["text"].to_list()
    votes = (voted.voters.numpy(), voted.answers.numpy())
    ones = np.ones(len(voted.voters), np.float32)
    labels = sparse.csr_array((ones, votes), shape=(len(texts), len(newcomers)))
    return PastQueries(texts, labels, newcomers)


def _dense_of(channel: Channel) -> Dense | None:
    inner = channel.dense if isinstance(channel, Fused) else channel
    return inner if isinstance(inner, Dense) else None


def _words_of(channel: Channel) -> Bm25 | None:
    inner = channel.words if isinstance(channel, Fused) else channel
    return inner if isinstance(inner, Bm25) else None


def reader_of(
    recipe: Recipe,
    store: Store | None,
    device: str,
    *,
    idf: Idf | None = None,
    home: Path | None = None,
) -> Reader:
    """What reads texts for a recipe of the `dense` channel.

    Args:
        recipe: names the encoder.
        store: see `Reader`.
        device: where the encoder runs.
        idf: of words, if the recipe chooses sentences.
        home: see `encoder_of`.
    """
    settings = recipe.encoder or EncoderSettings()
    encoder = encoder_of(recipe, device, home=home)
    selection = None
    if idf:
        how = (recipe.language, encoder.count_tokens, encoder.max_tokens)
        selection = Selection(idf, *how, by_section=settings.text == "sections")
    sections = settings.answers == "sections"
    return Reader(encoder, settings.pooling, store, selection=selection, sections=sections)


def encoder_of(recipe: Recipe, device: str = "auto", *, home: Path | None = None) -> Encoder:
    """The encoder of a recipe of the `dense` channel.

    Args:
        recipe: names it.
        device: where it runs.
        home: the ranker's folder, in which it is if it was tuned; none gives the one that
            tuning starts from.
    """
    settings = recipe.encoder or EncoderSettings()
    return Encoder(
        str(home / ENCODER) if home and recipe.tuning else settings.name,
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
    return Towers(
        settings.kind,
        dim,
        dual=settings.dual,
        dropout=settings.dropout,
        base=base,
        memory=recipe.memory is not None,
    )


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
