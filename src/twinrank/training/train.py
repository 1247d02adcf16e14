"""A run: a recipe carried out on a data set with a seed, into a folder that is a ranker."""

from __future__ import annotations

import logging
import time
from functools import cache
from pathlib import Path

import torch

from twinrank.arguments import check_type, count_of, path_of
from twinrank.data import Dataset, Queries
from twinrank.data.statistics import unspaced_warning
from twinrank.encoding import FeatureStore
from twinrank.errors import DivergedError, RecipeError
from twinrank.evaluation import by_type, means, measure
from twinrank.ranking import Origin, Ranker, Reader, Scoring, located, read_card, writing
from twinrank.ranking.card import CARD
from twinrank.recipe import Recipe
from twinrank.training.encoder_tuning import tune_encoder
from twinrank.training.fusing import confidence_of, fused, scaled_words
from twinrank.training.material import Material, reader_for
from twinrank.training.resume import (
    METRICS_FILE,
    UNFINISHED,
    OnRecord,
    check_same,
    choices,
    recording,
    records_in,
)
from twinrank.training.stages import Together, Work, alone, train_towers, with_fitted_scale
from twinrank.training.team import Team, is_main
from twinrank.training.tower_modules import towers_of

log = logging.getLogger(__name__)


def fit(
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
    together: Together = alone,
) -> Ranker:
    """Carry a recipe out: features from the store, towers fitted, a ranker left.

    Args:
        dataset: with a `train` and a `validation` split, if the recipe trains towers.
        recipe: what to do; or its name, or a TOML file.
        seed: decides everything random.
        out: folder for the ranker, `metrics.jsonl` (a line an epoch) and a checkpoint an
            epoch; none keeps nothing.
        store: where features are kept; without one every text is encoded here and now.
        resume: go on from what `out` holds of this very training, or return its ranker if it
            is finished; false starts over.
        shared: a folder where runs leave their pre-training for those that begin with the
            same one.
        on_record: called with what `metrics.jsonl` holds, an epoch at a time, those of an
            earlier call first; what it raises ends the run, which can be gone on with.
        device: where encoder and towers run: `cpu`, `cuda`, `mps`, or `auto`.
        together: who fits the towers on labelled queries: this process, or several that share
            each step, with the same outcome within float error.

    Where `accelerate launch` started several processes, they tune the encoder together; the
    first does all else, and the others wait for the ranker. All have to see `out`.

    Raises:
        RecipeError: if the recipe tunes the encoder, and there is no `out` to leave it in.
        DataError: if a split the recipe needs has no labels, or no queries make a pair.
        RankerError: if `out` holds something of another training, and `resume` is true.
        DivergedError: if losses or scores are no longer finite.
    """
    check_type(dataset, Dataset, "give a data set: Dataset.load(FOLDER)")
    recipe, seed = Recipe.load(recipe), count_of(seed, "seed")
    out = None if out is None else path_of(out, "out")
    origin = Origin(
        data=dataset.name,
        data_fingerprint=dataset.fingerprint,
        folder=str(dataset.folder.resolve()) if dataset.folder else None,
        seed=seed,
        labelled=dataset.labelled(),
    )
    if recipe.words:
        for warning in unspaced_warning(dataset):
            _warn_once(f"{dataset.name}: {warning}")
    if recipe.tuning and out is None:
        raise RecipeError(f"{recipe.name} tunes the encoder; give a folder (out) to leave it in")
    team = Team.launched() if recipe.tuning else None

    def carried_out(out: Path | None) -> Ranker:
        try:
            return _carried_out(
                dataset, recipe, origin, store, device, out, shared, on_record, team, together
            )
        except DivergedError as error:
            raise DivergedError(f"{recipe.name}: {error}") from None

    if out is None:
        return carried_out(None)
    if team and not is_main():
        return _helped(dataset, recipe, origin, store, device, out, team)
    with writing(out):
        if not resume:
            for name in (CARD, *UNFINISHED, METRICS_FILE):
                (out / name).unlink(missing_ok=True)
        finished = (out / CARD).exists()
        if team:
            team.told(finished)
        if finished:
            ranker = _finished(out, recipe, origin, store, device)
            for record in records_in(out):
                on_record(record)
            return ranker
        ranker = carried_out(out)
        ranker.save(out)
        for name in UNFINISHED:
            (out / name).unlink(missing_ok=True)
    return ranker


