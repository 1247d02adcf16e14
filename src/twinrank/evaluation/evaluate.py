"""A ranker measured on a split: per query type, overall, at its worst, with uncertainty."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import sparse, stats

from twinrank.arguments import check_type
from twinrank.data import Dataset, Queries
from twinrank.errors import RankerError, TwinrankError
from twinrank.evaluation.metrics import (
    METRICS,
    MISSED,
    PUBLISHED_METRICS,
    figures_of_ranks,
    per_query,
)
from twinrank.evaluation.mistakes import outcomes
from twinrank.evaluation.reliability import Calibration, measure_calibration
from twinrank.ranking import CANDIDATES, Ranker, choose_options, top_k

log = logging.getLogger(__name__)

Figures = dict[str, float]
Intervals = dict[str, list[float] | None]

RANK_METRICS = tuple(metric for metric in METRICS if metric != "loss")
RESAMPLES = 1000
SCORES_PER_CHUNK = 8_000_000


@dataclass(frozen=True)
class Evaluation:
    """Figures of one ranker on some queries.

    Attributes:
        overall: the mean over all queries, for each metric, such as `METRICS`.
        types: the same for each query type.
        worst: for each metric, the figure of the type where it is worst.
        gap: for each metric, best type minus worst (for the loss, worst minus best).
        intervals: 95% bootstrap intervals of `overall` and of each of `types`; None where
            there is one thread, or nothing was resampled.
        counts: queries measured, overall and by type.
        per_query: id, type, thread and every metric, a row a query; from `evaluate` also text,
            the ids of the `first` answer and of the `right` answer with the best rank, its
            `rank`; where the ranker gives it, `confidence`, and `among_options`: whether a right
            answer is among those that a question back would name, null if none is worth it.
        confidence: its calibration, overall and by type; empty where the ranker gives none.
        run: query, answer and score, the best answers of each query first, if they were wanted.
    """

    overall: Figures
    types: dict[str, Figures]
    worst: Figures
    gap: Figures
    intervals: dict[str, Any]
    counts: dict[str, Any]
    per_query: pl.DataFrame = field(repr=False)
    confidence: dict[str, Calibration] = field(default_factory=dict)
    run: pl.DataFrame | None = field(default=None, repr=False)

    @property
    def published(self) -> Evaluation:
        """The same queries by `PUBLISHED_METRICS`, the measures of BEIR and MTEB."""
        return summarise(self.per_query.drop("confidence", strict=False), metrics=PUBLISHED_METRICS)

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values, without the rows of single queries."""
        names = ("overall", "types", "worst", "gap", "intervals", "counts")
        values = {name: getattr(self, name) for name in names}
        if self.confidence:
            values["confidence"] = {name: asdict(c) for name, c in self.confidence.items()}
        return values


def evaluate(
    ranker: Ranker,
    dataset: Dataset,
    *,
    split: str = "test",
    resamples: int = RESAMPLES,
    ignore_identical_ids: bool = False,
    depth: int = 0,
    with_rules: bool = False,
) -> Evaluation:
    """Measure a ranker on one split of a data set, which may have fewer answers than the ranker.

    Args:
        ranker: to measure.
        dataset: its queries and labels.
        split: of the data set.
        resamples: of the bootstrap; without any, intervals are None.
        ignore_identical_ids: never rank the answer that has the id of the query, as where the
            queries are documents themselves.
        depth: how many answers of each query to give in `Evaluation.run`.
        with_rules: rank as `Ranker.rank` does, with pins and synonyms; else by training alone.

    Raises:
        DataError: if the split is missing or holds no label.
        RankerError: if the data set has answers that the ranker does not know.
    """
    check_type(ranker, Ranker, "give a ranker: Ranker.load(FOLDER)")
    check_type(dataset, Dataset, "give a data set: Dataset.load(FOLDER)")
    queries = dataset.split(split)
    if split == "validation" and ranker.origin.refit:
        log.warning("this ranker was trained on the validation split too; measure it on test")
    graded = queries if queries.grades is None else replace(queries, labels=queries.grades)
    aligned = replace(queries, labels=align_labels(ranker, dataset, graded))
    ranker.prepare(ranker.rules.expand(queries.texts) if with_rules else queries.texts)
    answer_ids = ranker.answers["id"].to_numpy()
    chunks: list[pl.DataFrame] = []
    tops: list[pl.DataFrame] = []

    def score(rows: slice) -> Float[np.ndarray, "n m"]:
        scores = ranker.scores(queries.texts[rows], with_rules=with_rules)
        if ignore_identical_ids:
            same = queries.frame["id"][rows].to_numpy()[:, None] == answer_ids
            scores = np.where(same, -np.inf, scores)
        if depth:
            tops.append(_find_first(scores, queries.frame["id"][rows], ranker.answers["id"], depth))
        chunk = pl.DataFrame(outcomes(scores, aligned.labels[rows]))
        if ranker.confidence:
            chunk = chunk.with_columns(
                confidence=ranker.confidence.of(scores),
                among_options=_find_among_options(ranker, scores, aligned.labels[rows]),
            )
        chunks.append(chunk)
        return scores

    rows = measure(score, aligned)
    ids, columns = ranker.answers["id"], pl.concat(chunks)
    columns = columns.with_columns(ids.gather(columns[c]).alias(c) for c in ("first", "right"))
    rows = rows.with_columns(queries.frame["text"], *columns)
    return replace(summarise(rows, resamples=resamples), run=pl.concat(tops) if tops else None)


