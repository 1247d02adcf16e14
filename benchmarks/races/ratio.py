"""Ratios with their intervals, and what may be said of a change between two runs.

The two sides of a turn meet the same load of the machine, so a turn's ratio is what is looked at,
and the median over a pass's turns stands for the pass: a pause of the machine that hits one side
alone moves no median. Passes are processes of their own; turns of one pass share where its memory
lies and which kernels it chose, so that passes, not turns, are the independent observations.
Intervals are Student's over passes on the logarithmic scale, and Welch's (1947) for the ratio of
two runs' ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, variance

from scipy.stats import t as student

from races.race import Turn

LEVEL = 0.95
AS_BEFORE = "as before"


@dataclass(frozen=True)
class Ratio:
    """A factor and its interval; none for a single pass."""

    value: float
    interval: tuple[float, float] | None

    @property
    def side(self) -> int:
        """1 where the interval lies above one, -1 where it lies below, else 0."""
        if self.interval is None:
            return 0
        return (self.interval[0] > 1) - (self.interval[1] < 1)


def log_ratio(turns: Sequence[Turn], *, more_is_better: bool) -> float:
    """Of one pass: the logarithm of how many times ours is as good as the peer."""
    ratios = [math.log(turn["peer"] / turn["ours"]) for turn in turns]
    return -median(ratios) if more_is_better else median(ratios)


def ratio(passes: Sequence[float], level: float = LEVEL) -> Ratio:
    """The mean of the passes' logarithms as a factor."""
    if len(passes) < 2:
        return Ratio(math.exp(passes[0]), None)
    spread = variance(passes) / len(passes)
    return _ratio(fmean(passes), spread, len(passes) - 1, level)


def change(now: Sequence[float], before: Sequence[float], races: int) -> Ratio | None:
    """How many times as good as before, with an interval for all races of a run together.

    Args:
        now: logarithms of a race's ratios, one a pass.
        before: those of the run before.
        races: how many are compared: the level is raised so that, by chance, one or more of
            them is called changed in 5 % of all runs at most (Bonferroni).

    Returns:
        None where either run has a single pass: nothing is known of its noise.
    """
    if min(len(now), len(before)) < 2:
        return None
    parts = [variance(some) / len(some) for some in (now, before)]
    spread, degrees = sum(parts), 1.0
    if spread:
        degrees = spread**2 / sum(
            part**2 / (len(some) - 1) for part, some in zip(parts, (now, before), strict=True)
        )
    return _ratio(fmean(now) - fmean(before), spread, degrees, 1 - (1 - LEVEL) / races)


def _ratio(mean: float, spread: float, degrees: float, level: float) -> Ratio:
    reach = float(student.ppf((1 + level) / 2, degrees)) * math.sqrt(spread)
    return Ratio(math.exp(mean), (math.exp(mean - reach), math.exp(mean + reach)))


def verdict(found: Ratio, words: tuple[str, str]) -> str:
    """The word for a change; `as before` unless its interval excludes one."""
    return {1: words[0], -1: words[1], 0: AS_BEFORE}[found.side]
