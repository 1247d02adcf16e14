"""How a trial of a sweep draws its values."""

from __future__ import annotations

from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial

from twinrank.experiments.sweep.ranges import Choices, Ranges

Sampler = Literal["tpe", "gp"]


class SeededSampler(BaseSampler):
    """A sampler seeded for each trial by its number: no two draw alike, on whatever machine.

    Args:
        kind: `tpe`, tree-structured Parzen estimators, or `gp`, a Gaussian process.
        seed: of the sweep.
    """

    def __init__(self, kind: Sampler, seed: int) -> None:
        self._kind, self._seed = kind, seed
        self._own: BaseSampler

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: D102
        seed = 1_000_003 * self._seed + trial.number
        self._own = GPSampler(seed=seed) if self._kind == "gp" else TPESampler(seed=seed)
        self._own.before_trial(study, trial)

    def infer_relative_search_space(  # noqa: D102
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._own.infer_relative_search_space(study, trial)

    def sample_relative(  # noqa: D102
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._own.sample_relative(study, trial, search_space)

    def sample_independent(  # noqa: D102
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 (Optuna's own)
        return self._own.sample_independent(study, trial, param_name, param_distribution)


def suggested(trial: optuna.Trial, ranges: Ranges) -> dict[str, Any]:
    """A value of each range."""
    values: dict[str, Any] = {}
    for path, own in ranges.of.items():
        if isinstance(own, Choices):
            values[path] = trial.suggest_categorical(path, own.choices)
        elif isinstance(own.low, int) and isinstance(own.high, int):
            values[path] = trial.suggest_int(path, own.low, own.high, log=own.log)
        else:
            values[path] = trial.suggest_float(path, own.low, own.high, log=own.log)
    return values
