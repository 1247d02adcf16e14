"""Figures of a data set: counts, balance, threads, and what to beware of."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import polars as pl

from twinrank.data.article_links import ArticleLinks
from twinrank.data.beir import SPLITS
from twinrank.data.columns import USUAL_SEPARATOR, parse_cell
from twinrank.data.dataset import Dataset
from twinrank.data.records import as_integer
from twinrank.data.texts import answer_texts
from twinrank.data.validation import NO_METADATA

UNLABELLED = "unlabelled"
FEW = 50  # with fewer queries of a type in a split, its figures say little
TOP = 10
SAMPLE = 1_000  # queries of which the metadata are searched for names of answers
NO_TEXTS = pl.Series([], dtype=pl.String)
MIN_NAMING_SHARE = 0.5  # of the filled cells of a column that names answers
MARKUP = (  # tags and entities of HTML, which an encoder would read as words
    r"(?i)</(p|div|span|h[1-6]|ul|ol|li|table|tr|td|th|a|strong|em|b|i|u|pre|code|script|style"
    r"|body|figure|blockquote)\s*>|<br\s*/?>|<img\s|&(nbsp|amp|lt|gt|quot|#\d+);"
)


@dataclass(frozen=True)
class Description:
    """Figures of a data set. Shares are from 0 to 1.

    Attributes:
        name: of the data set.
        counts: of rows; judged_wrong counts scores of zero or less, which are no labels.
        splits: for each split and `unlabelled`: queries, labels, threads, answers (right for a
            query there), and for each type its count and its share of the queries.
        answers: never_right, of_every_type (those with labelled queries of all types) and
            top_ten_labels (how many labels the ten commonest have).
        warnings: what to beware of, a sentence each.
        markup: how many answers and queries hold HTML, where any do.
        left_out: what could not be used, a sentence for each kind.
    """

    name: str
    counts: dict[str, int]
    splits: dict[str, dict[str, Any]]
    answers: dict[str, int]
    warnings: tuple[str, ...]
    markup: dict[str, int]
    left_out: tuple[str, ...]


def describe(dataset: Dataset) -> Description:
    """Count what a data set holds."""
    heads = dataset.queries.select("id", "type", "thread")
    labels = dataset.labels.cast({"split": pl.String}).join(
        heads.select("type", "thread", query="id"), on="query"
    )
    split_of = labels.select("split", id="query").unique()
    queries = heads.join(split_of, on="id", how="left").with_columns(
        pl.col("split").fill_null(UNLABELLED)
    )
    answers = pl.Series(answer_texts(dataset.answers), dtype=pl.String)
    texts = {"answers": answers, "queries": dataset.queries["text"]}
    markup = {name: int(rows.str.contains(MARKUP).sum()) for name, rows in texts.items()}
    markup = {name: count for name, count in markup.items() if count}
    splits = {
        name: _count_split(queries, labels, name, dataset.types) for name in (*SPLITS, UNLABELLED)
    }
    mend = "whose tags are read as words: import again, without --keep-markup"
    warnings = (
        *_find_warnings(splits, labels, dataset),
        *(f"{count:,} {name} hold HTML, {mend}" for name, count in markup.items()),
    )
    per_answer = labels.group_by("answer").agg(pl.len(), pl.col("type").n_unique())
    threads = queries.group_by("thread").agg(pl.col("type").n_unique())
    return Description(
        name=dataset.name,
        counts={
            "answers": dataset.answers.height,
            "queries": queries.height,
            "threads": threads.height,
            "threads_of_several_types": int((threads["type"] > 1).sum()),
            "labels": labels.height,
            "judged_wrong": dataset.judged_wrong,
        },
        answers={
            "never_right": dataset.answers.height - per_answer.height,
            "of_every_type": int((per_answer["type"] == len(dataset.types)).sum()),
            "top_ten_labels": int(per_answer["len"].top_k(TOP).sum()),
        },
        splits=splits,
        warnings=warnings,
        markup=markup,
        left_out=dataset.left_out,
    )


def where_labels_come_from(dataset: Dataset) -> str:
    """Say how a data set without labels gets some: from a column that names answers, if any does.

    Such a column was kept as metadata of the queries.
    """
    url_column = _find_url_column(dataset)
    if name := _find_answer_column(dataset, url_column):
        named = {"query_answer": name} | ({"answer_url": url_column} if url_column else {})
        options = (f"--column {shlex.quote(f'{key}={value}')}" for key, value in named.items())
        return f"the column {name!r} names answers: {' '.join(options)}"
    return (
        "labels come from a column of the queries (--column query_answer=NAME) or from a table of "
        "labels (--labels FILE)"
    )


def _find_url_column(dataset: Dataset) -> str | None:
    """Find the field of the answers' metadata that holds URLs, where no answer has a URL."""
    if dataset.answers.get_column("url", default=NO_TEXTS).count():
        return None
    texts = dataset.answers.get_column("metadata", default=NO_TEXTS).head(SAMPLE)
    pairs = (pair for text in texts for pair in json.loads(text).items())
    return next((name for name, value in pairs if re.match("https?://", f"{value}")), None)