def evaluate_run(
    run: pl.DataFrame,
    dataset: Dataset,
    *,
    split: str = "test",
    resamples: int = RESAMPLES,
    ignore_identical_ids: bool = False,
) -> Evaluation:
    """Measure rankings of any system on one split of a data set, by every metric but the loss.

    An answer that the run does not rank is missed, and a query without a ranking counts as all
    missed. An answer that the data set does not have keeps its rank, and is never right.

    Args:
        run: query, answer and score, the best answer of each query first, as from `read_run`.
        dataset: its queries and labels.
        split: of the data set.
        resamples: as in `evaluate`.
        ignore_identical_ids: as in `evaluate`.

    Raises:
        DataError: if the split is missing or holds no label.
        TwinrankError: if the run ranks none of its queries.
    """
    queries = dataset.split(split)
    labels = queries.labels if queries.grades is None else queries.grades
    ids = queries.frame["id"]
    _check_run(run, dataset, ids, split)
    if ignore_identical_ids:
        run = run.filter(pl.col("query") != pl.col("answer"))
    ranked = run.with_columns(rank=pl.int_range(1, pl.len() + 1).over("query"))
    owner = np.repeat(np.arange(len(queries)), np.diff(labels.indptr))
    right = pl.DataFrame(
        {"query": ids.gather(owner), "answer": dataset.answers["id"].gather(labels.indices)}
    )
    right = right.join(ranked, on=["query", "answer"], how="left", maintain_order="left")
    figures = figures_of_ranks(right["rank"].fill_null(MISSED).to_numpy(), labels)
    rows = queries.frame.select("id", "type", "thread", "text").with_columns(**figures)
    return summarise(rows, resamples=resamples, metrics=RANK_METRICS)


def _find_among_options(
    ranker: Ranker, scores: Float[np.ndarray, "n m"], labels: sparse.csr_array
) -> pl.Series:
    """Say of each query whether a right answer is among its options; null if it has none."""
    among: list[bool | None] = []
    answers, language = ranker.answers.select("title", "text"), ranker.recipe.language
    for i, of_query in enumerate(scores):
        best = top_k(of_query, CANDIDATES)
        sure = ranker.confidence.of_each(of_query, best).tolist() if ranker.confidence else []
        chosen = best[choose_options(answers[best], sure, language)]
        right = labels.indices[labels.indptr[i] : labels.indptr[i + 1]]
        among.append(bool(np.isin(chosen, right).any()) if len(chosen) else None)
    return pl.Series(among, dtype=pl.Boolean)


