"""Whether one ranker is better than another on the same queries, beyond chance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from twinrank.evaluation.evaluate import Evaluation, Figures, Intervals, by_type, summarise

PERMUTATIONS = 9_999
TESTED = ("accuracy@3", "map@10")  # metrics

Named = tuple[str, Evaluation]


@dataclass(frozen=True)
class Difference:
    """One metric of one ranker minus another's, over all queries or those of a type."""

    metric: str
    kind: str | None  # the type; None for all queries
    mean: float
    interval: list[float] | None  # 95%, over threads; None if there is one thread
    p: float  # two-sided, of the paired permutation test over threads

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "metric": self.metric,
            "type": self.kind,
            "difference": self.mean,
            "interval": self.interval,
            "p": self.p,
        }


def differences(first: Evaluation, second: Evaluation, metrics: Sequence[str]) -> list[Difference]:
    """Subtract `second` from `first` on the same queries: each metric overall, then by type.

    Raises:
        ValueError: if they were not measured on the same queries.
    """
    a, b = first.per_query, second.per_query
    if not a["id"].equals(b["id"]):
        raise ValueError("differences need two evaluations of the same queries in the same order")
    rows = a.select("id", "type", "thread", *(a[metric] - b[metric] for metric in metrics))
    summary = summarise(rows, metrics=metrics)
    groups: list[tuple[str | None, pl.DataFrame, Figures, Intervals]] = [
        (None, rows, summary.overall, summary.intervals["overall"])
    ]
    groups += [
        (kind, group, summary.types[kind], summary.intervals["types"][kind])
        for kind, group in by_type(rows).items()
    ]
    return [
        Difference(metric, kind, mean[metric], interval[metric], permutation_p(group, metric))
        for metric in metrics
        for kind, group, mean, interval in groups
    ]


def permutation_p(rows: pl.DataFrame, metric: str, *, seed: int = 0) -> float:
    """Test whether a mean difference is zero, by flipping the signs of whole threads.

    The two-sided p-value of the paired permutation (randomisation) test (Smucker et al. 2007);
    the queries of one thread are flipped together, because they share a label.
    """
    totals = rows.group_by("thread", maintain_order=True).agg(pl.sum(metric))[metric].to_numpy()
    totals = totals[totals != 0]  # a sign flipped on zero changes nothing
    if len(totals) < 2:  # both signs of one thread are equally extreme
        return 1.0
    test = stats.permutation_test(
        (totals,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=max(1, 2_000_000 // len(totals)),
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def holm(p: Sequence[float]) -> Float[np.ndarray, " tests"]:
    """Correct the p-values of a family of tests (Holm 1979): its error rate holds."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def compare_pairs(pairs: Iterable[tuple[Named, Named]]) -> list[dict[str, Any]]:
    """Test the first of each pair minus the second, overall and by type.

    Holm's correction is over all tests of a metric. A row holds the names, `arm` and `without`,
    the values of `Difference`, and `p_holm`.
    """
    rows: list[dict[str, Any]] = [
        {"arm": arm, "without": without, **difference.as_dict()}
        for (arm, first), (without, second) in pairs
        for difference in differences(first, second, TESTED)
    ]
    for metric in TESTED:
        family = [row for row in rows if row["metric"] == metric]
        for row, corrected in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = float(corrected)
    return rows
