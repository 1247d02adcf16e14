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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import sqlalchemy as sa
import tomli_w
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.importance import (
    FanovaImportanceEvaluator,
    get_param_importances,
)
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from twinrank.addresses import hide_passwords, read_address, show_address
from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import DivergedError, TwinrankError, first_line
from twinrank.experiments.runs import Calls, at_once, encode
from twinrank.experiments.sweep_ranges import Choices, Ranges, vary
from twinrank.recipe import Keep, Recipe
from twinrank.training import Record, tracking, train

FILE_NAME = "sweep.db"
HEARTBEAT_EVERY_S, DEAD_AFTER_S = 5, 60
MAX_RETRIES = 2  # of a trial whose process was killed
LOCK_NUMBER = 0x7477696E  # the number of PostgreSQL's lock: "twin"
MIN_TRIALS_TO_PRUNE, MIN_EPOCHS_TO_PRUNE = 5, 3
MIN_TRIALS_PER_FIELD = 10  # of fewer, a forest makes importances of chance
FAILURE = "failure"  # the reason why a pruned trial has no figure: it diverged
DONE = (TrialState.COMPLETE, TrialState.PRUNED)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """The question of a sweep; two calls with the same search go on with one sweep."""

    dataset: Dataset  # with a train and a validation split; the test split is never read
    recipe: Recipe
    ranges: Ranges
    objective: Keep = "loss"  # the validation loss, or MAP@10 of the worst type
    seed: int = 0  # of every trial's training, and of the search

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
    """The surroundings of trials, in whatever process."""

    address: str  # of the database, see `find_database`
    store: FeatureStore
    out: Path  # folder of the sweep, where trackers may write
    track: str | None  # name of the tracker that follows each trial, if any
    device: str


def find_database(address: str | None, out: Path) -> str:
    """Give the address of the database of trials; without one a SQLite file in `out`.

    Raises:
        TwinrankError: if it is no address, one in memory, or its driver is missing.
    """
    if address is None:
        out.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{out / FILE_NAME}"
    try:
        url = read_address(address)
    except ValueError as error:
        raise TwinrankError(
            f"the address of the storage is {error}; give sqlite:///FILE or "
            "postgresql://USER@HOST/NAME"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise TwinrankError("a storage in memory would lose the sweep; give sqlite:///FILE")
    try:
        url.get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError) as error:
        raise TwinrankError(
            f"{show_address(url)}: {error}; install its driver: pip install 'twinrank[tune]' "
            "brings those of SQLite and PostgreSQL"
        ) from None
    return address


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

    `calls` carries them out, so many `workers` at once. Other machines have to reach the database.

    Raises:
        TwinrankError: if the database cannot be used or holds another sweep, or no trial reached a
            figure.
        DataError: if there is no validation split.
    """
    search.dataset.split("validation")
    study = open_study(search, context)
    encode(search.dataset, search.recipe, store=context.store, device=context.device)
    trial = partial(run_trial, search, context, trials)
    finished, known = 0, set[int]()
    with _database_errors(context.address):
        while (due := trials - count_trials(study, *DONE)) > 0:
            if free := range(due - count_trials(study, TrialState.RUNNING)):
                options = {"workers": workers, "device": context.device, "label": "Trials"}
                finished += sum(calls(trial, free, **options))
                continue
            if not known:  # wait for others, or until killed ones are known as such
                log.info("waiting for %d trial(s) that another process began", due)
            time.sleep(1)
            fail_killed(study, known)
    log.info("%d of %d trials carried out in this call", finished, count_trials(study, *DONE))
    result = Sweep(search, study)
    if not count_trials(study, TrialState.COMPLETE):
        reasons = "; ".join(f"trial {number}: {why}" for number, why in result.failed.items())
        raise TwinrankError(
            f"{search.name}: no trial reached a figure ({reasons}); mend the ranges"
        )
    return result


def open_study(search: Search, context: TrialContext) -> optuna.Study:
    """Open the study of a search; whoever creates it queues the recipe's own values.

    Raises:
        TwinrankError: if the database cannot be used, or is a file that holds another sweep.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    address = context.address
    wait = {"connect_args": {"timeout": 60}} if address.startswith("sqlite") else {}
    with _database_errors(address), _hold_lock(address):
        storage = RDBStorage(
            address,
            engine_kwargs=wait,
            heartbeat_interval=HEARTBEAT_EVERY_S,
            grace_period=DEAD_AFTER_S,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
        )
        names = optuna.get_all_study_names(storage)
        if names and search.name not in names and address == find_database(None, context.out):
            shown = show_address(read_address(address))
            raise TwinrankError(f"{shown}: holds another sweep; choose another folder (--out)")
        study = optuna.create_study(
            study_name=search.name,
            storage=storage,
            direction="minimize" if search.lower_is_better else "maximize",
            pruner=MedianPruner(MIN_TRIALS_TO_PRUNE, n_warmup_steps=MIN_EPOCHS_TO_PRUNE),
            load_if_exists=True,
        )
        if not study.user_attrs:
            start = search.ranges.start(search.recipe)
            if start:
                study.enqueue_trial(start)
            study.set_user_attr("identity", search.identity)
    return study


