"""Answers that come after training: are they buried under those with a past?

A share of the answers is held out of training altogether, labels and all, and added to the ranker
afterwards, as a support team would add a new article. Measured on the queries of one split whose
right answer is new, and on the others, among all answers; beside the untrained encoder, which
knows no past. Every seed holds out other answers. Run it as

    python benchmarks/new_answers.py DATA [--recipe even] [--share 0.2] [--seeds 3] [--split test]
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Annotated

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from twinrank import Dataset, Ranker, Recipe, evaluate, train
from twinrank.encoding import FeatureStore

METRIC = "accuracy@3"
Row = dict[str, float]


def main(
    data: Path,
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a TOML file.")] = "even",
    share: Annotated[float, typer.Option(help="Share of the answers that are new.")] = 0.2,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    split: Annotated[str, typer.Option(help="Whose queries are asked.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print top-3 accuracy where the right answer is new, and where it is not."""
    dataset, store = Dataset.load(data), FeatureStore()
    chosen, untrained = Recipe.load(recipe), Recipe.load("zero-shot")
    bare = train(dataset, untrained, store=store)
    rows: dict[str, list[Row]] = {chosen.name: [], untrained.name: []}
    for seed in range(seeds):
        draws = np.random.default_rng(seed).random(dataset.answers.height)
        new = dataset.answers.filter(pl.Series(draws < share))
        ranker = _trained_without(new, dataset, chosen, seed, store)
        for name, measured in ((chosen.name, ranker), (untrained.name, bare)):
            rows[name].append(_by_age(measured, dataset, new["id"].to_list(), split))
    if out:
        out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    title = (
        f"{dataset.name}, {split}: top-3 accuracy, {share:.0%} of the answers new, {seeds} seeds"
    )
    Console().print(_table(rows, title))


def _trained_without(
    new: pl.DataFrame, dataset: Dataset, recipe: Recipe, seed: int, store: FeatureStore
) -> Ranker:
    """A ranker trained as if some answers did not exist, to which they are added."""
    ids = new["id"].implode()
    known = replace(
        dataset,
        answers=dataset.answers.filter(~pl.col("id").is_in(ids)),
        labels=dataset.labels.filter(~pl.col("answer").is_in(ids)),
    )
    with tempfile.TemporaryDirectory() as folder:
        known.save(Path(folder))
        ranker = train(Dataset.load(Path(folder)), recipe, seed=seed, store=store)
    ranker.add_answers(new)
    return ranker


def _by_age(ranker: Ranker, dataset: Dataset, new: list[str], split: str) -> Row:
    """Accuracy on the queries whose right answer is new, and on the others; how many are new."""
    is_new = pl.col("answer").is_in(new)
    found: Row = {}
    for name, asked in (("new", is_new), ("known", ~is_new)):
        part = replace(dataset, labels=dataset.labels.filter(asked))
        measured = evaluate(ranker, part, split=split, resamples=0)
        found |= {name: measured.overall[METRIC], f"{name} queries": measured.counts["overall"]}
    return found


def _table(rows: dict[str, list[Row]], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("recipe")
    for name in ("new", "known"):
        counts = [int(row[f"{name} queries"]) for row in next(iter(rows.values()))]
        table.add_column(f"{name} ({'+'.join(map(str, counts))} queries)", justify="right")
    for recipe, found in rows.items():
        cells = []
        for name in ("new", "known"):
            values = [row[name] for row in found]
            cells.append(f"{fmean(values):.3f}±{pstdev(values):.3f}")
        table.add_row(recipe, *cells)
    return table


if __name__ == "__main__":
    typer.run(main)
