"""Do gaps show which articles are missing? Articles are removed, and looked for by their queries.

    python benchmarks/gaps.py DATA --split validation

removes a tenth of the articles with their labels, trains `even` on the rest, and finds gaps in the
queries of the split. A topic is right if half of its bad queries or more are of removed articles.
Articles named: of those removed with three queries or more, the share with a query in a right one.
Beside gaps stand all bad queries, and the topics with most of them.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score

from twinrank import Dataset, Ranker, train
from twinrank.encoding import FeatureStore
from twinrank.feedback.gaps import group_queries
from twinrank.feedback.labels import ASKED_SCHEMA

REMOVED_SHARE = 0.1  # of the articles
FIRST = 10  # topics that somebody reads
COLUMNS = (
    *("", "topics", "average precision", f"first {FIRST} right"),
    *("articles named", "queries: precision", "recall"),
)


def main(
    data: Annotated[Path, typer.Argument(help="Data set in BEIR's layout.")],
    split: str = "validation",
    seeds: int = 3,
) -> None:
    """Print means over seeds, with standard deviations."""
    dataset = Dataset.load(data)
    ids = dataset.answers["id"]
    figures: dict[str, list[list[float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(ids))
            removed = ids.gather(np.sort(order[: round(REMOVED_SHARE * len(ids))]))
            ranker = train_without(dataset, removed, seed, Path(scratch) / f"{seed}", split)
            for name, values in measure(dataset, split, removed, ranker).items():
                figures[name].append(values)
    table = Table(title=f"{dataset.name}, {split}, {seeds} seeds", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column else "left")
    for name, rows in figures.items():
        pairs = zip(np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1), strict=True)
        table.add_row(name, *("" if np.isnan(m) else f"{m:.3f}±{sd:.3f}" for m, sd in pairs))
    Console(width=120).print(table)


def train_without(
    dataset: Dataset, removed: pl.Series, seed: int, folder: Path, split: str
) -> Ranker:
    """Train without some articles and their labels; for test, on train and validation together."""
    gone = removed.implode()
    rest = replace(
        dataset,
        answers=dataset.answers.filter(~pl.col("id").is_in(gone)),
        labels=dataset.labels.filter(~pl.col("answer").is_in(gone)),
        judgements=dataset.judgements.filter(~pl.col("answer").is_in(gone)),
        folder=None,
    )
    store = FeatureStore()
    train(rest, "even", seed=seed, out=folder, store=store, refit=split == "test")
    return Ranker.load(folder, store=store)


def measure(
    dataset: Dataset, split: str, removed: pl.Series, ranker: Ranker
) -> dict[str, list[float]]:
    """Find gaps in the queries of a split, by confidence and by verdicts as labels would give."""
    queries = dataset.split(split)
    is_gone = dataset.answers["id"].is_in(removed.implode()).to_numpy()
    wanted = queries.labels @ ~is_gone == 0
    article = np.where(wanted, queries.labels.argmax(axis=1), -1)
    asked = pl.DataFrame({"text": queries.texts, "right": None, "day": None}, ASKED_SCHEMA)
    column_of = {id_: column for column, id_ in enumerate(dataset.answers["id"])}
    first = [column_of[ranking[0].id] for ranking in ranker.rank(queries.texts, 1)]
    right = pl.Series(queries.labels[np.arange(len(first)), first] > 0)
    rows: dict[str, list[float]] = {}
    for by, judged in (("confidence", asked), ("verdicts", asked.with_columns(right=right))):
        grouped = group_queries(ranker, judged)
        bad = grouped.bad
        rows[f"{by}: all bad queries"] = [np.nan] * 4 + [wanted[bad].mean(), bad[wanted].mean()]
        by_size = sorted(grouped.topics, key=lambda rows: -bad[rows].sum())
        for name, topics in (("largest topics", by_size), ("gaps", grouped.topics)):
            parts = [topic[bad[topic]] for topic in topics]
            rows[f"{by}: {name}"] = measure_order(parts, wanted, article)
    return rows


def measure_order(topics: list[np.ndarray], wanted: np.ndarray, article: np.ndarray) -> list[float]:
    """Measure the rows of the bad queries of topics, in an order; see `COLUMNS`."""
    is_right = np.array([wanted[rows].mean() >= 0.5 for rows in topics])
    first = np.concatenate(topics[:FIRST])
    often = {code for code in set(article[wanted]) if (article == code).sum() >= 3}
    right_topics = [topics[i] for i in np.flatnonzero(is_right[:FIRST])]
    named = often.intersection(code for rows in right_topics for code in article[rows])
    average_precision = average_precision_score(is_right, -np.arange(len(topics)))
    shares = is_right[:FIRST].mean(), len(named) / len(often), wanted[first].mean()
    return [len(topics), average_precision, *shares, wanted[first].sum() / wanted.sum()]


if __name__ == "__main__":
    typer.run(main)
