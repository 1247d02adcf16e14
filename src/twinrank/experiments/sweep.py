"""Sweeps: the values of a recipe's fields that are best on validation, by Bayesian search.

The trials of a sweep are a study of Optuna, in SQLite or any database that SQLAlchemy knows. Every
process that opens it takes part: more workers, other machines, a second call after a kill.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import optuna
import tomli_w
from optuna.distributions import BaseDistribution
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import DivergedError, SweepError
from twinrank.experiments.runs import Calls, at_once, encode
from twinrank.experiments.sweep_database import StudyDatabase
from twinrank.experiments.sweep_ranges import Choices, Ranges, vary
from twinrank.recipe import Keep, Recipe
from twinrank.training import Record, tracking, train

MIN_TRIALS_TO_PRUNE, MIN_EPOCHS_TO_PRUNE = 5, 3
BEST_SHARE = 0.25
MIN_TRIALS_FOR_IMPORTANCE = 4
FAILURE = "failure"  # the reason of a failed trial; one that was killed has none
DONE = (TrialState.COMPLETE, TrialState.PRUNED)

SamplerName = Literal["tpe", "gp"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """The question of a sweep; two calls with the same search go on with one sweep.

    Attributes:
        dataset: with a train and a validation split; the test split is never read.
        recipe: whose fields are varied.
        ranges: the fields, and their values.
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
        """Name of the study: the recipe's, and a digest of all else."""
        text = json.dumps(self.identity, sort_keys=True)
        return f"{self.recipe.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def lower_is_better(self) -> bool:
        """Whether the objective is minimised."""
        return self.objective == "loss"

    def value(self, figures: Mapping[str, Any]) -> float:
        """Read the objective from figures on validation."""
        if self.objective == "loss":
            return float(figures["loss"])
        return min(float(of_type["map@10"]) for of_type in figures["types"].values())


@dataclass(frozen=True)
class TrialContext:
    """The surroundings of trials, in whatever process.

    Attributes:
        database: of the study.
        sampler: draws their values.
        store: of features.
        out: folder of the sweep, where trackers may write.
        track: name of the tracker that follows each trial, if any.
        device: where to compute.
    """

    database: StudyDatabase
    sampler: SamplerName
    store: FeatureStore
    out: Path
    track: str | None
    device: str


def sweep(
    search: Search,
    context: TrialContext,
    *,
    trials: int,
    workers: int | None = None,
    calls: Calls = at_once,
) -> Sweep:
    """Carry out trials until there are as many as asked for, in this call and all others.

    The first trial is the recipe as it is, if its values lie in the ranges. A trial whose best
    epoch so far is worse than the median of complete trials at that epoch is pruned. One that was
    killed is done again, at most twice; one that diverges fails, and is not.

    Args:
        search: the question.
        context: of the trials; other machines have to reach its database.
        trials: number of trials in all, pruned ones included.
        workers: trials at once; None leaves it to `calls`.
        calls: carries trials out.

    Raises:
        SweepError: if the database cannot be used or holds another sweep, or no trial reached a
            figure.
        DataError: if there is no validation split.
    """
    search.dataset.split("validation")
    study = open_study(search, context)
    encode(search.dataset, search.recipe, store=context.store, device=context.device)
    trial = partial(run_trial, search, context, trials)
    finished, waiting = 0, False
    with context.database.errors():
        while (due := trials - count_done(study)) > 0:
            if free := range(due - count_trials(study, TrialState.RUNNING)):
                finished += sum(
                    calls(trial, free, workers=workers, device=context.device, label="Trials")
                )
                continue
            if not waiting:  # for others, or until killed ones are known as such
                log.info("waiting for %d trial(s) that another process began", due)
                waiting = True
            time.sleep(1)
            context.database.requeue_killed(study)
    log.info("%d of %d trials carried out in this call", finished, count_done(study))
    if not count_trials(study, TrialState.COMPLETE):
        failed = list_failures(study)
        why = f" (trial {failed[0].number}: {failed[0].user_attrs[FAILURE]})" if failed else ""
        raise SweepError(
            f"{search.name}: no trial came to an end with a figure{why}; mend the ranges"
        )
    return Sweep(search, study)


