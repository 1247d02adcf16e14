"""What a sweep has found: its trials, the best recipe, and which field matters how much."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import optuna
import tomli_w
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.trial import FrozenTrial, TrialState

from twinrank.experiments.sweep.ranges import varied
from twinrank.experiments.sweep.trial import DONE, FAILURE, Search, failures
from twinrank.recipe import Recipe

BEST_SHARE = 0.25
FEWEST = 4  # trials that an importance can be told from


@dataclass(frozen=True)
class Importance:
    """How much a field matters, of all that are varied.

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
    """What a sweep has found so far.

    Attributes:
        search: what was searched for.
        study: Optuna's, with every trial; `quality` of a whole one is in its user attributes.
    """

    search: Search
    study: optuna.Study

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """Those that are done, best first, the pruned ones last, by their best epoch."""
        sign = 1 if self.search.lower_is_better else -1
        done = self.study.get_trials(deepcopy=False, states=DONE)
        return sorted(done, key=lambda t: (t.state == TrialState.PRUNED, sign * self.reached(t)))

    @cached_property
    def failed(self) -> dict[int, str]:
        """Why each trial failed that diverged, by its number."""
        return {trial.number: trial.user_attrs[FAILURE] for trial in failures(self.study)}

    @property
    def best(self) -> Recipe:
        """The recipe of the best trial; with the search's seed it reaches the same again."""
        own, best = self.search.recipe, self.trials[0]
        source = f"trial {best.number} of {self.search.name}"
        return varied(own, best.params, name=f"{own.name}-best", source=source)

    @property
    def best_toml(self) -> str:
        """The best recipe as a file, which says what it reached."""
        of = self.search
        reached = f"validation {of.objective} {self.reached(self.trials[0]):.6f}, seed {of.seed}"
        head = f"# {reached}: the best of {len(self.trials)} trials on {of.dataset.name}\n"
        return head + tomli_w.dumps(self.best.values())

    def reached(self, trial: FrozenTrial) -> float:
        """A trial's value; of one that was pruned its best epoch's, or the worst there is."""
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            return trial.value
        lower = self.search.lower_is_better
        values = [v for v in trial.intermediate_values.values() if not math.isnan(v)]
        return (min if lower else max)(values, default=math.inf if lower else -math.inf)

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """Of each field, the most important first; none of too few trials, or all alike.

        A pruned trial counts with its best epoch: without those, the values that are no good
        would seem not to matter.
        """
        ways = (
            FanovaImportanceEvaluator(seed=0),
            PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE),
        )
        spread, best = (self._shares(way) for way in ways)
        if len(self.whole.trials) < FEWEST or not (spread and best):
            return ()
        each = (Importance(f, spread.get(f, 0.0), best.get(f, 0.0)) for f in self.search.ranges.of)
        return tuple(sorted(each, key=lambda importance: -importance.spread))

    @cached_property
    def whole(self) -> optuna.Study:
        """A study in memory in which every trial is whole, a pruned one with its best epoch."""
        study = optuna.create_study(direction=self.study.direction)
        for trial in sorted(self.trials, key=lambda trial: trial.number):
            value = self.reached(trial)
            if math.isfinite(value):
                of = trial.distributions
                study.add_trial(
                    optuna.create_trial(params=trial.params, distributions=of, value=value)
                )
        return study

    def _shares(self, way: BaseImportanceEvaluator) -> dict[str, float]:
        """Importances that sum up to one; nothing where all trials are alike."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of too few trials: the page says that
                found = get_param_importances(self.whole, evaluator=way)
        except (RuntimeError, ValueError):  # no variance
            return {}
        return {field: float(share) for field, share in found.items()}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: what was searched for, the best recipe, importances, all trials."""
        return {
            "data": self.search.dataset.name,
            **self.search.identity,
            "best": {"value": self.reached(self.trials[0]), "recipe": self.best.values()},
            "importances": [asdict(one) for one in self.importances],
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
