"""Misses to be judged by hand: is the ranker wrong, or the label?

Draws queries of a split whose right answers are all missing from the first three, and writes them
with what was ranked first, a row each, as a TSV with an empty column for a verdict:

    python benchmarks/misses.py RANKER DATA --out misses.tsv [--count 100] [--split test] [--seed 0]

Fill the column in, and `--tally misses.tsv` counts it, with Wilson intervals; with RANKER and DATA
also how many of each verdict that ranker misses, too. What those of mozilla-support came to is in
docs/quality.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from scipy.stats import binomtest

from twinrank import Dataset, Ranker
from twinrank.encoding import FeatureStore
from twinrank.evaluation.metrics import per_query
from twinrank.ranking import top_k

AT = 3


def main(
    ranker: Annotated[Path | None, typer.Argument()] = None,
    data: Annotated[Path | None, typer.Argument()] = None,
    out: Annotated[Path, typer.Option(help="Where to write the misses.")] = Path("misses.tsv"),
    count: Annotated[int, typer.Option(min=1)] = 100,
    split: str = "test",
    seed: int = 0,
    tally: Annotated[Path | None, typer.Option(help="Count the verdicts in this file.")] = None,
) -> None:
    """Draw misses to judge, or count the verdicts."""
    missed = None
    if ranker and data:
        missed = drawn(Ranker.load(ranker, store=FeatureStore()), Dataset.load(data), split)
    if tally:
        judged = pl.read_csv(tally, separator="\t", quote_char=None)
        print(counted(judged, None if missed is None else missed["id"]))
    elif missed is not None:
        count = min(count, missed.height)
        picked = np.random.default_rng(seed).choice(missed.height, count, replace=False)
        missed[np.sort(picked)].write_csv(out, separator="\t", quote_style="never")
        print(f"{out}: {count} of {missed.height} misses")
    else:
        raise typer.BadParameter("give RANKER and DATA, or --tally FILE")


def drawn(ranker: Ranker, dataset: Dataset, split: str) -> pl.DataFrame:
    """The misses of a split: query, type, verdict (empty), right and first answers, text."""
    queries = dataset.split(split)
    scores = ranker.scores(queries.texts)
    ids = dataset.answers["id"].to_list()
    missed = np.flatnonzero(per_query(scores, queries.labels)[f"accuracy@{AT}"] == 0)
    rows = queries.frame[missed].select("id", "type")
    return rows.with_columns(
        verdict=pl.lit(""),
        right=pl.Series([";".join(ids[j] for j in queries.labels[[i]].indices) for i in missed]),
        first=pl.Series([";".join(ids[j] for j in top_k(scores[i], AT)) for i in missed]),
        text=pl.Series([" ".join(queries.texts[i].split()) for i in missed]),
    )


def counted(judged: pl.DataFrame, missed: pl.Series | None = None) -> pl.DataFrame:
    """How many have each verdict, with 95 % Wilson intervals of the share.

    Args:
        judged: a row each.
        missed: ids of the queries that another ranker misses: how many of them, too.
    """
    if missed is not None:
        still = judged.filter(pl.col("id").is_in(missed.implode()))
        left = still.group_by("verdict").agg(missed=pl.len())
        both = counted(judged).join(left, "verdict", "left", maintain_order="left")
        return both.with_columns(pl.col("missed").fill_null(0))
    counts = judged.group_by("verdict").len().sort("len", descending=True)
    around = [
        binomtest(n, judged.height).proportion_ci(method="wilson") for n in counts["len"].to_list()
    ]
    ends = {"from": [ends.low for ends in around], "to": [ends.high for ends in around]}
    return counts.with_columns(
        **{name: pl.Series(values).round(3) for name, values in ends.items()}
    )


if __name__ == "__main__":
    typer.run(main)
