"""A ranker measured on a split: per query type, overall, at its worst, with uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import sparse, stats

from twinrank.arguments import check_type
from twinrank.data import Dataset, Queries
from twinrank.errors import RankerError
from twinrank.evaluation.metrics import METRICS, per_query
from twinrank.evaluation.mistakes import outcomes
from twinrank.evaluation.reliability import Calibration, measure_calibration
from twinrank.ranking import Ranker

Figures = dict[str, float]
Intervals = dict[str, list[float] | None]

RESAMPLES = 1000
SCORES_PER_CHUNK = 8_000_000


@dataclass(frozen=True)
class Evaluation:
    """Figures of one ranker on some queries.

    Attributes:
        overall: the mean over all queries, for each of `METRICS`.
        types: the same for each query type.
        worst: for each metric, the figure of the type where it is worst.
        gap: for each metric, best type minus worst (for the loss, worst minus best).
        intervals: 95% bootstrap intervals of `overall` and of each of `types`; None where
            there is one thread, or nothing was resampled.
        counts: queries measured, overall and by type.
        per_query: id, type, thread and every metric, a row a query; from `evaluate` also text,
            the ids of the `first` answer and of the `right` answer with the best rank, its
            `rank`, and `confidence` where the ranker gives it.
        confidence: its calibration, overall and by type; empty where the ranker gives none.
    """

    overall: Figures
    types: dict[str, Figures]
    worst: Figures
    gap: Figures
    intervals: dict[str, Any]
    counts: dict[str, Any]
    per_query: pl.DataFrame = field(repr=False)
    confidence: dict[str, Calibration] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values, without the rows of single queries."""
        names = ("overall", "types", "worst", "gap", "intervals", "counts")
        values = {name: getattr(self, name) for name in names}
        if self.confidence:
            values["confidence"] = {name: asdict(c) for name, c in self.confidence.items()}
        return values


def evaluate(
    ranker: Ranker, dataset: Dataset, *, split: str = "test", resamples: int = RESAMPLES
) -> Evaluation:
    """Measure a ranker on one split of a data set, which may have fewer answers than the ranker.

    Without `resamples` of the bootstrap, intervals are None.

    Raises:
        DataError: if the split is missing or holds no label.
        RankerError: if the data set has answers that the ranker does not know.
    """
    check_type(ranker, Ranker, "give a ranker: Ranker.load(FOLDER)")
    check_type(dataset, Dataset, "give a data set: Dataset.load(FOLDER)")
    queries = dataset.split(split)
    aligned = replace(queries, labels=align_labels(ranker, dataset, queries))
    ranker.prepare(queries.texts)
    chunks: list[pl.DataFrame] = []

    def score(rows: slice) -> Float[np.ndarray, "n m"]:
        scores = ranker.scores(queries.texts[rows])
        chunk = pl.DataFrame(outcomes(scores, aligned.labels[rows]))
        if ranker.confidence:
            chunk = chunk.with_columns(confidence=ranker.confidence.of(scores))
        chunks.append(chunk)
        return scores

    rows = measure(score, aligned)
    ids, columns = ranker.answers["id"], pl.concat(chunks)
    columns = columns.with_columns(ids.gather(columns[c]).alias(c) for c in ("first", "right"))
    return summarise(rows.with_columns(queries.frame["text"], *columns), resamples=resamples)


def measure(score: Callable[[slice], Float[np.ndarray, "n m"]], queries: Queries) -> pl.DataFrame:
    """Give every metric of every query: id, type, thread and a column a metric; bounded memory.

    `score` gives the scores (n x m) of the queries in a slice; each query has a label or more.
    """
    height = max(1, SCORES_PER_CHUNK // max(1, queries.labels.shape[1]))
    slices = [slice(start, start + height) for start in range(0, len(queries), height)]
    chunks = [per_query(score(rows), queries.labels[rows]) for rows in slices]
    figures = {metric: np.concatenate([chunk[metric] for chunk in chunks]) for metric in METRICS}
    return queries.frame.select("id", "type", "thread").with_columns(**figures)


def means(rows: pl.DataFrame) -> Figures:
    """Average every metric over rows as `measure` gives them."""
    return {metric: float(np.mean(rows[metric].to_numpy())) for metric in METRICS}


def by_type(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Group rows by query type, types in alphabetical order."""
    kinds = sorted(rows["type"].unique())
    return {str(kind): rows.filter(pl.col("type") == kind) for kind in kinds}


def summarise(rows: pl.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> Evaluation:
    """Make an `Evaluation` of its rows (id, type, thread and every metric)."""
    groups = by_type(rows)
    types = {kind: means(group) for kind, group in groups.items()}
    spread = {metric: [figures[metric] for figures in types.values()] for metric in METRICS}
    with_confidence = {"overall": rows, **groups} if "confidence" in rows.columns else {}
    return Evaluation(
        overall=means(rows),
        types=types,
        worst={m: max(v) if m == "loss" else min(v) for m, v in spread.items()},
        gap={m: max(v) - min(v) for m, v in spread.items()},
        intervals={
            "overall": _intervals(rows, resamples, seed),
            "types": {kind: _intervals(group, resamples, seed) for kind, group in groups.items()},
        },
        counts={"overall": rows.height, "types": {k: group.height for k, group in groups.items()}},
        per_query=rows,
        confidence={
            name: measure_calibration(
                group["confidence"].to_numpy(), group["accuracy@1"].to_numpy() > 0
            )
            for name, group in with_confidence.items()
        },
    )


def _intervals(rows: pl.DataFrame, resamples: int, seed: int) -> Intervals:
    """Compute 95% percentile bootstrap intervals over threads.

    The queries of one thread share a label, so they are drawn together: the cluster bootstrap
    (Field and Welsh 2007).
    """
    totals = rows.group_by("thread", maintain_order=True).agg(
        pl.len(), *(pl.sum(m) for m in METRICS)
    )
    if totals.height < 2 or not resamples:  # one thread alone says nothing of the spread
        return dict.fromkeys(METRICS)
    sums = totals.select(METRICS).to_numpy().T
    counts = np.broadcast_to(totals["len"].to_numpy(), sums.shape)
    low, high = stats.bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        axis=-1,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // totals.height),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {m: [float(a), float(b)] for m, a, b in zip(METRICS, low, high, strict=True)}


def align_labels(ranker: Ranker, dataset: Dataset, queries: Queries) -> sparse.csr_array:
    """Give the labels of queries (n x m) with columns in the order of the ranker's answers.

    Raises:
        RankerError: if the data set has answers that the ranker does not know.
    """
    column_of = {answer: i for i, answer in enumerate(ranker.answers["id"])}
    missing = [answer for answer in dataset.answers["id"] if answer not in column_of]
    if missing:
        raise RankerError(
            f"{len(missing)} answers of {dataset.name} are unknown to the ranker "
            f"(the first: {missing[0]!r}); add them with Ranker.add_answers, or train on this data"
        )
    columns = np.array([column_of[answer] for answer in dataset.answers["id"]])
    labels = queries.labels.tocoo()
    shape = (len(queries), ranker.answers.height)
    return sparse.csr_array((labels.data, (labels.row, columns[labels.col])), shape=shape)
