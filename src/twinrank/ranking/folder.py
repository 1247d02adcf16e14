"""A ranker in a folder: saved, loaded, and rid of what people wrote."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from twinrank.data.beir import read_answers, write_answers
from twinrank.data.text_selection import Idf
from twinrank.data.texts import answer_texts
from twinrank.encoding import Store, resolve
from twinrank.encoding.model_files import PACKAGED
from twinrank.errors import EncoderError, RankerError
from twinrank.files import is_folder, write_file
from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.faiss_index import FaissIndex
from twinrank.ranking.manifest import (
    ANSWERS,
    IDF,
    INDEX,
    PAST,
    REMOVED,
    TOWERS,
    VECTORS,
    Contents,
    FileName,
    Manifest,
    Removed,
    encoder_name,
)
from twinrank.ranking.model_card import model_card
from twinrank.ranking.past_queries import PastQueries, label_matrix, past_signals
from twinrank.ranking.reader import Passages, Reader, located, reader_of
from twinrank.ranking.scoring import Scoring
from twinrank.ranking.signals import DenseSignal, Signal
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
from twinrank.ranking.towers import FrozenTowers
from twinrank.ranking.word_classifier import WordClassifier, WordSpace
from twinrank.recipe import Recipe

README = "README.md"
PAST_FIELDS = {"id": pl.String, "text": pl.String}
NO_PAST = pl.DataFrame(schema=PAST_FIELDS)

log = logging.getLogger(__name__)


def save(
    path: Path, contents: Contents, index: FaissIndex | None, *, keep: bool | None = False
) -> None:
    """Write a ranker, and its local index, as the current version of a folder.

    Encoders that were tuned or packaged for it are copied there too, unless they are there already.
    README.md is for people: it is not checked when a ranker is loaded, and may be left out.
    """
    with writing(path):
        scoring, recipe = contents.scoring, contents.recipe
        reader = scoring.dense.reader if scoring.dense else None
        encoders = reader.encoders if reader else ()
        for encoder in encoders:
            if recipe.tuning or encoder.files.packaged:
                add_encoder(Path(encoder.name), path, encoder.identity)
        folders = _find_folders(contents)
        manifest = Manifest(
            recipe=recipe,
            origin=contents.origin,
            encoder_identity=reader.identity if reader else None,
            scale=scoring.words.scale if scoring.words else None,
            weights=dict(scoring.weights) if recipe.fused else None,
            confidence=contents.confidence,
            answers=contents.answers.height,
            packaged=_find_packaged(path, [encoder.identity for encoder in encoders]),
            encoder_folder=folders.get("encoder"),
            relative_folders={name: _way(path, Path(to)) for name, to in folders.items()},
        )
        writers: dict[FileName, Writer] = {ANSWERS: partial(write_answers, contents.answers)}
        if scoring.dense:
            writers |= _dense_writers(scoring, scoring.dense)
        if contents.removed:
            writers[REMOVED] = _removed_writer(contents.removed)
        if index and index.unsaved:
            writers[INDEX] = index.write
        _write_card(path / README, contents)
        write_version(path, manifest, writers, keep=keep)
        if index:
            index.unsaved = False


def _find_packaged(path: Path, identities: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of the folders with packaged encoders; None unless all of them are."""
    names = tuple(map(encoder_name, identities))
    has_all = all((path / name / PACKAGED).exists() for name in names)
    return names if names and has_all else None


def _find_folders(contents: Contents) -> dict[str, str]:
    """Return the existing folders of the data, and of the encoder if it is given relatively."""
    folders = {"data": contents.origin.folder}
    settings = contents.recipe.encoder
    if settings and not Path(settings.name).expanduser().is_absolute():
        folders["encoder"] = (located(contents.recipe).encoder or settings).name
    return {name: to for name, to in folders.items() if to and is_folder(to)}


def _way(start: Path, folder: Path) -> str:
    """Return the relative path to a folder, or its absolute one, as between drives."""
    try:
        return os.path.relpath(folder.resolve(), start.resolve())
    except ValueError:
        return str(folder.resolve())


def _write_card(file: Path, contents: Contents) -> None:
    """Write README.md, unless there is one that twinrank did not write."""
    try:
        text = model_card(contents, file.read_text(encoding="utf-8") if file.is_file() else None)
    except UnicodeDecodeError:
        text = None
    if text is None:
        log.warning("%s: not written by twinrank, so it stays as it is", file)
    else:
        write_file(file, text)


