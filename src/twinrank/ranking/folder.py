"""A ranker in a folder: saved, loaded, and rid of what people wrote."""

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
from twinrank.data.text_selection import Idf
from twinrank.encoding import Store, resolve
from twinrank.errors import AnswerIndexError, EncoderError, RankerError
from twinrank.files import write_file
from twinrank.ranking.confidence import Confidence
from twinrank.ranking.faiss_index import FaissIndex
from twinrank.ranking.manifest import (
    ANSWERS,
    IDF,
    INDEX,
    PAST,
    REMOVED,
    VECTORS,
    FileName,
    Manifest,
    Origin,
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
from twinrank.ranking.storage import (
    VersionFiles,
    Writer,
    add_encoder,
    read,
    read_pointer,
    rewrite_versions,
    write_version,
    writing,
)
from twinrank.recipe import Recipe

README = "README.md"

log = logging.getLogger(__name__)


@dataclass
class Contents:
    """The parts of a ranker, as its folder has them; `index` is its FAISS index, if in use."""

    recipe: Recipe
    answers: pl.DataFrame
    scoring: Scoring
    origin: Origin
    confidence: Confidence | None
    removed: tuple[Removed, ...] = ()
    index: FaissIndex | None = None


def save(path: Path, contents: Contents, *, keep: bool = False) -> None:
    """Write a ranker as the current version of a folder.

    An encoder that was tuned for this ranker is copied there too, unless it is there already.
    README.md is for people: it is not checked when a ranker is loaded, and may be left out.

    Args:
        path: the folder.
        contents: of the ranker.
        keep: the version that is current now, to go back to.
    """
    with writing(path):
        dense, words = contents.scoring.dense, contents.scoring.words
        encoder = dense.reader.encoder if dense else None
        if encoder and contents.recipe.tuning:
            add_encoder(Path(encoder.name), path, encoder.identity)
        folders = _folders(contents)
        weights = dict(contents.scoring.weights) if contents.recipe.fused else None
        manifest = Manifest(
            recipe=contents.recipe,
            origin=contents.origin,
            encoder_identity=encoder.identity if encoder else None,
            scale=words.scale if words else None,
            weights=weights,
            confidence=contents.confidence,
            answers=contents.answers.height,
            encoder_folder=folders.get("encoder"),
            relative_folders={name: _way(path, Path(to)) for name, to in folders.items()},
        )
        writers: dict[FileName, Writer] = {ANSWERS: partial(write_answers, contents.answers)}
        writers |= scoring_files(contents.scoring)
        if contents.removed:
            writers[REMOVED] = partial(write_removed, contents.removed)
        if contents.index:
            ids = contents.answers["id"].to_list()
            writers[INDEX] = partial(contents.index.write, ids=ids)
        if text := _readme(path / README, contents):
            write_file(path / README, text)
        write_version(path, manifest, writers, keep=keep)


def _folders(contents: Contents) -> dict[str, str]:
    """Return the existing folders of the data, and of the encoder if it is given relatively."""
    folders = {"data": contents.origin.folder}
    settings = contents.recipe.encoder
    if settings and not Path(settings.name).expanduser().is_absolute():
        folders["encoder"] = (located(contents.recipe).encoder or settings).name
    return {name: to for name, to in folders.items() if to and Path(to).is_dir()}


def _way(start: Path, folder: Path) -> str:
    """Return the relative path to a folder, or its absolute one, as between drives."""
    try:
        return os.path.relpath(folder.resolve(), start.resolve())
    except ValueError:
        return str(folder.resolve())


def _readme(file: Path, contents: Contents) -> str | None:
    """Return the text of README.md, or None if the existing one was not written by twinrank."""
    try:
        text = model_card(contents, file.read_text(encoding="utf-8") if file.is_file() else None)
    except UnicodeDecodeError:
        log.warning("%s: not UTF-8, so it stays as it is", file)
        return None
    if text is None:
        log.warning("%s: not written by twinrank, so it stays as it is", file)
    return text


def load(
    path: Path,
    *,
    store: Store | None,
    device: str,
    previous: bool = False,
    index: bool = False,
) -> Contents:
    """Read the contents of a ranker; see `Ranker.load`.

    Args:
        path: the folder.
        store: of features.
        device: where the encoder runs.
        previous: read the previous version.
        index: read its FAISS index, too, if it has one.
    """

    def contents(files: VersionFiles) -> Contents:
        loaded = _contents(files, store, device)
        if index and INDEX in files.manifest.files:
            ids = loaded.answers["id"].to_list()
            try:
                loaded.index = FaissIndex.open(files.folder / INDEX, ids)
            except AnswerIndexError as error:
                raise RankerError(f"{error}; make it anew: twinrank index {path} --fresh") from None
        return loaded

    return read(path, contents, previous=previous)


def _contents(files: VersionFiles, store: Store | None, device: str) -> Contents:
    manifest, recipe = files.manifest, files.manifest.recipe
    origin = manifest.origin
    if folders := manifest.folders("data", files.path):
        origin = origin.model_copy(update={"folder": str(folders[0])})
    answers = read_answers(files.stream(ANSWERS))
    reader = None
    if recipe.encoder:
        recipe, reader = _reader(files, store, device)
    scoring = read_scoring(files, recipe, reader, answers)
    removed = read_removed(files.stream(REMOVED)) if REMOVED in manifest.files else ()
    return Contents(recipe, answers, scoring, origin, manifest.confidence, removed)


def _reader(files: VersionFiles, store: Store | None, device: str) -> tuple[Recipe, Reader]:
    """Open the encoder; the recipe names its folder if that is not where the recipe says."""
    path, manifest = files.path, files.manifest
    idf = Idf.load(files.stream(IDF)) if manifest.recipe.selects else None
    tuned = path / manifest.encoder if manifest.encoder else None
    recipes = [located(manifest.recipe, folder) for folder in manifest.folders("encoder", path)]
    wrong: list[str] = []
    for recipe in recipes or [manifest.recipe]:
        try:
            if tuned is None and recipe.encoder:
                # Whoever made the folder named it: that is no leave to fetch it.
                resolve(recipe.encoder.name, fetch=False)
            reader = reader_of(recipe, store, device, idf=idf, tuned=tuned)
            identity = reader.encoder.identity
        except EncoderError as error:
            raise RankerError(f"{path}: its encoder cannot be opened: {error}") from None
        if identity == manifest.encoder_identity:
            unmoved = recipe == located(manifest.recipe)
            return manifest.recipe if unmoved else recipe, reader
        wrong.append(f"{reader.encoder.name!r} (identity {identity})")
    raise RankerError(
        f"{path}: made with an encoder (identity {manifest.encoder_identity}) whose weights or "
        f"tokenizer differ from {' and from '.join(wrong)}; install the encoder it was made with, "
        "or train again"
    )


def forget_past(
    path: Path, forgets: Callable[[str | None, str], bool], *, dry_run: bool = False
) -> set[str]:
    """Erase past queries, with their vectors and votes, from the current and previous version.

    Args:
        path: folder of the ranker.
        forgets: whether a query is to go, by its id and its text.
        dry_run: only count.

    Returns:
        The different texts that went.

    Raises:
        RankerError: if it is no ranker, or a file is missing or damaged.
    """
    gone: set[str] = set()

    def change(files: VersionFiles) -> dict[FileName, Writer]:
        writers: dict[FileName, Writer] = {}
        if PAST in files.manifest.files:
            writers |= _without_past(files, forgets, gone)
        if REMOVED in files.manifest.files:  # after past queries: it has their texts alone, no ids
            writers |= _without_removed_past(files, forgets, gone)
        return writers

    if dry_run:
        for previous in (True, False) if read_pointer(path).previous else (False,):
            read(path, change, previous=previous)
    else:
        rewrite_versions(path, change)
    return gone


def _without_past(
    files: VersionFiles, forgets: Callable[[str | None, str], bool], gone: set[str]
) -> dict[FileName, Writer]:
    """Return the writers of past queries without those to forget, which are added to `gone`."""
    rows = read_past(files)
    stays = np.array([not forgets(*row) for row in rows.iter_rows()], bool)
    if stays.all():
        return {}
    gone.update(rows.filter(~stays)["text"])
    vectors = tensor_writer(select_past(files.tensors(VECTORS), stays))
    return {PAST: rows.filter(stays).write_ndjson, VECTORS: vectors}


def _without_removed_past(
    files: VersionFiles, forgets: Callable[[str | None, str], bool], gone: set[str]
) -> dict[FileName, Writer]:
    """Return the writer of removed answers without past queries to forget, as `_without_past`."""
    records = read_removed(files.stream(REMOVED))

    def goes(text: str) -> bool:
        return text in gone or forgets(None, text)

    changed = [record.without(goes) for record in records]
    for before, after in zip(records, changed, strict=True):
        gone.update(set(before.past) - set(after.past))
    return {REMOVED: partial(write_removed, changed)} if changed != list(records) else {}