def _check_run(run: pl.DataFrame, dataset: Dataset, ids: pl.Series, split: str) -> None:
    """Log how far a run and a split differ in queries and answers."""
    missing = len(ids) - ids.is_in(run["query"].unique().implode()).sum()
    if missing == len(ids):
        raise TwinrankError(
            f"the run ranks no query of {split} of {dataset.name}; its first query is "
            f"{run['query'][0]!r}, that of the data {ids[0]!r}"
        )
    others = run["query"].unique().is_in(ids.implode()).not_().sum()
    unknown = run["answer"].unique().is_in(dataset.answers["id"].implode()).not_().sum()
    for count, meaning in (
        (missing, f"queries of {split} have no ranking in the run: they count as missed"),
        (others, f"queries of the run are not labelled in {split}: left out"),
        (unknown, "answers of the run are not in the data: they keep their ranks"),
    ):
        if count:
            log.warning("%s %s", f"{count:,}", meaning)


def _find_first(
    scores: Float[np.ndarray, "n m"], queries: pl.Series, answers: pl.Series, depth: int
) -> pl.DataFrame:
    """Find the `depth` best answers of each query: query, answer and score."""
    columns = [top_k(row, depth) for row in scores]
    rows = np.repeat(np.arange(len(columns)), [len(of_query) for of_query in columns])
    flat = np.concatenate(columns)
    cells = {"query": queries.gather(rows), "answer": answers.gather(flat)}
    return pl.DataFrame({**cells, "score": scores[rows, flat]}).filter(pl.col("score").is_finite())


def measure(score: Callable[[slice], Float[np.ndarray, "n m"]], queries: Queries) -> pl.DataFrame:
    """Give every metric of every query: id, type, thread and a column a metric; bounded memory.

    `score` gives the scores (n x m) of the queries in a slice; each query has a label or more.
    """
    height = max(1, SCORES_PER_CHUNK // max(1, queries.labels.shape[1]))
    slices = [slice(start, start + height) for start in range(0, len(queries), height)]
    chunks = [per_query(score(rows), queries.labels[rows]) for rows in slices]
    metrics = (*METRICS, *PUBLISHED_METRICS)
    figures = {metric: np.concatenate([chunk[metric] for chunk in chunks]) for metric in metrics}
    return queries.frame.select("id", "type", "thread").with_columns(**figures)


def means(rows: pl.DataFrame, metrics: Sequence[str] = METRICS) -> Figures:
    """Average metrics over rows as `measure` gives them."""
    return {metric: float(np.mean(rows[metric].to_numpy())) for metric in metrics}


def by_type(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Group rows by query type, types in alphabetical order."""
    kinds = sorted(rows["type"].unique())
    return {str(kind): rows.filter(pl.col("type") == kind) for kind in kinds}


def summarise(
    rows: pl.DataFrame,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    metrics: Sequence[str] = METRICS,
) -> Evaluation:
    """Make an `Evaluation` of its rows (id, type, thread and the metrics)."""
    groups = by_type(rows)
    types = {kind: means(group, metrics) for kind, group in groups.items()}
    spread = {metric: [figures[metric] for figures in types.values()] for metric in metrics}
    settings = (metrics, resamples, seed)
    with_confidence = {"overall": rows, **groups} if "confidence" in rows.columns else {}
    return Evaluation(
        overall=means(rows, metrics),
        types=types,
        worst={m: max(v) if m == "loss" else min(v) for m, v in spread.items()},
        gap={m: max(v) - min(v) for m, v in spread.items()},
        intervals={
            "overall": _intervals(rows, *settings),
            "types": {kind: _intervals(group, *settings) for kind, group in groups.items()},
        },
        counts={"overall": rows.height, "types": {k: group.height for k, group in groups.items()}},
        per_query=rows,
        confidence={name: measure_calibration(group) for name, group in with_confidence.items()},
    )


def _intervals(rows: pl.DataFrame, metrics: Sequence[str], resamples: int, seed: int) -> Intervals:
    """Compute 95% percentile bootstrap intervals over threads.

    The queries of one thread share a label, so they are drawn together: the cluster bootstrap
    (Field and Welsh 2007).
    """
    totals = rows.group_by("thread", maintain_order=True).agg(
        pl.len(), *(pl.sum(m) for m in metrics)
    )
    if totals.height < 2 or not resamples:  # one thread alone says nothing of the spread
        return dict.fromkeys(metrics)
    sums = totals.select(metrics).to_numpy().T
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
    return {m: [float(a), float(b)] for m, a, b in zip(metrics, low, high, strict=True)}


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
