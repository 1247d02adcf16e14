"""Everything that is looked at in a data set before anything is trained on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import polars as pl

from twinrank.data import Dataset, describe
from twinrank.encoding import Encoder, FeatureStore
from twinrank.exploration import checks
from twinrank.exploration.doubtful_labels import check_labels
from twinrank.exploration.feature_space import check_space
from twinrank.exploration.findings import Check, Finding, Level
from twinrank.exploration.marking_words import check_words
from twinrank.exploration.neighbours import check_answer_twins, check_query_twins
from twinrank.exploration.relations import check_threads
from twinrank.exploration.sample import Subject, draw_sample

CHECKS = (
    check_labels,
    check_query_twins,
    checks.check_lengths,
    checks.check_unused,
    checks.check_popularity,
    check_answer_twins,
    check_threads,
    checks.check_types,
    check_space,
    check_words,
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


def explore(
    dataset: Dataset, encoder: Encoder, store: FeatureStore | None = None, *, seed: int = 0
) -> Exploration:
    """Look at a data set with the features of an encoder; nothing is trained.

    Args:
        dataset: with or without labels.
        encoder: gives mean-pooled features.
        store: keeps them; without one, each text is encoded anew.
        seed: of what is drawn where there is much.

    Raises:
        EncoderError, StoreError: if features cannot be had.
    """
    subject = Subject(
        dataset,
        describe(dataset),
        encoder,
        draw_sample(dataset, encoder, store, seed=seed),
        _rank_by_popularity(dataset),
        seed,
    )
    return Exploration(subject, tuple(check(subject) for check in CHECKS))


def _rank_by_popularity(dataset: Dataset) -> pl.DataFrame:
    """Count the queries of each answer, see `Subject.popularity`."""
    counts = dataset.labels.group_by("answer").agg(queries=pl.len())
    answers = dataset.answers.select(pl.col("id").alias("answer"), "title")
    joined = answers.join(counts, on="answer", how="left", maintain_order="left")
    ranked = joined.with_columns(pl.col("queries").fill_null(0)).sort(
        "queries", descending=True, maintain_order=True
    )
    total = max(dataset.labels.height, 1)
    return ranked.with_columns(share=pl.col("queries").cum_sum() / total)
