"""Training: a recipe carried out on a data set with a seed, into a folder that is a ranker."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float

from twinrank.arguments import check_type, count_of, path_of
from twinrank.data import Dataset, Queries
from twinrank.encoding import FeatureStore
from twinrank.errors import DivergedError, TwinrankError
from twinrank.ranking import (
    CURRENT,
    Origin,
    Ranker,
    Reader,
    Scoring,
    complete,
    located,
    pool_passages,
    read_manifest,
    writing,
)
from twinrank.recipe import Recipe
from twinrank.training.calibration import (
    build_words,
    calibrate_confidence,
    fit_scale,
    fuse_signals,
)
from twinrank.training.checkpoint import check_same_training
from twinrank.training.distributed import from_main, is_main, join_launched, local_device
from twinrank.training.encoder_tuning import TUNING_FILE, tune_encoder
from twinrank.training.loop import (
    METRICS_FILE,
    OnRecord,
    TrainingRun,
    identify,
    read_records,
    run_stage,
)
from twinrank.training.pretraining import PairedQueries, Pretrainer, warn_of_collapse
from twinrank.training.tower_modules import Towers
from twinrank.training.tower_training import TowerTrainer
from twinrank.training.training_data import (
    TrainingData,
    build_reader,
    find_validation,
    measure_quality,
)

PRETRAINING_FILE, RANKING_FILE = "pretraining.safetensors", "checkpoint.safetensors"
CHECKPOINT_FILES = (TUNING_FILE, PRETRAINING_FILE, RANKING_FILE)

log = logging.getLogger(__name__)


def train(
    dataset: Dataset,
    recipe: Recipe | str | Path,
    *,
    seed: int = 0,
    out: Path | str | None = None,
    store: FeatureStore | None = None,
    resume: bool = True,
    shared: Path | None = None,
    on_record: OnRecord = lambda record: None,
    device: str = "auto",
) -> Ranker:
    """Train a ranker: read features, train towers, fit weights and confidence, measure, save.

    In processes that torchrun or `accelerate launch` started, all call it alike: they share the
    steps of tuning and of ranking, the first one writes, and all have to see `out`.

    Args:
        dataset: with a `train` and a `validation` split, if the recipe trains towers.
        recipe: a recipe, its name, or a TOML file.
        seed: decides everything random.
        out: folder for the ranker, `metrics.jsonl` (a line an epoch) and checkpoints; None
            keeps nothing.
        store: keeps features; without one every text is encoded here and now.
        resume: go on from what `out` holds of this very training, or return its ranker if it
            is finished; False starts over.
        shared: a folder where runs leave their pre-training for those that begin with the
            same one.
        on_record: called with each record of `metrics.jsonl`, those of an earlier call first;
            an error that it raises ends the run, which can be gone on with.
        device: where encoder and towers run: `cpu`, `cuda`, `mps`, or `auto`.

    Raises:
        TwinrankError: if the recipe tunes the encoder, and there is no `out` to leave it in.
        DataError: if a split the recipe needs has no labels, or no queries make a pair.
        RankerError: if `out` holds something of another training, and `resume` is true.
        DivergedError: if losses or scores are no longer finite.
    """
    check_type(dataset, Dataset, "give a data set: Dataset.load(FOLDER)")
    recipe, seed = Recipe.load(recipe), count_of(seed, "seed")
    out = None if out is None else path_of(out, "out")
    if recipe.tuning and out is None:
        raise TwinrankError(f"{recipe.name} tunes the encoder; give a folder (out) to leave it in")
    recipe = complete(recipe, dataset)
    origin = Origin(
        data=dataset.name,
        data_fingerprint=dataset.fingerprint,
        folder=str(dataset.folder.resolve()) if dataset.folder else None,
        seed=seed,
        labelled=dataset.labelled(),
    )
    run = TrainingRun(dataset, recipe, origin, out, shared, store, device, on_record)
    join_launched()
    return _build_ranker(run) if out is None else _train_into(out, run, resume=resume)


def _train_into(out: Path, run: TrainingRun, *, resume: bool) -> Ranker:
    """Carry a run out in its folder, unless it holds the ranker already."""
    with writing(out) if is_main() else nullcontext():
        if not resume and is_main():
            for name in (CURRENT, *CHECKPOINT_FILES, METRICS_FILE):
                (out / name).unlink(missing_ok=True)
        if from_main((out / CURRENT).exists):
            return _load_finished(run, out)
        ranker = _build_ranker(run)
        if is_main():
            ranker.save(out)
            for name in CHECKPOINT_FILES:
                (out / name).unlink(missing_ok=True)
    return ranker


def _load_finished(run: TrainingRun, out: Path) -> Ranker:
    """Load the ranker that `out` holds already, if it is of this very training."""
    manifest = read_manifest(out)
    identity = identify(located(run.recipe), run.origin)
    check_same_training(out, identity, identify(located(manifest.recipe), manifest.origin))
    log.debug("%s holds this very ranker already; nothing to do", out)
    ranker = Ranker.load(out, store=run.store, device=local_device(run.device))
    for record in read_records(out) if is_main() else ():
        run.on_record(record)
    return ranker


def _build_ranker(run: TrainingRun) -> Ranker:
    """Carry a recipe out, without saving the ranker."""
    dataset, recipe = run.dataset, run.recipe
    try:
        if recipe.channel == "bm25":
            validation = find_validation(dataset, needed=False)
            words = build_words(dataset, recipe, validation)
            return _build_measured(run, Scoring({"words": words}, {"words": 1.0}), validation)
        run.start_metrics()
        tuned = tune_encoder(run, run.out) if recipe.tuning and run.out else None
        device = local_device(run.device)
        reader = build_reader(dataset, recipe, run.store, device, tuned=tuned)
        data = from_main(lambda: TrainingData.read(dataset, recipe, reader))
        if recipe.towers:
            towers = _train_towers(run, reader, data)
        else:
            towers = Towers.for_recipe(recipe, reader.encoder.dim).eval()
            _fit_scale(towers, reader, data)
        scoring = data.build_scoring(reader, towers)
        if recipe.fused:
            scoring = fuse_signals(scoring, dataset, recipe)
        return _build_measured(run, scoring, data.validation)
    except DivergedError as error:
        raise DivergedError(f"{recipe.name}: {error}") from None


def _build_measured(run: TrainingRun, scoring: Scoring, validation: Queries | None) -> Ranker:
    """Build a ranker with its confidence and its quality on the validation split."""
    ranker = Ranker(run.recipe, run.dataset.answers, scoring, run.origin)
    if validation is not None:
        ranker.confidence = calibrate_confidence(scoring, validation)
        quality = measure_quality(lambda rows: ranker.scores(validation.texts[rows]), validation)
        ranker.origin = ranker.origin.model_copy(update={"quality": quality})
    return ranker


def _train_towers(run: TrainingRun, reader: Reader, data: TrainingData) -> Towers:
    """Train the towers of a recipe in its stages; return them on the CPU, in eval mode."""
    pretraining = run.recipe.pretraining
    use = pretraining.use if pretraining else None
    if data.pairs:
        log.info("pre-training: %s", data.pairs)
    with torch.random.fork_rng():
        torch.manual_seed(run.origin.seed)
        # Before any training, so that going on finds the same weights.
        towers = Towers.for_recipe(run.recipe, reader.encoder.dim).to(reader.encoder.device)
        if pretraining is None or data.pairs is None or use == "joint":
            _rank(run, reader, data, towers)
            return towers.cpu()
        pretrained = _pretrain(run, reader, data, data.pairs)
        if use == "zero-shot":
            _fit_scale(pretrained, reader, data)
            return pretrained.cpu()
        if use == "freeze":
            _rank(run, reader, data.project_by(pretrained), towers)
            towers.stand_on(pretrained)
        else:
            towers.start_from(pretrained)
            _rank(run, reader, data, towers)
    return towers.cpu()


def _rank(run: TrainingRun, reader: Reader, data: TrainingData, towers: Towers) -> None:
    """Train towers on the labelled queries, and on pairs too if pre-training is joint."""
    recipe, settings = run.recipe, run.recipe.training
    assert settings and recipe.towers  # noqa: S101 (the recipe's own validation)
    if recipe.pretraining and recipe.pretraining.use == "joint":
        towers.add_projector(recipe.pretraining.projector)
    if recipe.towers.offsets:
        towers.add_offsets(data.answers.answers)
    towers.to(reader.encoder.device)
    validate = partial(data.validate, reader)
    trainer = TowerTrainer(towers, data, settings, validate, seed=run.origin.seed)
    file, identity = run.out and run.out / RANKING_FILE, _identify_stage(run, reader)
    run_stage(trainer, run, file, identity, label=f"Training {recipe.name}")
    towers.add_projector(None)


def _pretrain(run: TrainingRun, reader: Reader, data: TrainingData, pairs: PairedQueries) -> Towers:
    """Pre-train single towers on pairs; the projector is thrown away."""
    recipe, seed = run.recipe, run.origin.seed
    assert recipe.towers  # noqa: S101 (the recipe's own validation)
    torch.manual_seed(seed)
    towers = Towers(recipe.towers.kind, reader.encoder.dim, dropout=recipe.towers.dropout)
    towers.add_projector(pairs.settings.projector)
    towers.to(reader.encoder.device)

    def validate(towers: Towers) -> dict[str, Any]:
        measured = data.validate(reader, towers)
        measured.pop("loss", None)  # without a fitted scale it says nothing
        return measured

    trainer = Pretrainer(towers, pairs, validate, seed=seed)
    with _pretraining_file(run, reader, data, pairs) as (file, identity):
        history = run_stage(trainer, run, file, identity, label=f"Pre-training {recipe.name}")
    if is_main():
        for warning in warn_of_collapse(recipe.name, history):
            log.warning("%s", warning)
    towers.add_projector(None)
    return towers


@contextmanager
def _pretraining_file(
    run: TrainingRun, reader: Reader, data: TrainingData, pairs: PairedQueries
) -> Iterator[tuple[Path | None, dict[str, Any]]]:
    """Give the checkpoint of a pre-training: in its run, or locked among those that runs share."""
    if run.shared is None:
        yield run.out and run.out / PRETRAINING_FILE, _identify_stage(run, reader)
        return
    assert run.recipe.towers  # noqa: S101 (the recipe's own validation)
    settings = pairs.settings.model_dump(exclude={"use"})
    tower_settings = run.recipe.towers.model_dump(exclude={"dual"})
    digest = hashlib.sha256(json.dumps([settings, tower_settings, run.origin.seed]).encode())
    groups = pairs.groups
    arrays = (pairs.features, groups.query, groups.count, data.validation_features)
    for array in (*arrays, data.answers.rows):
        digest.update(array.tobytes())
    name = digest.hexdigest()[:16]
    run.shared.mkdir(parents=True, exist_ok=True)
    with FileLock(run.shared / f"{name}.lock") if is_main() else nullcontext():
        yield run.shared / f"{name}.safetensors", {"pretraining": name}


def _identify_stage(run: TrainingRun, reader: Reader) -> dict[str, Any]:
    return {**identify(run.recipe, run.origin), "encoder": reader.encoder.fingerprint}


def _fit_scale(towers: Towers, reader: Reader, data: TrainingData) -> None:
    """Give untrained or pre-trained towers the scale that makes their scores probabilities."""
    if data.validation:
        dense = data.build_scoring(reader, towers).dense
        assert dense  # noqa: S101 (of this channel)
        passages = dense.vectors
        products = data.embed_validation(towers).vectors @ passages.rows.T
        exact = products.astype(np.float64)

        def score(scale: float) -> Float[np.ndarray, "n m"]:
            return pool_passages(scale * exact, passages.owner, passages.answers)

        with torch.no_grad():
            towers.log_scale.fill_(fit_scale(score, data.validation.labels)).log_()
