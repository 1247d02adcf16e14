"""Whether a new ranker may replace an old one: only if it is worse for no type of query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twinrank.data import Dataset
from twinrank.evaluation import Difference, Evaluation, differences, evaluate
from twinrank.ranking import Ranker

METRIC = "map@10"
COMPARED_METRICS = ("accuracy@3", METRIC)
SIGNIFICANCE_LEVEL = 0.05  # of the paired test
MIN_HELD_BACK_QUERIES = 6  # of fewer, no paired test can reach the level
MARGIN = 0.02  # MAP@10: about twice what a type's figure moves from seed to seed


@dataclass(frozen=True)
class Compared:
    """Two rankers on the same queries.

    Attributes:
        on: `test`, `validation`, or `feedback` that was held back.
        old: figures of the ranker in place.
        new: figures of the ranker that would replace it.
        differences: new minus old, overall and by type, for each of `COMPARED_METRICS`.
    """

    on: str
    old: Evaluation
    new: Evaluation
    differences: tuple[Difference, ...]

    @classmethod
    def measure(cls, on: str, old: Ranker, new: Ranker, dataset: Dataset, split: str) -> Compared:
        """Measure both rankers on a split."""
        before, after = (evaluate(ranker, dataset, split=split) for ranker in (old, new))
        return cls(on, before, after, tuple(differences(after, before, COMPARED_METRICS)))

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "on": self.on,
            "old": self.old.as_dict(),
            "new": self.new.as_dict(),
            "differences": [difference.as_dict() for difference in self.differences],
        }


def find_losses(
    compared: Sequence[Compared], *, margin: float = MARGIN
) -> tuple[list[str], list[str]]:
    """Find the types of query for which the new ranker's MAP@10 is lower.

    It is worse if the difference is significant by the paired permutation test at a level of .05,
    uncorrected (a correction would make it easier to pass), or larger than the margin.

    Returns:
        A line for each loss by which the new ranker is worse, and for each that is tolerated.
    """
    worse, tolerated = [], []
    for comparison in compared:
        for difference in comparison.differences:
            kind = difference.kind
            if difference.metric != METRIC or kind is None or difference.mean >= 0:
                continue
            queries = comparison.new.counts["types"][kind]
            few = ", too few to tell it from chance" if queries < MIN_HELD_BACK_QUERIES else ""
            evidence = f"({queries:,} queries{few}; p = {difference.p:.3f})"
            loss = f"MAP@10 of {kind} on {comparison.on} is lower by {-difference.mean:.3f}"
            if difference.p < SIGNIFICANCE_LEVEL:
                worse.append(f"{loss}, which is significant (p = {difference.p:.3f})")
            elif difference.mean < -margin:
                worse.append(f"{loss}, more than the margin of {margin:g} {evidence}")
            else:
                tolerated.append(
                    f"{loss}, within the margin of {margin:g} and not significantly {evidence}"
                )
    return worse, tolerated
