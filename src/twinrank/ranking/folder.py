"""A ranker on disk: JSON, safetensors and the answers in BEIR's layout, with checksums."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file
from torch import Tensor

from twinrank.data import answer_texts, read_answers, write_answers
from twinrank.data.text_selection import Idf
from twinrank.encoding import Store, resolve
from twinrank.errors import EncoderError, RankerError
from twinrank.files import write_file
from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.card import (
    ANSWERS,
    CARD,
    IDF,
    PAST,
    README,
    REMOVED,
    TOWERS,
    VECTORS,
    Card,
    FileName,
    Origin,
)
from twinrank.ranking.confidence import Confidence
from twinrank.ranking.dense import Dense, Reader
from twinrank.ranking.fused import Fused
from twinrank.ranking.generations import (
    Opened,
    copy_encoder,
    put,
    read,
    read_card,
    rewrite,
    swap,
    undone,
    writing,
)
from twinrank.ranking.memory import Past
from twinrank.ranking.model_card import model_card
from twinrank.ranking.parts import located, reader_of, towers_of
from twinrank.ranking.passages import Passages
from twinrank.ranking.past_queries import PastQueries
from twinrank.ranking.removed import Removed, read_removed, write_removed
from twinrank.ranking.towers import Towers
from twinrank.recipe import EncoderSettings, Recipe

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
    removed: tuple[Removed, ...] = ()


def save(path: Path, held: Contents, *, keep: bool = False) -> None:
    """Write a ranker folder, or put a ranker in place of that in one, at once; see `generations`.

    An encoder that was tuned for this ranker is copied there too, unless it is there already.
    README.md is for people: it is not checked when a ranker is loaded, and may be left out.

    Args:
        path: the folder.
        held: the ranker.
        keep: the one that is there, to go back to.
    """
    with writing(path), undone(path):
        dense, words = _dense_of(held.channel), _words_of(held.channel)
        if dense and held.recipe.tuning:
            encoder = dense.reader.encoder
            copy_encoder(Path(encoder.name), path, encoder.identity)
        folders = {"data": held.origin.folder}
        settings = held.recipe.encoder or EncoderSettings()
        if dense and not Path(settings.name).expanduser().is_absolute():
            folders["encoder"] = (located(held.recipe).encoder or settings).name
        known = {what: name for what, name in folders.items() if name and Path(name).is_dir()}
        card = Card(
            encoder_folder=known.get("encoder"),
            beside={what: _way(path, Path(folder)) for what, folder in known.items()},
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
            write_file(path / README, text)
        swap(path, card, keep=keep)


def _way(home: Path, folder: Path) -> str:
    """The way from one folder to another; all of it, where there is none, as between drives."""
    try:
        return os.path.relpath(folder.resolve(), home.resolve())
    except ValueError:
        return str(folder.resolve())


def _files(held: Contents) -> dict[FileName, Callable[[Path], object]]:
    """What writes each file of a ranker."""
    dense = _dense_of(held.channel)
    files: dict[FileName, Callable[[Path], object]] = {
        ANSWERS: partial(write_answers, held.answers)
    }
    if dense:
        towers = {name: tensor.contiguous() for name, tensor in dense.towers.state_dict().items()}
        files[TOWERS] = partial(save_file, towers)
        files[VECTORS] = partial(save_file, _tensors(dense, held.channel))
        if dense.reader.selection:
            files[IDF] = dense.reader.selection.idf.save
    if isinstance(held.channel, Fused) and held.channel.past:
        files[PAST] = _rows(held.channel.past.texts, held.channel.past.ids).write_ndjson
    if held.removed:
        files[REMOVED] = partial(write_removed, held.removed)
    return files


def _readme(file: Path, held: Contents) -> str | None:
    """The text for README.md; none if another's stands there."""
    try:
        text = model_card(held, file.read_text(encoding="utf-8") if file.is_file() else None)
    except UnicodeDecodeError:
        log.warning("%s: not UTF-8, so it stays as it is", file)
        return None
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
    origin = card.origin
    if places := card.places("data", files.path):
        origin = origin.model_copy(update={"folder": str(places[0])})
    answers = read_answers(files.stream(ANSWERS))
    words = _words(card, answers) if recipe.words else None
    channel: Channel
    if recipe.encoder is None:
        channel = words or Bm25(answer_texts(answers), language="english")
    else:
        recipe, reader = _reader(files, store, device)
        channel = _opened(files, recipe, reader, answers, words)
    removed = read_removed(files.stream(REMOVED)) if REMOVED in card.files else ()
    return Contents(recipe, answers, channel, origin, card.confidence, removed)


def _words(card: Card, answers: pl.DataFrame) -> Bm25:
    return Bm25(answer_texts(answers), language=card.recipe.language, scale=card.scale or 1.0)