def _find_answer_column(dataset: Dataset, url_column: str | None) -> str | None:
    """Find the field of the queries' metadata that holds ids or URLs of most different answers."""
    texts = dataset.queries.get_column("metadata", default=NO_TEXTS)
    rows = [json.loads(text) for text in texts.filter(texts != NO_METADATA).head(SAMPLE)]
    if not rows:
        return None
    links = ArticleLinks()
    for answer in dataset.answers.iter_rows(named=True):
        url = json.loads(answer["metadata"]).get(url_column) if url_column else answer.get("url")
        links.add(answer["id"], url)
    filled, naming, named = Counter[str](), Counter[str](), defaultdict[str, set[str]](set)
    for column, cell in (pair for row in rows for pair in row.items()):
        parsed = parse_cell(cell)
        if isinstance(parsed, str):
            parsed = links.split(parsed, USUAL_SEPARATOR)
        names = parsed if isinstance(parsed, list) else [parsed]
        answers = [links.find(as_integer(f"{name}".strip())) for name in names]
        filled[column] += 1
        naming[column] += all(answers)
        named[column] |= {*filter(None, answers)}
    fitting = [name for name in filled if naming[name] >= MIN_NAMING_SHARE * filled[name]]
    return max(fitting, key=lambda name: len(named[name]), default=None)


def _count_split(
    queries: pl.DataFrame, labels: pl.DataFrame, name: str, types: tuple[str, ...]
) -> dict[str, Any]:
    queries, labels = (frame.filter(pl.col("split") == name) for frame in (queries, labels))
    counts = dict.fromkeys(types, 0) | dict(queries.group_by("type").len().iter_rows())
    return {
        "queries": queries.height,
        "labels": labels.height,
        "threads": queries["thread"].n_unique(),
        "answers": labels["answer"].n_unique(),
        "types": {
            kind: {"count": count, "share": count / max(queries.height, 1)}
            for kind, count in counts.items()
        },
    }


def _find_warnings(
    splits: dict[str, dict[str, Any]], labels: pl.DataFrame, dataset: Dataset
) -> list[str]:
    warnings, types = [], dataset.types
    if labels.is_empty():
        warnings.append(f"no query has a label; {where_labels_come_from(dataset)}")
    right = {name: labels.filter(pl.col("split") == name)["answer"] for name in SPLITS}
    for name, answers in right.items() if labels.height else ():
        if answers.is_empty():
            warnings.append(f"{name} has no labels: `twinrank split` divides those there are")
            continue
        counts = {kind: splits[name]["types"][kind]["count"] for kind in types}
        warnings += [
            f"{name} has {count or 'no'} labelled queries of the type {kind}"
            for kind, count in counts.items()
            if count < FEW
        ]
        unseen = answers.filter(~answers.is_in(right["train"].unique().implode())).n_unique()
        if unseen and not right["train"].is_empty():
            warnings.append(f"{unseen:,} answers that are right in {name} have no label in train")
    if len(types) == 1:
        warnings.append(
            f"all queries are of one type, {types[0]}, so no two types can be compared; import "
            "reads the type from a column of the queries by --column query_type=NAME"
        )
    return warnings
