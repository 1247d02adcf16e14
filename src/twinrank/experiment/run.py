"""A run: a recipe carried out on a data set with a seed, into a folder that is a ranker."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from twinrank.data import Dataset, Queries
from twinrank.encode import FeatureStore
from twinrank.encode.hardware import resolve_device
from twinrank.errors import DataError, Fault, RankerError
from twinrank.evaluation import by_type, means, measure
from twinrank.model import Towers
from twinrank.progress import progress_bar
from twinrank.recipe import EncoderSettings, Recipe, WordSettings
from twinrank.search import Bm25, Dense, Origin, Ranker, Reader, encoder_of, towers_of
from twinrank.search.folder import CARD, read_card
from twinrank.train import Checkpoint, Examples, fit_scale, fit_towers

CHECKPOINT = "checkpoint.safetensors"
METRICS_FILE = "metrics.jsonl"

log = logging.getLogger(__name__)


def fit(
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    out: Path | None = None,
    store: FeatureStore | None = None,
    resume: bool = True,
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
        device: where encoder and towers run: `cpu`, `cuda`, `mps`, or `auto`.

    Raises:
        DataError: if a split the recipe needs has no labels.
        RankerError: if `out` holds something of another training, and `resume` is true.
    """
    origin = Origin(data=dataset.name, data_fingerprint=dataset.fingerprint, seed=seed)
    if out and resume and (out / CARD).exists():
        return _finished(out, recipe, origin, store, device)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        if not resume:
            for name in (CARD, CHECKPOINT, METRICS_FILE):
                (out / name).unlink(missing_ok=True)
    if recipe.channel == "bm25":
        ranker = _words(dataset, recipe, origin)
    elif recipe.towers is None:
        ranker = _untrained(dataset, recipe, origin, store, device)
    else:
        ranker = _trained(dataset, recipe, origin, store, device, out)
    if out:
        ranker.save(out)
        (out / CHECKPOINT).unlink(missing_ok=True)
    return ranker


def _words(dataset: Dataset, recipe: Recipe, origin: Origin) -> Ranker:
    language = (recipe.words or WordSettings()).language
    channel = Bm25(dataset.answer_texts(), language=language)
    validation = _validation(dataset)
    if validation:
        channel.scale = fit_scale(channel.scores(validation.texts), validation.labels)
    return Ranker(recipe, dataset.answers, channel, origin)


def _untrained(
    dataset: Dataset, recipe: Recipe, origin: Origin, store: FeatureStore | None, device: str
) -> Ranker:
    reader = _reader(recipe, store, device)
    validation = _validation(dataset)
    asked = validation.texts if validation else []
    features = reader([*asked, *dataset.answer_texts()], progress="Encoding")
    queries, answers = np.split(features, [len(asked)])
    towers = towers_of(recipe, reader.encoder.dim).eval()
    channel = Dense.of(reader, towers, answers)
    if validation:
        cosines = channel.scores_of(queries) / towers.scale.item()
        with torch.no_grad():
            towers.log_scale.fill_(fit_scale(cosines, validation.labels)).log_()
    return Ranker(recipe, dataset.answers, channel, origin)


