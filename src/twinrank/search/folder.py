"""A ranker on disk: JSON, safetensors and the answers in BEIR's layout, with checksums."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file
from scipy import sparse
from torch import Tensor

from twinrank.data import answer_texts, read_answers, write_answers
from twinrank.encode import Store
from twinrank.errors import EncoderError, RankerError
from twinrank.model import Passages, Past
from twinrank.recipe import Recipe
from twinrank.search.bm25 import Bm25
from twinrank.search.card import (
    ANSWERS,
    IDF,
    PAST,
    README,
    TOWERS,
    VECTORS,
    Card,
    Origin,
    aside,
)
from twinrank.search.confidence import Confidence
from twinrank.search.dense import Dense
from twinrank.search.fused import Fused
from twinrank.search.generations import (
    Opened,
    copy_encoder,
    put,
    read,
    read_card,
    rewrite,
    swap,
    writing,
)
from twinrank.search.model_card import model_card
from twinrank.search.parts import reader_of, towers_of
from twinrank.search.past import PastQueries
from twinrank.text import Idf

log = logging.getLogger(__name__)

Channel = Bm25 | Dense | Fused
PAST_FIELDS = {"id": pl.String, "text": pl.String}


@dataclass
class Contents:
    """What a ranker folder holds."""

    recipe: Recipe
    answers: pl.DataFrame
    channel: Channel
    origin: Origin
    confidence: Confidence | None


def save(path: Path, held: Contents, *, keep: bool = False) -> None:
    """Write a ranker folder, or put a ranker in place of that in one, at once; see `generations`.

    An encoder that was tuned for this ranker is copied there too, unless it is there already.
    README.md is for people: it is not checked when a ranker is loaded, and may be left out.

    Args:
        path: the folder.
        held: the ranker.
        keep: the one that is there, to go back to.
    """
    with writing(path):
        dense, words = _dense_of(held.channel), _words_of(held.channel)
        if dense and held.recipe.tuning:
            encoder = dense.reader.encoder
            copy_encoder(Path(encoder.name), path, encoder.identity)
        card = Card(
            recipe=held.recipe,
            origin=held.origin,
            encoder_identity=dense.reader.encoder.identity if dense else None,
            scale=words.scale if words else None,
            weights=held.channel.weights if isinstance(held.channel, Fused) else None,
            confidence=held.confidence,
            answers=held.answers.height,
            files={name: put(path, name, write) for name, write in _files(held).items()},
        )
        if text := _readme(path / README, held):
            beside = path / aside(README)
            beside.write_text(text, encoding="utf-8")
            beside.replace(path / README)
        swap(path, card, keep=keep)


def _files(held: Contents) -> dict[str, Callable[[Path], object]]:
    """What writes each file of a ranker."""
    dense = _dense_of(held.channel)
    files: dict[str, Callable[[Path], object]] = {ANSWERS: partial(write_answers, held.answers)}
    if dense:
        towers = {name: tensor.contiguous() for name, tensor in dense.towers.state_dict().items()}
        files[TOWERS] = partial(save_file, towers)
        files[VECTORS] = partial(save_file, _tensors(dense, held.channel))
        if dense.reader.selection:
            files[IDF] = dense.reader.selection.idf.save
    if isinstance(held.channel, Fused) and held.channel.past:
        files[PAST] = _rows(held.channel.past.texts, held.channel.past.ids).write_ndjson
    return files


def _readme(file: Path, held: Contents) -> str | None:
    """The text for README.md; none if another's stands there."""
    text = model_card(held, file.read_text(encoding="utf-8") if file.exists() else None)
    if text is None:
        log.warning("%s: not written by twinrank, so it stays as it is", file)
    return text


def _tensors(dense: Dense, channel: Channel) -> dict[str, Tensor]:
    """The vectors of answers, and the past queries without their texts."""
    tensors = {"vectors": dense.vectors.rows.contiguous()}
    if dense.vectors.owner is not None:
        tensors["owner"] = torch.as_tensor(dense.vectors.owner)
    if dense.offsets is not None:
        tensors["offsets"] = dense.offsets.contiguous()
    if dense.past and isinstance(channel, Fused) and channel.past:
        tensors |= {"past": dense.past.vectors.contiguous(), "voters": dense.past.voters}
        tensors["votes"] = dense.past.answers
        tensors["newcomers"] = torch.as_tensor(channel.past.newcomers)
    return tensors


def load(path: Path, *, store: Store | None, device: str, previous: bool = False) -> Contents:
    """The parts of a ranker; see `Ranker.load`."""
    return read(path, partial(_contents, store=store, device=device), previous=previous)


def _contents(files: Opened, *, store: Store | None, device: str) -> Contents:
    card, recipe = files.card, files.card.recipe
    answers = read_answers(files.stream(ANSWERS))
    words = _words(card, answers) if recipe.words else None
    channel: Channel
    if recipe.encoder is None:
        channel = words or Bm25(answer_texts(answers), language="english")
    else:
        channel = _opened(files, answers, words, store, device)
    return Contents(recipe, answers, channel, card.origin, card.confidence)