@contextmanager
def _hold_lock(address: str) -> Iterator[None]:
    """Hold a lock while the database is opened: one process alone can create its tables."""
    url = read_address(address)
    file = Path(url.database or "")
    with ExitStack() as stack:
        if url.get_backend_name() == "sqlite" and file.parent.is_dir():
            stack.enter_context(FileLock(f"{file}.lock"))
        elif url.get_backend_name() == "postgresql":
            connection = stack.enter_context(sa.create_engine(url, poolclass=NullPool).begin())
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_NUMBER)))
        yield


@contextmanager
def _database_errors(address: str) -> Iterator[None]:
    """Raise errors of the database as an error of one line, without its password."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        url = read_address(address)
        reason = hide_passwords(first_line(error.__cause__ or error), url)
        raise TwinrankError(
            f"{show_address(url)}: {reason}; check the address, and run the same again: it goes on"
        ) from None  # the driver's own error may hold the password


def fail_killed(study: optuna.Study, known: set[int]) -> None:
    """Fail the running trials whose process gives no heartbeat any more; they are done again.

    Without a heartbeat a trial is never called stale. One that was killed before its first has
    none, so each gets one as it is first seen: `known` holds the numbers of those that were.
    """
    storage: Any = study._storage
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number not in known:
            known.add(trial.number)
            storage.record_heartbeat(trial._trial_id)
    fail_stale_trials(study)


def run_trial(search: Search, context: TrialContext, wanted: int, _: int = 0) -> bool:
    """Carry out one trial, in whatever process; not if as many as wanted have begun meanwhile."""
    study = open_study(search, context)
    if count_trials(study, *DONE, TrialState.RUNNING) >= wanted:
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

    Raises:
        TrialPruned: if it is worse than others, or diverges.
    """
    # Seeded by its number: no two trials draw alike, on any machine.
    trial.study.sampler = TPESampler(seed=1_000_003 * search.seed + trial.number)
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

    quality = None
    with ExitStack() as stack:
        # A tuned encoder needs a folder, to be thrown away.
        scratch = Path(stack.enter_context(TemporaryDirectory())) if recipe.tuning else None
        tracker = stack.enter_context(
            tracking(context.track, search.dataset, recipe, seed=search.seed, out=out)
        )
        try:
            ranker = train(
                search.dataset,
                recipe,
                seed=search.seed,
                out=scratch,
                refit=False,
                store=context.store,
                on_record=report,
                device=context.device,
            )
            quality = ranker.origin.quality
        except DivergedError as error:
            log.warning("%s: %s", source, error)
            trial.set_user_attr(FAILURE, str(error))
        except optuna.TrialPruned:
            pass  # no failure, to a tracker
        tracker.reached(quality)
    if not quality:
        raise optuna.TrialPruned
    trial.set_user_attr("quality", quality)
    return search.value(quality)


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


