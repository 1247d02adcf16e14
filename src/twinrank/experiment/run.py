"""A run: a recipe carried out on a data set with a seed, into a folder that is a ranker."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from twinrank.data import Dataset, Queries
from twinrank.encode import FeatureStore
from twinrank.encode.hardware import resolve_device
from twinrank.evaluation import by_type, means, measure
from twinrank.experiment.fusing import confidence_of, fused, scaled_words
from twinrank.experiment.material import Material
from twinrank.experiment.resume import METRICS_FILE, UNFINISHED, check_same, choices
from twinrank.experiment.training import Work, train_towers, with_fitted_scale
from twinrank.recipe import Recipe
from twinrank.search import Origin, Ranker, reader_of, towers_of
from twinrank.search.folder import CARD, read_card

log = logging.getLogger(__name__)


def fit(
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    out: Path | None = None,
    store: FeatureStore | None = None,
    resume: bool = True,
    shared: Path | None = None,
    device: str = "auto",
) -> Ranker:
    """Carry a recipe out: features from the store, towers fitted, a ranker left.

    Args:
        dataset: with a `train` and a `validation` split, if the recipe trains towers.
        recipe: what to do.
        seed: decides everything random.
        out: folder for the ranker, `metrics.jsonl` (a line an epoch) and a checkpoint an
            epoch; none keeps nothing.
        store: where features are kept; without one every text is encoded here and now.
        resume: go on from what `out` holds of this very training, or return its ranker if it
            is finished; false starts over.
        shared: a folder where runs leave their pre-training for those that begin with the
            same one.
        device: where encoder and towers run: `cpu`, `cuda`, `mps`, or `auto`.

    Raises:
        DataError: if a split the recipe needs has no labels, or no queries make a pair.
        RankerError: if `out` holds something of another training, and `resume` is true.
    """
    origin = Origin(
        data=dataset.name,
        data_fingerprint=dataset.fingerprint,
        folder=str(dataset.folder) if dataset.folder else None,
        seed=seed,
    )
    if out is None:
        return _carried_out(dataset, recipe, origin, store, device, None, shared)
    with _held(out):
        if not resume:
            for name in (CARD, *UNFINISHED, METRICS_FILE):
                (out / name).unlink(missing_ok=True)
        if (out / CARD).exists():
            return _finished(out, recipe, origin, store, device)
        ranker = _carried_out(dataset, recipe, origin, store, device, out, shared)
        ranker.save(out)
        for name in UNFINISHED:
            (out / name).unlink(missing_ok=True)
    return ranker


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Two runs into one folder take turns; the system lets go if one is killed."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        log.warning("%s: waiting for another run that writes here", out)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _carried_out(
    dataset: Dataset,
    recipe: Recipe,
    origin: Origin,
    store: FeatureStore | None,
    device: str,
    out: Path | None,
    shared: Path | None,
) -> Ranker:
    if recipe.channel == "bm25":
        return _words(dataset, recipe, origin)
    reader = reader_of(recipe, store, device)
    where = torch.device(resolve_device(device) if recipe.towers else "cpu")
    material = Material.read(dataset, recipe, reader)
    work = Work(recipe, origin, reader, material, out, shared, where)
    if recipe.towers:
        towers = train_towers(work)
    else:
        towers = with_fitted_scale(towers_of(recipe, reader.encoder.dim).eval(), work)
    dense = work.channel(towers)
    channel = fused(dense, dataset, recipe) if recipe.fused else dense
    return _measured(Ranker(recipe, dataset.answers, channel, origin), material.validation)


def _words(dataset: Dataset, recipe: Recipe, origin: Origin) -> Ranker:
    there = "validation" in dataset.labels["split"]
    validation = dataset.split("validation") if there else None
    channel = scaled_words(dataset, recipe, validation)
    return _measured(Ranker(recipe, dataset.answers, channel, origin), validation)


def _measured(ranker: Ranker, validation: Queries | None) -> Ranker:
    """The ranker, with what it reaches on validation, and how sure it may be."""
    if validation is None:
        return ranker
    ranker.confidence = confidence_of(ranker.channel, validation)
    rows = measure(lambda part: ranker.scores(validation.texts[part]), validation)
    quality = {**means(rows), "types": {kind: means(part) for kind, part in by_type(rows).items()}}
    ranker.origin = ranker.origin.model_copy(update={"quality": quality})
    return ranker


def _finished(
    out: Path, recipe: Recipe, origin: Origin, store: FeatureStore | None, device: str
) -> Ranker:
    card = read_card(out)
    ours, theirs = choices(recipe, origin), choices(card.recipe, card.origin)
    check_same(out, ours, theirs)
    log.debug("%s holds this very ranker already; nothing to do", out)
    return Ranker.load(out, store=store, device=device)
