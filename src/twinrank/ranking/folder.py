"""A ranker on disk: JSON, safetensors and the answers in BEIR's layout, with checksums."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from twinrank.data import read_answers, write_answers
from twinrank.encoding import Store, resolve
from twinrank.errors import EncoderError, RankerError
from twinrank.files import write_file
from twinrank.ranking.card import (
    ANSWERS,
    IDF,
    PAST,
    README,
    REMOVED,
    VECTORS,
    Card,
    FileName,
    Origin,
)
from twinrank.ranking.confidence import Confidence
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
from twinrank.ranking.model_card import model_card
from twinrank.ranking.reader import Reader, located, reader_of
from twinrank.ranking.removed import Removed, read_removed, write_removed
from twinrank.ranking.scoring import Scoring
from twinrank.ranking.serialization import (
    read_past,
    read_scoring,
    scoring_files,
    select_past,
    tensor_writer,
)
from twinrank.recipe import EncoderSettings, Recipe
from twinrank.text import Idf

log = logging.getLogger(__name__)


@dataclass
class Contents:
    """What a ranker folder holds."""

    recipe: Recipe
    answers: pl.DataFrame
    scoring: Scoring
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
        dense, words = held.scoring.dense, held.scoring.words
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
            weights=dict(held.scoring.weights) if held.recipe.fused else None,
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
    files: dict[FileName, Callable[[Path], object]] = {
        ANSWERS: partial(write_answers, held.answers)
    }
    files |= scoring_files(held.scoring)
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


def load(path: Path, *, store: Store | None, device: str, previous: bool = False) -> Contents:
    """The parts of a ranker; see `Ranker.load`."""
    return read(path, partial(_contents, store=store, device=device), previous=previous)


def _contents(files: Opened, *, store: Store | None, device: str) -> Contents:
    card, recipe = files.card, files.card.recipe
    origin = card.origin
    if places := card.places("data", files.path):
        origin = origin.model_copy(update={"folder": str(places[0])})
    answers = read_answers(files.stream(ANSWERS))
    reader = None
    if recipe.encoder:
        recipe, reader = _reader(files, store, device)
    scoring = read_scoring(files, recipe, reader, answers)
    removed = read_removed(files.stream(REMOVED)) if REMOVED in card.files else ()
    return Contents(recipe, answers, scoring, origin, card.confidence, removed)


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
            rows = read_past(files)
            stays = np.array([not forgets(*row) for row in rows.iter_rows()], bool)
            if not stays.all():
                gone.update(rows.filter(~stays)["text"])
                changes[PAST] = rows.filter(stays).write_ndjson
                changes[VECTORS] = tensor_writer(select_past(files.tensors(VECTORS), stays))
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
