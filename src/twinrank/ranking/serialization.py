"""A scoring as files: weights and vectors in safetensors, past queries in JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool
from safetensors.numpy import save_file

from twinrank.data import answer_texts
from twinrank.errors import RankerError
from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.manifest import IDF, PAST, TOWERS, VECTORS, FileName
from twinrank.ranking.passages import Passages
from twinrank.ranking.past_queries import PastQueries, label_matrix
from twinrank.ranking.reader import Reader
from twinrank.ranking.scoring import Scoring, past_signals
from twinrank.ranking.signals import DenseSignal, Signal
from twinrank.ranking.storage import MANIFEST, VersionFiles
from twinrank.ranking.towers import FrozenTowers
from twinrank.recipe import Recipe

PAST_FIELDS = {"id": pl.String, "text": pl.String}


def scoring_files(scoring: Scoring) -> dict[FileName, Callable[[Path], object]]:
    """Return what writes each file of a scoring; words are indexed anew when it is read."""
    dense, past = scoring.dense, scoring.past
    files: dict[FileName, Callable[[Path], object]] = {}
    if dense is None:
        return files
    tensors = {"vectors": dense.vectors.rows}
    if dense.vectors.owner is not None:
        tensors["owner"] = dense.vectors.owner
    if dense.offsets is not None:
        tensors["offsets"] = dense.offsets
    if past:
        tensors |= {"past": past.vectors, "newcomers": past.newcomers}
        tensors["voters"], tensors["votes"] = (of.astype(np.int64) for of in past.labels.nonzero())
        files[PAST] = past_frame(past.texts, past.ids).write_ndjson
    files[TOWERS] = tensor_writer(dense.towers.tensors)
    files[VECTORS] = tensor_writer(tensors)
    if dense.reader.selection:
        files[IDF] = dense.reader.selection.idf.save
    return files


def tensor_writer(tensors: Mapping[str, np.ndarray]) -> Callable[[Path], object]:
    """Return what writes tensors into a file."""
    return partial(save_file, {n: np.asarray(t, order="C") for n, t in tensors.items()})


def read_scoring(
    files: VersionFiles, recipe: Recipe, reader: Reader | None, answers: pl.DataFrame
) -> Scoring:
    """Make a scoring of its files.

    Args:
        files: of a ranker.
        recipe: of the ranker.
        reader: of the recipe's encoder; None without one.
        answers: of the ranker.

    Raises:
        RankerError: if the files do not fit each other or the recipe, or hold numbers by which
            nothing can be ranked.
    """
    manifest = files.manifest
    signals: dict[str, Signal] = {}
    if reader:
        dense, past = _read_tensors(files, recipe, reader, answers.height)
        signals["dense"] = dense
        if past:
            signals |= past_signals(past, dense, recipe)
    if recipe.words:
        texts, scale = answer_texts(answers), manifest.scale or 1.0
        signals["words"] = Bm25(texts, language=recipe.language, scale=scale)
    weights = (manifest.weights or {}) if recipe.fused else dict.fromkeys(signals, 1.0)
    if missing := signals.keys() - weights.keys():
        raise RankerError(f"{files.folder / MANIFEST}: no weight of {min(missing)!r}; train again")
    return Scoring(signals, weights)


def _read_tensors(
    files: VersionFiles, recipe: Recipe, reader: Reader, answers: int
) -> tuple[DenseSignal, PastQueries | None]:
    frame = read_past(files) if recipe.memory else past_frame((), ())
    try:
        tensors = files.tensors(VECTORS)
        dim = reader.encoder.dim
        towers = FrozenTowers.for_recipe(recipe, dim, files.tensors(TOWERS))
        _check_numbers(files.folder, towers.tensors, tensors, dim, answers, frame.height)
        vectors = Passages(tensors["vectors"], tensors.get("owner"), answers)
        dense = DenseSignal(reader, towers, vectors, tensors.get("offsets"))
        if recipe.memory is None:
            return dense, None
        shape = (frame.height, answers)
        past = PastQueries(
            texts=frame["text"].to_list(),
            ids=frame["id"].to_list(),
            vectors=tensors["past"],
            labels=label_matrix(tensors["voters"], tensors["votes"], shape),
            newcomers=tensors["newcomers"],
        )
    except (KeyError, ValueError) as error:
        raise RankerError(f"{files.folder}: towers do not fit the recipe: {error}") from None
    return dense, past


def _check_numbers(
    path: Path,
    weights: Mapping[str, np.ndarray],
    tensors: Mapping[str, np.ndarray],
    dim: int,
    answers: int,
    queries: int,
) -> None:
    """Refuse numbers by which every ranking would fail; no training leaves them."""
    passages, votes = len(tensors["vectors"]), len(tensors.get("voters", ()))
    shapes = {
        "vectors": (passages, dim),
        "owner": (passages,),
        "offsets": (answers, dim),
        "newcomers": (answers,),
        "past": (queries, dim),
        "voters": (votes,),
        "votes": (votes,),
    }
    fits = all(tensors[name].shape == shapes[name] for name in shapes.keys() & tensors.keys())
    for name, limit in (("owner", answers), ("voters", queries), ("votes", answers)):
        rows = tensors.get(name, np.empty(0))
        fits &= not len(rows) or bool(0 <= rows.min() <= rows.max() < limit)
    owner = tensors.get("owner", np.arange(passages))
    fits &= len(np.unique(owner)) == answers and bool((np.diff(owner) >= 0).all())
    if not fits:
        raise RankerError(f"{path}: its files do not fit each other; copy it again, or train again")
    if not all(np.isfinite(t.sum()) for t in (*weights.values(), *tensors.values())):
        raise RankerError(
            f"{path}: holds weights or vectors that are not finite; train it anew, with a lower "
            "learning_rate"
        )


def past_frame(texts: Sequence[str], ids: Sequence[str | None]) -> pl.DataFrame:
    """Return past queries as they are written."""
    return pl.DataFrame({"id": list(ids), "text": list(texts)}, schema=PAST_FIELDS)


def read_past(files: VersionFiles) -> pl.DataFrame:
    """Read what `past_frame` wrote."""
    return pl.read_ndjson(files.stream(PAST), schema=PAST_FIELDS)


def select_past(
    tensors: Mapping[str, np.ndarray], mask: Bool[np.ndarray, " p"]
) -> dict[str, np.ndarray]:
    """Return the tensors of a scoring's file without some past queries, their vectors and votes."""
    voting = mask[tensors["voters"]]
    rows = np.cumsum(mask) - 1  # of each query that stays
    return {
        **tensors,
        "past": tensors["past"][mask],
        "voters": rows[tensors["voters"][voting]],
        "votes": tensors["votes"][voting],
    }