def count_trials(study: optuna.Study, *states: TrialState) -> int:
    """Count the trials in any of these states."""
    return len(study.get_trials(deepcopy=False, states=states))


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep so far."""

    search: Search
    study: optuna.Study  # with every trial; the figures of a complete one are its `quality`

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """Trials that are done, best first, the pruned ones last, by their best epoch."""
        sign = 1 if self.search.lower_is_better else -1
        done = self.study.get_trials(deepcopy=False, states=DONE)
        done = [trial for trial in done if FAILURE not in trial.user_attrs]
        return sorted(done, key=lambda t: (t.state == TrialState.PRUNED, sign * self.reached(t)))

    @cached_property
    def failed(self) -> dict[int, str]:
        """Reason of each trial that diverged, by its number."""
        done = self.study.get_trials(deepcopy=False, states=DONE)
        return {t.number: t.user_attrs[FAILURE] for t in done if FAILURE in t.user_attrs}

    @property
    def best(self) -> Recipe:
        """Recipe of the best trial; with the search's seed it reaches the same again."""
        recipe, trial = self.search.recipe, self.trials[0]
        source = f"trial {trial.number} of {self.search.name}"
        return vary(recipe, trial.params, name=f"{recipe.name}-best", source=source)

    @property
    def best_toml(self) -> str:
        """The best recipe as a file, headed by its result."""
        search, value = self.search, self.reached(self.trials[0])
        reached = f"validation {search.objective} {value:.6f}, seed {search.seed}"
        head = f"# {reached}: the best of {len(self.trials)} trials on {search.dataset.name}\n"
        return head + tomli_w.dumps(self.best.values())

    def reached(self, trial: FrozenTrial) -> float:
        """Give a trial's value; of a pruned one its best epoch's, or the worst there is."""
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            return trial.value
        return self.find_best_epoch(trial)

    def find_best_epoch(self, trial: FrozenTrial) -> float:
        """Find the value of a trial's best epoch, or the worst there is.

        It is of the towers alone, without words or fitted weights, whether a trial was pruned or
        not: only so all can be compared. Where nothing is trained, it is the ranker's value.
        """
        lower = self.search.lower_is_better
        values = [v for v in trial.intermediate_values.values() if not math.isnan(v)]
        if not values and trial.state == TrialState.COMPLETE and trial.value is not None:
            return trial.value
        return (min if lower else max)(values, default=math.inf if lower else -math.inf)

    @cached_property
    def completed(self) -> optuna.Study:
        """A study in memory in which every trial is complete, with the value of its best epoch."""
        study = optuna.create_study(direction=self.study.direction)
        for trial in sorted(self.trials, key=lambda trial: trial.number):
            value, distributions = self.find_best_epoch(trial), trial.distributions
            if math.isfinite(value):
                study.add_trial(
                    optuna.create_trial(
                        params=trial.params, distributions=distributions, value=value
                    )
                )
        return study

    @cached_property
    def importances(self) -> dict[str, float]:
        """Importance of each field, the largest first; none where trials are few or all alike.

        It is the share of the objective's variance over the ranges, by a random forest (fANOVA;
        Hutter et al. 2014). Every trial counts with its best epoch, pruned ones too: else the
        values that are no good would seem not to matter.
        """
        if len(self.completed.trials) < MIN_TRIALS_PER_FIELD * len(self.search.ranges.fields):
            return {}
        forest = FanovaImportanceEvaluator(seed=0)
        try:
            return get_param_importances(self.completed, evaluator=forest)  # sorted
        except (RuntimeError, ValueError):  # no variance
            return {}

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values: the question, the best recipe, importances, all trials."""
        return {
            "data": self.search.dataset.name,
            **self.search.identity,
            "best": {"value": self.reached(self.trials[0]), "recipe": self.best.values()},
            "importances": self.importances,
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