def _dense_writers(scoring: Scoring, dense: DenseSignal) -> dict[FileName, Writer]:
    """Return the writers of weights and vectors; words are indexed anew when they are read."""
    past, classifier = scoring.past, scoring.classifier
    tensors = {"vectors": dense.vectors.rows}
    if dense.vectors.owner is not None:
        tensors["owner"] = dense.vectors.owner
    if dense.offsets is not None:
        tensors["offsets"] = dense.offsets
    writers: dict[FileName, Writer] = {TOWERS: _tensor_writer(dense.towers.tensors)}
    if past:
        tensors |= {"past": past.vectors, "newcomers": past.newcomers}
        tensors["voters"], tensors["votes"] = (of.astype(np.int64) for of in past.labels.nonzero())
    if past and past.has_texts:
        frame = pl.DataFrame({"id": list(past.ids), "text": list(past.texts)}, schema=PAST_FIELDS)
        writers[PAST] = frame.write_ndjson
    if classifier:
        tensors |= {"word_weights": classifier.weights, "word_idf": classifier.space.idf}
        if classifier.spread is not None:
            tensors["word_spread"] = classifier.spread
    writers[VECTORS] = _tensor_writer(tensors)
    if dense.reader.selection:
        writers[IDF] = dense.reader.selection.idf.save
    return writers


def _tensor_writer(tensors: Mapping[str, np.ndarray]) -> Writer:
    return partial(save_file, {n: np.asarray(t, order="C") for n, t in tensors.items()})


def _removed_writer(removed: tuple[Removed, ...]) -> Writer:
    text = "".join(f"{record.model_dump_json()}\n" for record in removed)
    return lambda file: file.write_text(text, encoding="utf-8")


def load(
    path: Path,
    *,
    store: Store | None,
    device: str,
    previous: bool = False,
    index: bool = False,
) -> tuple[Contents, FaissIndex | None]:
    """Read a ranker, and its FAISS index if that is wanted and there; see `Ranker.load`."""

    def read_all(files: VersionFiles) -> tuple[Contents, FaissIndex | None]:
        contents = _read_contents(files, store, device)
        if not index or INDEX not in files.manifest.files:
            return contents, None
        return contents, FaissIndex.open(files.folder / INDEX)

    return read(path, read_all, previous=previous)


def _read_contents(files: VersionFiles, store: Store | None, device: str) -> Contents:
    manifest, recipe, signals = files.manifest, files.manifest.recipe, dict[str, Signal]()
    origin = manifest.origin
    if folder := manifest.find_folder("data", files.path):
        origin = origin.model_copy(update={"folder": str(folder)})
    answers = read_answers(files.stream(ANSWERS))
    if recipe.encoder:
        recipe, reader = _open_encoder(files, store, device)
        try:
            signals |= _read_dense(files, recipe, reader, answers)
        except (KeyError, ValueError, IndexError) as error:
            raise RankerError(
                f"{files.folder}: its files do not fit each other ({error}); train again"
            ) from None
    if recipe.words:
        texts, scale = answer_texts(answers), manifest.scale or 1.0
        signals["words"] = Bm25(texts, language=recipe.language, scale=scale)
    weights = (manifest.weights or {}) if recipe.fused else dict.fromkeys(signals, 1.0)
    if weights.keys() != signals.keys():
        raise RankerError(f"{files.folder}: made by a version with other signals; train again")
    removed = _read_removed(files) if REMOVED in manifest.files else ()
    scoring = Scoring(signals, weights)
    return Contents(recipe, answers, scoring, origin, manifest.confidence, removed)


def _read_dense(
    files: VersionFiles, recipe: Recipe, reader: Reader, answers: pl.DataFrame
) -> dict[str, Signal]:
    tensors = files.tensors(VECTORS)
    towers = FrozenTowers.for_recipe(recipe, files.tensors(TOWERS))
    vectors = Passages(tensors["vectors"], tensors.get("owner"), answers.height)
    dense = DenseSignal(reader, towers, vectors, tensors.get("offsets"))
    if recipe.memory is None:
        return {"dense": dense}
    shape = (len(tensors["past"]), answers.height)
    frame = _read_past(files) if PAST in files.manifest.files else NO_PAST.clear(shape[0])
    if frame.height != shape[0]:
        raise ValueError(f"{PAST} has {frame.height} queries, not {shape[0]}")
    past = PastQueries(
        texts=frame["text"].fill_null("").to_list(),
        ids=frame["id"].to_list(),
        vectors=tensors["past"],
        labels=label_matrix(tensors["voters"], tensors["votes"], shape),
        newcomers=tensors["newcomers"],
    )
    signals: dict[str, Signal] = {"dense": dense}
    signals |= past_signals(past, towers, recipe.memory)
    if "word_weights" in tensors:
        space = WordSpace(recipe.language, tensors["word_idf"])
        fitted = (answer_texts(answers), space, tensors["word_weights"], tensors.get("word_spread"))
        signals["classifier"] = WordClassifier.fitted(past, *fitted)
    return signals


