"""What feedback is worth: labels that were withheld from a ranker come back as verdicts.

A share of the threads of train keeps its labels, and a ranker is trained on them. The queries of
the others come back as verdicts, one for each of their right answers, and some of them wrong: with
an answer drawn at random. Then `twinrank learn` is carried out, but replaces nothing. Run it as

    python benchmarks/learn.py DATA [--recipe even] [--share 0.5] [--wrong 0.0] [--seeds 3]
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

from twinrank import Dataset, Recipe, train
from twinrank.encoding import FeatureStore
from twinrank.feedback import Compared, Learning, Verdict, learn

METRICS = ("accuracy@3", "map@10")


def main(
    data: Path,
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a TOML file.")] = "even",
    share: Annotated[float, typer.Option(help="Of train's threads that keep their labels.")] = 0.5,
    wrong: Annotated[float, typer.Option(min=0, max=1, help="Share of the verdicts.")] = 0.0,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print top-3 accuracy and MAP@10 by type, before and after learning."""
    dataset, store = Dataset.load(data), FeatureStore()
    learnings = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            kept, verdicts = _withheld(dataset, share, wrong, seed)
            kept.save(Path(folder) / dataset.name)
            base, ranker = Dataset.load(Path(folder) / dataset.name), Path(folder) / "ranker"
            train(base, Recipe.load(recipe), seed=seed, out=ranker, store=store)
            learnings.append(learn(ranker, verdicts, dry_run=True, store=store))
    if out:
        found = [learning.as_dict() for learning in learnings]
        out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for learning in learnings:
        Console().print(f"{learning.counts}: {'; '.join(learning.worse) or 'not worse'}")
    title = f"{dataset.name}, {recipe}, {share:.0%} of train's labels, {wrong:.0%} wrong verdicts"
    Console(width=100).print(_table(learnings, title))


def _withheld(
    dataset: Dataset, share: float, wrong: float, seed: int
) -> tuple[Dataset, list[Verdict]]:
    """The data with fewer labelled queries, and verdicts that say what the others' labels are."""
    fewer = dataset.fewer_labels(share, seed=seed)
    gone = dataset.labels.join(fewer.labels, on=["query", "answer", "split"], how="anti")
    stays = ~pl.col("id").is_in(gone["query"].implode())
    kept = replace(fewer, queries=dataset.queries.filter(stays))
    told = gone.join(dataset.queries.collect(), left_on="query", right_on="id")
    draw = np.random.default_rng(seed)
    ids = dataset.answers["id"].to_list()
    verdicts = [
        Verdict(f"{n}", row["text"], row["type"], ids[draw.integers(len(ids))], right=True)
        if draw.random() < wrong
        else Verdict(f"{n}", row["text"], row["type"], row["answer"], right=True)
        for n, row in enumerate(told.sort("query", "answer").iter_rows(named=True))
    ]
    return kept, verdicts


def _table(learnings: list[Learning], title: str) -> Table:
    """Mean and spread over seeds; the difference is that of MAP@10."""
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    for name in ("queries", "top-3", "after", "MAP@10", "after", "difference"):
        table.add_column(name, justify="right")
    for compared in zip(*(learning.compared for learning in learnings), strict=True):
        for kind in (None, *compared[0].old.types):
            rows = [_figures(each, kind) for each in compared]
            counts, *columns = zip(*rows, strict=True)
            cells = [f"{fmean(values):.3f}±{pstdev(values):.3f}" for values in columns[:-1]]
            gain = f"{fmean(columns[-1]):+.3f}±{pstdev(columns[-1]):.3f}"
            on = compared[0].on if kind is None else f"  {kind}"
            table.add_row(on, f"{fmean(counts):.0f}", *cells, gain)
    return table


def _figures(compared: Compared, kind: str | None) -> list[float]:
    """Queries of a type, each metric before and after, and what MAP@10 gained."""
    sides = (compared.old, compared.new)
    before, after = (side.types[kind] if kind else side.overall for side in sides)
    count = sides[0].counts["types"][kind] if kind else sides[0].counts["overall"]
    pairs = [figures[metric] for metric in METRICS for figures in (before, after)]
    return [count, *pairs, pairs[-1] - pairs[-2]]


if __name__ == "__main__":
    typer.run(main)
