"""Whether a new ranker may take an old one's place: not where it is worse for any type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twinrank.data import Dataset
from twinrank.evaluation import Difference, Evaluation, differences, evaluate
from twinrank.ranking import Ranker

METRIC = "map@10"
SHOWN = ("accuracy@3", METRIC)
LEVEL = 0.05  # of the paired test
FEWEST = 6  # queries held back: of fewer, no paired test can reach the level
MARGIN = 0.02  # MAP@10: about what a type's figure moves from seed to seed, twice


@dataclass(frozen=True)
class Compared:
    """Two rankers on the same queries.

    Attributes:
        on: `test`, `validation`, or `feedback` that was held back.
        old: what the one that stands reaches.
        new: what the one that would take its place does.
        differences: new minus old, overall and by type, for each metric of `SHOWN`.
    """

    on: str
    old: Evaluation
    new: Evaluation
    differences: tuple[Difference, ...]

    @classmethod
    def of(cls, on: str, old: Ranker, new: Ranker, dataset: Dataset, split: str) -> Compared:
        """Measure both on a split."""
        before, after = (evaluate(ranker, dataset, split=split) for ranker in (old, new))
        return cls(on, before, after, tuple(differences(after, before, SHOWN)))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "on": self.on,
            "old": self.old.as_dict(),
            "new": self.new.as_dict(),
            "differences": [difference.as_dict() for difference in self.differences],
        }


def worse(compared: Sequence[Compared], *, margin: float = MARGIN) -> list[str]:
    """Say where the new ranker is worse, a line each; nothing if it may take the old one's place.

    Its MAP@10 may be significantly lower for no type, by the paired permutation test at a level
    of .05, uncorrected: a correction would make it easier to pass. Nor may it be lower by more
    than the margin, significant or not.
    """
    lines = []
    for lower, difference, on in _lower(compared):
        if difference.p < LEVEL:
            lines.append(f"{lower}, which is significant (p = {difference.p:.3f})")
        elif difference.mean < -margin:
            lines.append(f"{lower}, more than the margin of {margin:g}{on}")
    return lines


def lower_within(compared: Sequence[Compared], *, margin: float = MARGIN) -> list[str]:
    """Say where the new ranker is lower though it is not worse, a line each, and why it may be."""
    return [
        f"{lower}, within the margin of {margin:g} and not significantly{on}"
        for lower, difference, on in _lower(compared)
        if difference.p >= LEVEL and difference.mean >= -margin
    ]


def _lower(compared: Sequence[Compared]) -> Iterator[tuple[str, Difference, str]]:
    """Give each type whose MAP@10 is lower: that in words, the difference, and what it rests on."""
    for each in compared:
        for difference in each.differences:
            kind = difference.kind
            if difference.metric != METRIC or kind is None or difference.mean >= 0:
                continue
            count = each.new.counts["types"][kind]
            few = ", too few to tell it from chance" if count < FEWEST else ""
            lower = f"MAP@10 of {kind} on {each.on} is lower by {-difference.mean:.3f}"
            yield lower, difference, f" ({count:,} queries{few}; p = {difference.p:.3f})"