def _trained(
    dataset: Dataset,
    recipe: Recipe,
    origin: Origin,
    store: FeatureStore | None,
    device: str,
    out: Path | None,
) -> Ranker:
    settings = recipe.training
    assert settings is not None  # noqa: S101 (the recipe's own validation)
    reader = _reader(recipe, store, device)
    train, validation = dataset.split("train"), dataset.split("validation")
    _check_trainable(dataset, train)
    identity = {**_choices(recipe, origin), "encoder": reader.encoder.fingerprint}
    saved = _saved(out, identity)
    texts = [*train.texts, *validation.texts, *dataset.answer_texts()]
    features = reader(texts, progress="Encoding")
    seen, unseen, answers = np.split(features, [len(train), len(train) + len(validation)])

    def validate(towers: Towers) -> dict[str, Any]:
        channel = Dense.of(reader, towers, answers)
        rows = measure(lambda part: channel.scores_of(unseen[part]), validation)
        return {**means(rows), "types": {kind: means(part) for kind, part in by_type(rows).items()}}

    with (
        progress_bar(f"Training {recipe.name}", settings.epochs, unit="epochs") as advance,
        _metrics_stream(out) as stream,
        torch.random.fork_rng(),
    ):

        def on_epoch(checkpoint: Checkpoint) -> None:
            record = checkpoint.history[-1]
            if out:
                checkpoint.save(out / CHECKPOINT, identity)
            stream.write(json.dumps(record) + "\n")
            note = f"validation loss {record['loss']:.3f}, MAP@10 {record['map@10']:.3f}"
            advance(int(record["epoch"] > 0), note)

        for record in saved.history if saved else []:
            stream.write(json.dumps(record) + "\n")
            advance(int(record["epoch"] > 0))
        torch.manual_seed(origin.seed)
        towers = towers_of(recipe, reader.encoder.dim).to(resolve_device(device))
        fit_towers(
            towers,
            Examples(seen, train.labels),
            answers,
            settings,
            validate,
            seed=origin.seed,
            saved=saved,
            on_epoch=on_epoch,
        )
    towers = towers.cpu()
    reached = origin.model_copy(update={"quality": validate(towers)})
    return Ranker(recipe, dataset.answers, Dense.of(reader, towers, answers), reached)


def _saved(out: Path | None, identity: dict[str, Any]) -> Checkpoint | None:
    """Where this very training stood when it was stopped."""
    loaded = Checkpoint.load(out / CHECKPOINT) if out else None
    if out is None or loaded is None:
        return None
    checkpoint, theirs = loaded
    _check_same(out, identity, theirs)
    log.info("%s: going on after epoch %d", out, len(checkpoint.history) - 1)
    return checkpoint


def _finished(
    out: Path, recipe: Recipe, origin: Origin, store: FeatureStore | None, device: str
) -> Ranker:
    card = read_card(out)
    ours, theirs = _choices(recipe, origin), _choices(card.recipe, card.origin)
    _check_same(out, ours, theirs)
    log.debug("%s holds this very ranker already; nothing to do", out)
    return Ranker.load(out, store=store, device=device)


def _choices(recipe: Recipe, origin: Origin) -> dict[str, Any]:
    """Everything that decides a training, as flat JSON values."""
    return {"seed": origin.seed, "data": origin.data_fingerprint, "recipe": recipe.values()}


def _check_same(out: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    different = [key for key in ours if ours[key] != theirs.get(key)]
    if different:
        raise RankerError(
            f"{out}: holds a training with another {' and another '.join(different)}; "
            "choose another folder, or start over with --fresh"
        )


def _reader(recipe: Recipe, store: FeatureStore | None, device: str) -> Reader:
    settings = recipe.encoder or EncoderSettings()
    return Reader(encoder_of(recipe, device), settings.pooling, store)


def _validation(dataset: Dataset) -> Queries | None:
    """The validation queries, if there are any: an untrained ranker can do without."""
    has = not dataset.labels.filter(dataset.labels["split"] == "validation").is_empty()
    return dataset.split("validation") if has else None


def _check_trainable(dataset: Dataset, train: Queries) -> None:
    if len(train) < 2:
        raise DataError(
            [
                Fault(
                    Path(dataset.name) / "qrels" / "train.tsv",
                    None,
                    f"{len(train)} labelled query is too few to train on",
                    "label more queries, or give `twinrank split` smaller other shares",
                )
            ]
        )


@contextmanager
def _metrics_stream(out: Path | None) -> Iterator[TextIO]:
    """Line by line to `metrics.jsonl`, anew: a resumed run writes its past again first."""
    if out is None:
        yield io.StringIO()
        return
    with (out / METRICS_FILE).open("w", encoding="utf-8", buffering=1) as stream:
        yield stream
