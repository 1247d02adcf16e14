"""Everything that is looked at in a data set before anything is trained on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from twinrank.data import Dataset, describe
from twinrank.encoding import Encoder, FeatureStore
from twinrank.exploration import checks, leftovers, neighbours
from twinrank.exploration.findings import Check, Finding, Level
from twinrank.exploration.sample import Subject, draw_sample

CHECKS = (
    neighbours.check_labels,
    neighbours.check_query_twins,
    checks.check_lengths,
    checks.check_unused,
    checks.check_popularity,
    neighbours.check_answer_twins,
    checks.check_threads,
    leftovers.check_leftovers,
    checks.check_types,
    checks.check_space,
    checks.check_words,
)


@dataclass(frozen=True)
class Exploration:
    """The outcome of all checks, and the data set that they looked at."""

    subject: Subject = field(repr=False)
    checks: tuple[Check, ...]

    @property
    def findings(self) -> list[Finding]:
        """All findings, those to mend first."""
        findings = [finding for check in self.checks for finding in check.findings]
        return sorted(findings, key=lambda finding: get_args(Level).index(finding.level))


def explore(dataset: Dataset, encoder: Encoder, store: FeatureStore | None = None) -> Exploration:
    """Look at a data set with the features of an encoder; nothing is trained.

    Args:
        dataset: with or without labels.
        encoder: of the features, which are the mean of the tokens: limits of checks hold for it.
        store: keeps the features; without one, each text is encoded anew.

    Raises:
        EncoderError, StoreError: if features cannot be had.
    """
    sample = draw_sample(dataset, encoder, store)
    subject = Subject(dataset, describe(dataset), encoder, sample)
    return Exploration(subject, tuple(check(subject) for check in CHECKS))