def open_study(search: Search, context: TrialContext) -> optuna.Study:
    """Open the study of a search, or create it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return context.database.open_study(
        search.name,
        search.identity,
        direction="minimize" if search.lower_is_better else "maximize",
        pruner=MedianPruner(MIN_TRIALS_TO_PRUNE, n_warmup_steps=MIN_EPOCHS_TO_PRUNE),
        sampler=SeededSampler(context.sampler, search.seed),
        start=search.ranges.start(search.recipe),
    )


def run_trial(search: Search, context: TrialContext, wanted: int, _: int = 0) -> bool:
    """Carry out one trial, in whatever process; not if as many as wanted have begun meanwhile."""
    study = open_study(search, context)
    if count_done(study) + count_trials(study, TrialState.RUNNING) >= wanted:
        return False
    try:
        study.optimize(partial(_measure_trial, search, context), n_trials=1)
    except ValueError as error:
        if not str(error).startswith("Cannot tell a"):
            raise
        # Its process stood still for so long that others took it for dead, and do it again.
        log.warning("a trial was given up: nothing was heard of it for a while")
        return False
    return True


def _measure_trial(search: Search, context: TrialContext, trial: optuna.Trial) -> float:
    """Train a trial's recipe and give its objective.

    A trial that diverges gives NaN, with which Optuna has it fail.

    Raises:
        TrialPruned: if it is worse than others.
    """
    source = f"trial {trial.number} of {search.name}"
    name = f"{search.recipe.name}-trial-{trial.number}"
    recipe = vary(search.recipe, suggest_values(trial, search.ranges), name=name, source=source)
    out = context.out / "trials" / str(trial.number)

    def report(record: Record) -> None:
        tracker.epoch(record)
        # Untrained towers score all answers alike, at a loss that first epochs exceed.
        if record["stage"] == "ranking" and record["epoch"] > 0:
            trial.report(search.value(record), record["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

    quality = failure = None
    with ExitStack() as stack:
        # A tuned encoder needs a folder, to be thrown away.
        scratch = Path(stack.enter_context(TemporaryDirectory())) if recipe.tuning else None
        tracker = stack.enter_context(
            tracking(context.track, search.dataset, recipe, seed=search.seed, out=out)
        )
        with suppress(optuna.TrialPruned):  # no failure, to a tracker
            try:
                ranker = train(
                    search.dataset,
                    recipe,
                    seed=search.seed,
                    out=scratch,
                    store=context.store,
                    on_record=report,
                    device=context.device,
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


def suggest_values(trial: optuna.Trial, ranges: Ranges) -> dict[str, Any]:
    """Draw a value of each range."""
    values: dict[str, Any] = {}
    for path, given in ranges.fields.items():
        if isinstance(given, Choices):
            values[path] = trial.suggest_categorical(path, given.choices)
        elif isinstance(given.low, int) and isinstance(given.high, int):
            values[path] = trial.suggest_int(path, given.low, given.high, log=given.log)
        else:
            values[path] = trial.suggest_float(path, given.low, given.high, log=given.log)
    return values


class SeededSampler(BaseSampler):
    """A sampler seeded for each trial by its number: no two draw alike, on whatever machine.

    Args:
        name: `tpe`, tree-structured Parzen estimators, or `gp`, a Gaussian process.
        seed: of the sweep.
    """

    def __init__(self, name: SamplerName, seed: int) -> None:
        self._name, self._seed = name, seed
        self._sampler: BaseSampler

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: D102
        seed = 1_000_003 * self._seed + trial.number
        self._sampler = GPSampler(seed=seed) if self._name == "gp" else TPESampler(seed=seed)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(  # noqa: D102
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(  # noqa: D102
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(  # noqa: D102
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 (Optuna's own)
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def list_failures(study: optuna.Study) -> list[FrozenTrial]:
    """List the trials that failed by themselves, and would again."""
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    return [trial for trial in failed if FAILURE in trial.user_attrs]


def count_done(study: optuna.Study) -> int:
    """Count the trials that are done, those that failed too."""
    return count_trials(study, *DONE) + len(list_failures(study))


def count_trials(study: optuna.Study, *states: TrialState) -> int:
    """Count the trials in any of these states."""
    return len(study.get_trials(deepcopy=False, states=states))


@dataclass(frozen=True)
class Importance:
    """Importance of a field, among all that are varied.

    Attributes:
        field: `table.field`.
        spread: share of the objective's variance over the ranges, by a random forest (fANOVA;
            Hutter et al. 2014).
        best: how far the best quarter of the trials narrows it down, as a share (PED-ANOVA;
            Watanabe et al. 2023).
    """

    field: str
    spread: float
    best: float


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep so far.

    Attributes:
        search: the question.
        study: Optuna's, with every trial; `quality` of a complete one is in its user attributes.
    """

    search: Search
    study: optuna.Study

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """Trials that are done, best first, the pruned ones last, by their best epoch."""
        sign = 1 if self.search.lower_is_better else -1
        done = self.study.get_trials(deepcopy=False, states=DONE)
        return sorted(done, key=lambda t: (t.state == TrialState.PRUNED, sign * self.reached(t)))

    @cached_property
    def failed(self) -> dict[int, str]:
        """Reason of each trial that failed, by its number."""
        return {trial.number: trial.user_attrs[FAILURE] for trial in list_failures(self.study)}

    @property
    def best(self) -> Recipe:
        """Recipe of the best trial; with the search's seed it reaches the same again."""
        recipe, trial = self.search.recipe, self.trials[0]
        source = f"trial {trial.number} of {self.search.name}"
        return vary(recipe, trial.params, name=f"{recipe.name}-best", source=source)

    @property
    def best_toml(self) -> str:
        """The best recipe as a file, headed by its result."""
        search = self.search
        value = self.reached(self.trials[0])
        reached = f"validation {search.objective} {value:.6f}, seed {search.seed}"
        head = f"# {reached}: the best of {len(self.trials)} trials on {search.dataset.name}\n"
        return head + tomli_w.dumps(self.best.values())

    def reached(self, trial: FrozenTrial) -> float:
        """Give a trial's value; of a pruned one its best epoch's, or the worst there is."""
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            return trial.value
        lower = self.search.lower_is_better
        values = [v for v in trial.intermediate_values.values() if not math.isnan(v)]
        return (min if lower else max)(values, default=math.inf if lower else -math.inf)

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """Importance of each field, the largest first; none where trials are few or all alike.

        A pruned trial counts with its best epoch: without those, the values that are no good
        would seem not to matter.
        """
        spread = self._importance_shares(FanovaImportanceEvaluator(seed=0))
        best = self._importance_shares(PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE))
        if len(self.completed.trials) < MIN_TRIALS_FOR_IMPORTANCE or not (spread and best):
            return ()
        fields = self.search.ranges.fields
        importances = (Importance(f, spread.get(f, 0.0), best.get(f, 0.0)) for f in fields)
        return tuple(sorted(importances, key=lambda importance: -importance.spread))

    @cached_property
    def completed(self) -> optuna.Study:
        """A study in memory in which a pruned trial is complete, with its best epoch."""
        study = optuna.create_study(direction=self.study.direction)
        for trial in sorted(self.trials, key=lambda trial: trial.number):
            value, distributions = self.reached(trial), trial.distributions
            if math.isfinite(value):
                study.add_trial(
                    optuna.create_trial(
                        params=trial.params, distributions=distributions, value=value
                    )
                )
        return study

    def _importance_shares(self, evaluator: BaseImportanceEvaluator) -> dict[str, float]:
        """Give importances that sum up to one; nothing where all trials are alike."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of too few trials: the page says that
                shares = get_param_importances(self.completed, evaluator=evaluator)
        except (RuntimeError, ValueError):  # no variance
            return {}
        return {field: float(share) for field, share in shares.items()}

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values: the question, the best recipe, importances, all trials."""
        return {
            "data": self.search.dataset.name,
            **self.search.identity,
            "best": {"value": self.reached(self.trials[0]), "recipe": self.best.values()},
            "importances": [asdict(importance) for importance in self.importances],
            "trials": [
                {
                    "number": trial.number,
                    "pruned": trial.state == TrialState.PRUNED,
                    "value": value if math.isfinite(value := self.reached(trial)) else None,
                    "params": trial.params,
                    "epochs": trial.last_step,
                    "seconds": trial.duration.total_seconds() if trial.duration else None,
                    "quality": trial.user_attrs.get("quality"),
                }
                for trial in self.trials
            ],
            "failed": [{"number": number, "why": why} for number, why in self.failed.items()],
        }