def _reader(files: Opened, store: Store | None, device: str) -> tuple[Recipe, Reader]:
    """What reads texts, and the recipe with the encoder's place if it is not where that says."""
    path, card = files.path, files.card
    idf = Idf.load(files.stream(IDF)) if card.recipe.selects else None
    tuned = path / card.encoder if card.encoder else None
    ways = [located(card.recipe, folder) for folder in card.places("encoder", path)]
    found: list[str] = []
    for recipe in ways or [card.recipe]:
        try:
            if tuned is None and recipe.encoder:
                # Whoever made the folder named it: that is no leave to fetch it.
                resolve(recipe.encoder.name, fetch=False)
            reader = reader_of(recipe, store, device, idf=idf, tuned=tuned)
            identity = reader.encoder.identity
        except EncoderError as error:
            raise RankerError(f"{path}: its encoder cannot be opened: {error}") from None
        if identity == card.encoder_identity:
            return card.recipe if recipe == located(card.recipe) else recipe, reader
        found.append(f"{reader.encoder.name!r} (identity {identity})")
    raise RankerError(
        f"{path}: made with an encoder (identity {card.encoder_identity}) whose weights or "
        f"tokenizer differ from {' and from '.join(found)}; install the encoder it was made with, "
        "or train again"
    )


def _opened(
    files: Opened, recipe: Recipe, reader: Reader, answers: pl.DataFrame, words: Bm25 | None
) -> Dense | Fused:
    path, card = files.path, files.card
    try:
        tensors = files.tensors(VECTORS)
        towers = towers_of(recipe, reader.encoder.dim)
        towers.load_state_dict(files.tensors(TOWERS))
        past_rows = _read_past(files) if card.recipe.memory else _rows((), ())
        _check_numbers(path, towers, tensors, answers.height, past_rows.height)
        owner = tensors["owner"].numpy() if "owner" in tensors else None
        vectors = Passages(tensors["vectors"], owner, answers.height)
        voted = None
        if recipe.memory:
            voted = Past(*(tensors[name] for name in ("past", "voters", "votes")))
    except (RuntimeError, KeyError) as error:
        raise RankerError(f"{path}: towers do not fit the recipe: {error}") from None
    dense = Dense(reader, towers.eval(), vectors, voted, offsets=tensors.get("offsets"))
    if not recipe.fused:
        return dense
    past = None
    if voted:
        texts, ids = past_rows["text"].to_list(), past_rows["id"].to_list()
        past = PastQueries.of(texts, voted, tensors["newcomers"].numpy(), ids)
    fused = Fused(dense, past=past, words=words, recipe=recipe, weights=card.weights or {})
    if missing := fused.names - fused.weights.keys():
        raise RankerError(f"{path / CARD}: no weight of {min(missing)!r}; train again")
    return fused


def _check_numbers(
    path: Path, towers: Towers, tensors: Mapping[str, Tensor], answers: int, queries: int
) -> None:
    """Refuse numbers by which every ranking would fail; no training leaves them."""
    rows, votes = len(tensors["vectors"]), len(tensors.get("voters", ()))
    shapes = {
        "vectors": (rows, towers.dim),
        "owner": (rows,),
        "offsets": (answers, towers.dim),
        "newcomers": (answers,),
        "past": (queries, towers.dim),
        "voters": (votes,),
        "votes": (votes,),
    }
    fits = all(tensors[name].shape == shapes[name] for name in shapes.keys() & tensors.keys())
    for name, most in (("owner", answers), ("voters", queries), ("votes", answers)):
        places = tensors.get(name, torch.empty(0))
        fits &= not len(places) or bool(0 <= places.min() <= places.max() < most)
    fits &= (len(tensors["owner"].unique()) if "owner" in tensors else rows) == answers
    numbers = [*towers.state_dict().values(), *tensors.values()]
    if not fits:
        raise RankerError(f"{path}: its files do not fit each other; copy it again, or train again")
    if not all(tensor.sum().isfinite() for tensor in numbers):
        raise RankerError(
            f"{path}: holds weights or vectors that are not finite; train it anew, with a lower "
            "learning_rate"
        )


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

    def change(files: Opened) -> dict[FileName, Callable[[Path], object]]:
        changes: dict[FileName, Callable[[Path], object]] = {}
        if PAST in files.card.files:
            rows = _read_past(files)
            stays = np.array([not forgets(*row) for row in rows.iter_rows()], bool)
            if not stays.all():
                gone.update(rows.filter(~stays)["text"])
                tensors = files.tensors(VECTORS)
                keeps = torch.as_tensor(stays)
                voting = keeps[tensors["voters"]]
                place = keeps.cumsum(0) - 1  # of each that stays
                tensors["past"] = tensors["past"][keeps].contiguous()
                tensors["voters"] = place[tensors["voters"][voting]]
                tensors["votes"] = tensors["votes"][voting]
                changes[PAST] = rows.filter(stays).write_ndjson
                changes[VECTORS] = partial(save_file, tensors)
        if REMOVED in files.card.files:  # after the past queries: it has their texts alone, no ids
            records = read_removed(files.stream(REMOVED))
            left = [record.without(lambda t: t in gone or forgets(None, t)) for record in records]
            for before, after in zip(records, left, strict=True):
                gone.update(set(before.past) - set(after.past))
            if left != list(records):
                changes[REMOVED] = partial(write_removed, left)
        return changes

    if dry_run:
        for previous in (True, False) if read_card(path).previous else (False,):
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