def _read_past(files: VersionFiles) -> pl.DataFrame:
    return pl.read_ndjson(files.stream(PAST), schema=PAST_FIELDS)


def _read_removed(files: VersionFiles) -> tuple[Removed, ...]:
    return tuple(Removed.model_validate_json(line) for line in files.stream(REMOVED))


def _open_encoder(files: VersionFiles, store: Store | None, device: str) -> tuple[Recipe, Reader]:
    """Open the encoder; the recipe names its folder if that is not where the recipe says."""
    path, manifest = files.path, files.manifest
    idf = Idf.load(files.stream(IDF)) if manifest.recipe.selects else None
    folders = [path / name for name in manifest.encoders]
    recipe = located(manifest.recipe, manifest.find_folder("encoder", path))
    try:
        if recipe.encoder:
            # Whoever made the folder named it: that is no leave to fetch it.
            for name in (recipe.encoder.name, *recipe.encoder.others)[len(folders) :]:
                resolve(name, fetch=False)
        reader = reader_of(recipe, store, device, idf=idf, folders=folders)
        identity = reader.identity
    except EncoderError as error:
        raise RankerError(f"{path}: its encoder cannot be opened: {error}") from None
    if identity != manifest.encoder_identity:
        names = " and ".join(encoder.name for encoder in reader.encoders)
        raise RankerError(
            f"{path}: made with an encoder (identity {manifest.encoder_identity}) whose weights or "
            f"tokenizer differ from {names} (identity {identity}); install the encoder it was made "
            "with, or train again"
        )
    return manifest.recipe if recipe == located(manifest.recipe) else recipe, reader


def forget_past(
    path: Path, forgets: Callable[[str | None, str], bool], *, dry_run: bool = False
) -> set[str]:
    """Erase past queries, with their vectors and votes, from the current and previous version.

    Args:
        path: folder of the ranker.
        forgets: whether a query is to go, by its id and its text.
        dry_run: change nothing.

    Returns:
        The different texts that went.
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
    rows = _read_past(files)
    stays = np.array([not forgets(*row) for row in rows.iter_rows()], bool)
    if stays.all():
        return {}
    gone.update(rows.filter(~stays)["text"])
    tensors = files.tensors(VECTORS)
    voting = stays[tensors["voters"]]
    new_rows = np.cumsum(stays) - 1  # of each query that stays
    tensors["past"] = tensors["past"][stays]
    tensors["voters"] = new_rows[tensors["voters"][voting]]
    tensors["votes"] = tensors["votes"][voting]
    if "word_weights" in tensors:
        going = np.flatnonzero(~stays)
        tensors["word_weights"] = np.delete(tensors["word_weights"], going, axis=0)
        texts = [*rows.filter(stays)["text"], *answer_texts(read_answers(files.stream(ANSWERS)))]
        space = WordSpace(files.manifest.recipe.language, tensors["word_idf"])
        tensors["word_idf"] = space.without_rare(texts).idf
    return {PAST: rows.filter(stays).write_ndjson, VECTORS: _tensor_writer(tensors)}


def _without_removed_past(
    files: VersionFiles, forgets: Callable[[str | None, str], bool], gone: set[str]
) -> dict[FileName, Writer]:
    """Return the writer of removed answers without past queries to forget, as `_without_past`."""
    before = _read_removed(files)
    texts = {text for record in before for text in record.past}
    going = {text for text in texts if text in gone or forgets(None, text)}
    if not going:
        return {}
    gone.update(going)
    after = [
        record.model_copy(update={"past": tuple(t for t in record.past if t not in going)})
        for record in before
    ]
    return {REMOVED: _removed_writer(tuple(after))}