def _words(card: Card, answers: pl.DataFrame) -> Bm25:
    return Bm25(answer_texts(answers), language=card.recipe.language, scale=card.scale or 1.0)


def _opened(
    files: Opened,
    answers: pl.DataFrame,
    words: Bm25 | None,
    store: Store | None,
    device: str,
) -> Dense | Fused:
    path, card = files.path, files.card
    settings = card.recipe.encoder
    assert settings is not None  # noqa: S101 (_contents chose)
    idf = Idf.load(files.stream(IDF)) if card.recipe.selects else None
    tuned = path / card.encoder if card.encoder else None
    try:
        reader = reader_of(card.recipe, store, device, idf=idf, tuned=tuned)
        identity = reader.encoder.identity
    except EncoderError as error:
        raise RankerError(f"{path}: its encoder cannot be opened: {error}") from None
    if identity != card.encoder_identity:
        raise RankerError(
            f"{path}: made with an encoder {settings.name!r} whose weights or tokenizer differ "
            f"from the one found here (identity {card.encoder_identity}, here {identity}); "
            "install the encoder it was made with, or train again"
        )
    try:
        tensors = files.tensors(VECTORS)
        towers = towers_of(card.recipe, reader.encoder.dim)
        towers.load_state_dict(files.tensors(TOWERS))
        owner = tensors["owner"].numpy() if "owner" in tensors else None
        vectors = Passages(tensors["vectors"], owner, answers.height)
        voted = None
        if card.recipe.memory:
            voted = Past(*(tensors[name] for name in ("past", "voters", "votes")))
    except (RuntimeError, KeyError) as error:
        raise RankerError(f"{path}: towers do not fit the recipe: {error}") from None
    dense = Dense(reader, towers.eval(), vectors, voted, offsets=tensors.get("offsets"))
    if not card.recipe.fused:
        return dense
    past = _past(files, voted, tensors["newcomers"].numpy()) if voted else None
    return Fused(dense, past=past, words=words, recipe=card.recipe, weights=card.weights or {})


def _past(files: Opened, voted: Past, newcomers: np.ndarray) -> PastQueries:
    rows = _read_past(files)
    votes = (voted.voters.numpy(), voted.answers.numpy())
    ones = np.ones(len(voted.voters), np.float32)
    labels = sparse.csr_array((ones, votes), shape=(rows.height, len(newcomers)))
    return PastQueries(rows["text"].to_list(), labels, newcomers, rows["id"].to_list())


def _rows(texts: Sequence[str], ids: Sequence[str | None]) -> pl.DataFrame:
    """Past queries as they are written."""
    return pl.DataFrame({"id": list(ids) or [None] * len(texts), "text": texts}, schema=PAST_FIELDS)


def _read_past(files: Opened) -> pl.DataFrame:
    return pl.read_ndjson(files.stream(PAST), schema=PAST_FIELDS)


def forget_past(
    path: Path, forgets: Callable[[str | None, str], bool], *, dry_run: bool = False
) -> set[str]:
    """Erase past queries, with their vectors and votes, from a ranker and the one kept behind it.

    Args:
        path: the folder.
        forgets: whether a query is to go, by its id and its text.
        dry_run: only count.

    Returns:
        The different texts that went.

    Raises:
        RankerError: if it is no ranker, or a file is missing or damaged.
    """
    gone: set[str] = set()

    def change(files: Opened) -> dict[str, Callable[[Path], object]]:
        if PAST not in files.card.files:
            return {}
        rows = _read_past(files)
        stays = np.array([not forgets(*row) for row in rows.iter_rows()], bool)
        if stays.all():
            return {}
        gone.update(rows.filter(~stays)["text"])
        if dry_run:
            return {}
        tensors = files.tensors(VECTORS)
        keeps = torch.as_tensor(stays)
        voting = keeps[tensors["voters"]]
        place = keeps.cumsum(0) - 1  # of each that stays
        tensors["past"] = tensors["past"][keeps].contiguous()
        tensors["voters"] = place[tensors["voters"][voting]]
        tensors["votes"] = tensors["votes"][voting]
        left = rows.filter(stays)
        return {PAST: left.write_ndjson, VECTORS: partial(save_file, tensors)}

    if dry_run:
        for previous in (False, True) if read_card(path).previous else (False,):
            read(path, change, previous=previous)
    else:
        rewrite(path, change)
    return gone


def _dense_of(channel: Channel) -> Dense | None:
    inner = channel.dense if isinstance(channel, Fused) else channel
    return inner if isinstance(inner, Dense) else None


def _words_of(channel: Channel) -> Bm25 | None:
    inner = channel.words if isinstance(channel, Fused) else channel
    return inner if isinstance(inner, Bm25) else None
