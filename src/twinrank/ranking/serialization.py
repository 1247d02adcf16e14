"""A ranker's channel as tensors and files, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import torch
from safetensors.torch import save_file
from torch import Tensor

from twinrank.data import answer_texts, write_answers
from twinrank.errors import RankerError
from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.confidence import Confidence
from twinrank.ranking.dense import Dense, Reader
from twinrank.ranking.fused import Fused
from twinrank.ranking.manifest import (
    ANSWERS,
    IDF,
    PAST,
    REMOVED,
    TOWERS,
    VECTORS,
    FileName,
    Manifest,
    Origin,
)
from twinrank.ranking.memory import Past
from twinrank.ranking.parts import towers_of
from twinrank.ranking.passages import Passages
from twinrank.ranking.past_queries import PastQueries
from twinrank.ranking.removed import Removed, write_removed
from twinrank.ranking.storage import MANIFEST, VersionFiles
from twinrank.ranking.towers import Towers
from twinrank.recipe import Recipe

if TYPE_CHECKING:
    from twinrank.ranking.faiss_index import FaissIndex

Channel = Bm25 | Dense | Fused
PAST_FIELDS = {"id": pl.String, "text": pl.String}


@dataclass
class Contents:
    """The parts of a ranker, as its folder has them; `index` is its FAISS index, if in use."""

    recipe: Recipe
    answers: pl.DataFrame
    channel: Channel
    origin: Origin
    confidence: Confidence | None
    removed: tuple[Removed, ...] = ()
    index: FaissIndex | None = None


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


def _words(card: Manifest, answers: pl.DataFrame) -> Bm25:
    return Bm25(answer_texts(answers), language=card.recipe.language, scale=card.scale or 1.0)


def _opened(
    files: VersionFiles, recipe: Recipe, reader: Reader, answers: pl.DataFrame, words: Bm25 | None
) -> Dense | Fused:
    path, card = files.folder, files.manifest
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
        raise RankerError(f"{path / MANIFEST}: no weight of {min(missing)!r}; train again")
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


def _read_past(files: VersionFiles) -> pl.DataFrame:
    return pl.read_ndjson(files.stream(PAST), schema=PAST_FIELDS)


def _dense_of(channel: Channel) -> Dense | None:
    inner = channel.dense if isinstance(channel, Fused) else channel
    return inner if isinstance(inner, Dense) else None


def _words_of(channel: Channel) -> Bm25 | None:
    inner = channel.words if isinstance(channel, Fused) else channel
    return inner if isinstance(inner, Bm25) else None