@cache
def _warn_once(warning: str) -> None:
    """Warn, but once for all runs of a comparison or a sweep in this process."""
    log.warning("%s", warning)


def _helped(
    dataset: Dataset,
    recipe: Recipe,
    origin: Origin,
    store: FeatureStore | None,
    device: str,
    out: Path,
    team: Team,
) -> Ranker:
    """A further process's part: it tunes along, and waits for the ranker that the first makes."""
    if not team.told(False):
        tune_encoder(dataset, recipe, origin, out=out, team=team, device=device)
    while not (out / CARD).exists():  # not a meeting: those have time limits
        time.sleep(0.5)
    return Ranker.load(out, store=store, device=team.device or device)


def _carried_out(
    dataset: Dataset,
    recipe: Recipe,
    origin: Origin,
    store: FeatureStore | None,
    device: str,
    out: Path | None,
    shared: Path | None,
    on_record: OnRecord,
    team: Team | None,
    together: Together,
) -> Ranker:
    if recipe.channel == "bm25":
        return _words(dataset, recipe, origin)
    with recording(out, on_record) as record:
        tuned = None
        if team and out:
            tuned = tune_encoder(
                dataset, recipe, origin, out=out, on_record=record, team=team, device=device
            )
        reader = reader_for(dataset, recipe, store, device, tuned=tuned)
        return _on_features(dataset, recipe, origin, reader, out, shared, record, together)


def _on_features(
    dataset: Dataset,
    recipe: Recipe,
    origin: Origin,
    reader: Reader,
    out: Path | None,
    shared: Path | None,
    on_record: OnRecord,
    together: Together,
) -> Ranker:
    """All that follows once the encoder is as it will be."""
    device = reader.encoder.device
    where = torch.device(device if recipe.towers else "cpu")
    material = Material.read(dataset, recipe, reader)
    work = Work(recipe, origin, reader, material, out, shared, where, together)
    if recipe.towers:
        towers = train_towers(work, on_record)
    else:
        towers = with_fitted_scale(towers_of(recipe, reader.encoder.dim).eval(), work)
    scoring = work.scoring(towers)
    if recipe.fused:
        scoring = fused(scoring, dataset, recipe)
    return _measured(Ranker(recipe, dataset.answers, scoring, origin), material.validation)


def _words(dataset: Dataset, recipe: Recipe, origin: Origin) -> Ranker:
    there = "validation" in dataset.labels["split"]
    validation = dataset.split("validation") if there else None
    scoring = Scoring({"words": scaled_words(dataset, recipe, validation)}, {"words": 1.0})
    return _measured(Ranker(recipe, dataset.answers, scoring, origin), validation)


def _measured(ranker: Ranker, validation: Queries | None) -> Ranker:
    """The ranker, with what it reaches on validation, and how sure it may be."""
    if validation is None:
        return ranker
    ranker.confidence = confidence_of(ranker.scoring, validation)
    rows = measure(lambda part: ranker.scores(validation.texts[part]), validation)
    quality = {**means(rows), "types": {kind: means(part) for kind, part in by_type(rows).items()}}
    ranker.origin = ranker.origin.model_copy(update={"quality": quality})
    return ranker


def _finished(
    out: Path, recipe: Recipe, origin: Origin, store: FeatureStore | None, device: str
) -> Ranker:
    card = read_card(out)
    ours, theirs = choices(located(recipe), origin), choices(located(card.recipe), card.origin)
    check_same(out, ours, theirs)
    log.debug("%s holds this very ranker already; nothing to do", out)
    return Ranker.load(out, store=store, device=device)
