"""Short conversations taken for questions: some write into a chat as into a search box."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import polars as pl

from twinrank.data.dataset import Dataset
from twinrank.data.files import SPLITS
from twinrank.errors import DataError, Fault

log = logging.getLogger(__name__)

CONVERSATION, QUESTION = "conversation", "question"


def cast_short(dataset: Dataset, below: int) -> Dataset:
    """The same data with every conversation of fewer characters as a question.

    In all splits alike: what is trained on it and what is measured on it go by the same types.
    How many were cast, and where, is logged.

    Args:
        dataset: any.
        below: characters.

    Raises:
        DataError: if no query is of the type `conversation`.
    """
    if CONVERSATION not in dataset.types:
        what = f"no query is of type {CONVERSATION}; the types are {', '.join(dataset.types)}"
        file = Path(dataset.name) / "queries.jsonl"
        raise DataError([Fault(file, None, what, "leave cast_below out")])
    is_short = (pl.col("type") == CONVERSATION) & (pl.col("text").str.len_chars() < below)
    splits = dataset.labels.group_by("query").agg(pl.col("split").first()).lazy()
    counts = (
        dataset.queries.filter(pl.col("type") == CONVERSATION)
        .join(splits, left_on="id", right_on="query", how="left")
        .group_by(pl.col("split").fill_null("unlabelled"))
        .agg(of=pl.len(), cast=is_short.sum())
        .collect()
    )
    found = {split: (cast, of) for split, of, cast in counts.iter_rows()}
    listed = (f"{where} {found[where][0]:,}" for where in (*SPLITS, "unlabelled") if where in found)
    log.info(
        "%s of %s conversations have fewer than %d characters, and are questions now: %s",
        *(f"{counts[name].sum():,}" for name in ("cast", "of")),
        *(below, ", ".join(listed)),
    )
    kind = pl.when(is_short).then(pl.lit(QUESTION)).otherwise(pl.col("type"))
    return replace(dataset, queries=dataset.queries.with_columns(type=kind), folder=None)
