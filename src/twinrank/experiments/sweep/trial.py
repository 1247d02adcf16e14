"""One trial of a sweep: a run that is measured on validation, and thrown away."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial, TrialState

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import DivergedError
from twinrank.experiments.sweep.ranges import Ranges, varied
from twinrank.experiments.sweep.sampling import Sampler, SeededSampler, suggested
from twinrank.experiments.sweep.storage import Place
from twinrank.recipe import Keep, Recipe
from twinrank.training import Record, tracking, train

log = logging.getLogger(__name__)

UNDER_WAY, DONE = (TrialState.RUNNING,), (TrialState.COMPLETE, TrialState.PRUNED)
FAILURE = "failure"  # why a trial failed: one that was killed has no such attribute
FIRST_WHOLE = 5  # whole trials before any is pruned, so that there is something to compare with
WARM_UP = 3  # epochs before which none is pruned


@dataclass(frozen=True)
class Search:
    """What is searched for; two calls with the same search go on with one sweep.

    Attributes:
        dataset: with a train and a validation split; the test split is never read.
        recipe: whose fields are varied.
        ranges: which, from where to where.
        objective: the validation `loss`, or MAP@10 of the `worst-type`.
        seed: of every trial's training, and of the search.
    """

    dataset: Dataset
    recipe: Recipe
    ranges: Ranges
    objective: Keep = "loss"
    seed: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the outcome of a trial, as JSON values."""
        return {
            "recipe": self.recipe.values(),
            "data": self.dataset.fingerprint,
            "ranges": self.ranges.values(),
            "objective": self.objective,
            "seed": self.seed,
        }

    @property
    def name(self) -> str:
        """Of the study: the recipe's, and a digest of all else."""
        told = json.dumps(self.identity, sort_keys=True)
        return f"{self.recipe.name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    @property
    def lower_is_better(self) -> bool:
        """Whether the objective is minimised."""
        return self.objective == "loss"

    def value(self, figures: Mapping[str, Any]) -> float:
        """The objective, of what was measured on validation."""
        if self.objective == "loss":
            return float(figures["loss"])
        return min(float(own["map@10"]) for own in figures["types"].values())


@dataclass(frozen=True)
class Means:
    """How trials are carried out.

    Attributes:
        place: where they are kept.
        sampler: what draws their values.
        store: of features.
        out: folder of the sweep, where trackers may write.
        track: which tracker is told of each trial, if any.
        device: where to compute.
    """

    place: Place
    sampler: Sampler
    store: FeatureStore
    out: Path
    track: str | None
    device: str


def study_of(search: Search, means: Means) -> optuna.Study:
    """The study of a search; who comes first makes it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return means.place.study(
        search.name,
        search.identity,
        direction="minimize" if search.lower_is_better else "maximize",
        pruner=MedianPruner(n_startup_trials=FIRST_WHOLE, n_warmup_steps=WARM_UP),
        sampler=SeededSampler(means.sampler, search.seed),
        start=search.ranges.start(search.recipe),
    )


def one_trial(search: Search, means: Means, wanted: int, _: int = 0) -> bool:
    """Carry out one trial, in whatever process; not if as many as wanted have begun meanwhile."""
    study = study_of(search, means)
    if count_done(study) + count(study, UNDER_WAY) >= wanted:
        return False
    try:
        study.optimize(partial(_objective, search, means), n_trials=1)
    except ValueError as error:
        if not str(error).startswith("Cannot tell a"):
            raise
        # Its process stood still for so long that others took it for dead, and do it again.
        log.warning("a trial was given up: nothing was heard of it for a while")
        return False
    return True


def _objective(search: Search, means: Means, trial: optuna.Trial) -> float:
    """What a trial reaches; NaN, with which Optuna has it fail, if it diverges; `TrialPruned`."""
    name = f"{search.recipe.name}-trial-{trial.number}"
    source = f"trial {trial.number} of {search.name}"
    recipe = varied(search.recipe, suggested(trial, search.ranges), name=name, source=source)
    out = means.out / "trials" / str(trial.number)
    tracked = tracking(means.track, search.dataset, recipe, seed=search.seed, out=out)

    def on_record(record: Record) -> None:
        tracker.epoch(record)
        # Untrained towers score all answers alike, at a loss that first epochs exceed.
        if record["stage"] == "ranking" and record["epoch"] > 0:
            trial.report(search.value(record), record["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

    quality = failure = None
    with _scratch(recipe) as scratch, tracked as tracker:
        with suppress(optuna.TrialPruned):  # no failure, to a tracker
            try:
                ranker = train(
                    search.dataset,
                    recipe,
                    seed=search.seed,
                    out=scratch,
                    store=means.store,
                    on_record=on_record,
                    device=means.device,
                )
                quality = ranker.origin.quality
            except DivergedError as error:
                failure = str(error)
        tracker.reached(quality)
    if not quality and not failure:
        raise optuna.TrialPruned
    value = search.value(quality) if quality else math.nan
    if not math.isfinite(value):
        failure = failure or f"its {search.objective} is {value}"
        log.warning("%s: %s", source, failure)
        trial.set_user_attr(FAILURE, failure)
        return math.nan
    trial.set_user_attr("quality", quality)
    return value


@contextmanager
def _scratch(recipe: Recipe) -> Iterator[Path | None]:
    """A folder for a trial that cannot do without one, to be thrown away."""
    with TemporaryDirectory() if recipe.tuning else nullcontext() as folder:
        yield Path(folder) if folder else None


def failures(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that failed by themselves, and would again."""
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    return [trial for trial in failed if FAILURE in trial.user_attrs]


def count_done(study: optuna.Study) -> int:
    """How many of its trials are done, those that failed too."""
    return count(study, DONE) + len(failures(study))


def count(study: optuna.Study, states: tuple[TrialState, ...]) -> int:
    """How many of its trials are in one of some states."""
    return len(study.get_trials(deepcopy=False, states=states))
