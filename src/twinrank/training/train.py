"""Training: a recipe carried out on a data set with a seed, into a folder that is a ranker."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from twinrank.arguments import check_type, count_of, path_of
from twinrank.data import Dataset, Queries
from twinrank.data.validation import SYNTHETIC
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
    refit_signals,
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
    since_best,
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
REFIT_FILE = "refit.safetensors"
CHECKPOINT_FILES = (TUNING_FILE, PRETRAINING_FILE, RANKING_FILE, REFIT_FILE)
RESTARTED = ".restarted"  # is there until a training that starts over has replaced the ranker

log = logging.getLogger(__name__)


def train(
    dataset: Dataset,
    recipe: Recipe | str | Path,
    *,
    seed: int = 0,
    out: Path | str | None = None,
    store: FeatureStore | None = None,
    resume: bool = True,
    refit: bool = True,
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
            is finished; False starts over, and leaves a ranker there until the new one is whole.
        refit: once epochs, weights and confidence are chosen on validation, train the towers again
            on train and validation together, for as many epochs: nothing labelled is wasted, but
            nothing is left to measure on but test. `Origin.quality` is that of the ranker chosen.
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
        refit=refit and bool(recipe.training) and "validation" in dataset.labels["split"],
    )
    run = TrainingRun(dataset, recipe, origin, out, store, device, on_record)
    join_launched()
    return _build_ranker(run) if out is None else _train_into(out, run, resume=resume)


def _train_into(out: Path, run: TrainingRun, *, resume: bool) -> Ranker:
    """Carry a run out in its folder, unless it holds the ranker already."""
    with writing(out) if is_main() else nullcontext():
        if not resume and is_main():
            (out / RESTARTED).touch()
            for name in (*CHECKPOINT_FILES, METRICS_FILE):
                (out / name).unlink(missing_ok=True)
        if from_main(lambda: (out / CURRENT).exists() and not (out / RESTARTED).exists()):
            return _load_finished(run, out)
        ranker = _build_ranker(run)
        if is_main():
            ranker.save(out, keep=None)
            for name in (RESTARTED, *CHECKPOINT_FILES):
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
            return _build_trained(run, reader, data)
        towers = Towers.for_recipe(recipe, reader.dim).eval()
        _fit_scale(towers, reader, data)
        return _build_measured(run, data.build_scoring(reader, towers), data.validation)
    except DivergedError as error:
        raise DivergedError(f"{recipe.name}: {error}") from None


def _build_trained(run: TrainingRun, reader: Reader, data: TrainingData) -> Ranker:
    """Train the towers of a recipe in its stages, and build their ranker."""
    recipe, pretraining, pretrained = run.recipe, run.recipe.pretraining, None
    if data.pairs:
        log.info("pre-training: %s", data.pairs)
    with torch.random.fork_rng():
        if data.pairs and pretraining and pretraining.use != "joint":
            pretrained = _pretrain(run, reader, data, data.pairs)
        if pretrained and recipe.training is None:
            _fit_scale(pretrained, reader, data)
            scoring = data.build_scoring(reader, pretrained.cpu())
            return _build_measured(run, scoring, data.validation)
        towers, epochs = _rank(run, reader, data, pretrained)
        scoring = data.build_scoring(reader, towers)
        if recipe.fused:
            scoring = fuse_signals(scoring, run.dataset, recipe)
        ranker = _build_measured(run, scoring, data.validation)
        if run.origin.refit:
            data = data.with_validation()
            towers, _ = _rank(run, reader, data, pretrained, epochs=epochs)
            scoring = data.build_scoring(reader, towers)
            ranker.scoring = refit_signals(scoring, ranker.scoring, run.dataset, recipe)
    return ranker


def _build_measured(run: TrainingRun, scoring: Scoring, validation: Queries | None) -> Ranker:
    """Build a ranker with its confidence and its quality on the validation split."""
    ranker = Ranker(run.recipe, run.dataset.answers, scoring, run.origin)
    if validation is not None:
        if SYNTHETIC in validation.frame["type"]:
            log.warning("validation is made of answers, so that the ranker knows no confidence")
        else:
            ranker.confidence = calibrate_confidence(scoring, validation)
        quality = measure_quality(lambda rows: ranker.scores(validation.texts[rows]), validation)
        ranker.origin = ranker.origin.model_copy(update={"quality": quality})
    return ranker


def _rank(
    run: TrainingRun,
    reader: Reader,
    data: TrainingData,
    pretrained: Towers | None,
    *,
    epochs: int | None = None,
) -> tuple[Towers, int]:
    """Train towers on the labelled queries, and on pairs too if pre-training is joint.

    Args:
        run: with the recipe and the seed.
        reader: of the features.
        data: the features.
        pretrained: towers to start from, or to stand on.
        epochs: how many, without validation; none stops by validation.

    Returns:
        The towers, on the CPU, in eval mode, and the number of the epoch that they are of.
    """
    recipe, settings = run.recipe, run.recipe.training
    assert settings and recipe.towers  # noqa: S101 (the recipe's own validation)
    torch.manual_seed(run.origin.seed)
    towers = Towers.for_recipe(recipe, reader.dim).to(reader.encoder.device)
    is_frozen = recipe.pretraining is not None and recipe.pretraining.use == "freeze"
    if pretrained and is_frozen:
        data = data.project_by(pretrained)
    elif pretrained:
        towers.start_from(pretrained)
    if recipe.pretraining and recipe.pretraining.use == "joint":
        towers.add_projector(recipe.pretraining.projector)
    if recipe.towers.offsets:
        towers.add_offsets(data.answers.answers)
    towers.to(reader.encoder.device)
    validate = partial(data.validate, reader) if epochs is None else None
    if epochs is not None:
        settings = settings.model_copy(update={"epochs": epochs})
    trainer = TowerTrainer(towers, data, settings, validate, seed=run.origin.seed)
    name, what = (RANKING_FILE, "Training") if validate else (REFIT_FILE, "Training again")
    file, identity = run.out and run.out / name, _identify_stage(run, reader)
    history = run_stage(trainer, run, file, identity, label=f"{what} {recipe.name}")
    towers.add_projector(None)
    if pretrained and is_frozen:
        towers.stand_on(pretrained)
    later = since_best(history, trainer.keep) if trainer.keep else 0
    return towers.cpu(), len(history) - 1 - later


def _pretrain(run: TrainingRun, reader: Reader, data: TrainingData, pairs: PairedQueries) -> Towers:
    """Pre-train single towers on pairs; the projector is thrown away."""
    recipe, seed = run.recipe, run.origin.seed
    assert recipe.towers  # noqa: S101 (the recipe's own validation)
    torch.manual_seed(seed)
    towers = Towers(recipe.towers.kind, reader.dim, dropout=recipe.towers.dropout)
    towers.add_projector(pairs.settings.projector)
    towers.to(reader.encoder.device)

    def validate(towers: Towers) -> dict[str, Any]:
        measured = data.validate(reader, towers)
        measured.pop("loss", None)  # without a fitted scale it says nothing
        return measured

    trainer = Pretrainer(towers, pairs, validate, seed=seed)
    file, identity = run.out and run.out / PRETRAINING_FILE, _identify_stage(run, reader)
    history = run_stage(trainer, run, file, identity, label=f"Pre-training {recipe.name}")
    if is_main():
        for warning in warn_of_collapse(recipe.name, history):
            log.warning("%s", warning)
    towers.add_projector(None)
    return towers


def _identify_stage(run: TrainingRun, reader: Reader) -> dict[str, Any]:
    encoders = [encoder.fingerprint for encoder in reader.encoders]
    return {**identify(run.recipe, run.origin), "encoders": encoders}


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
