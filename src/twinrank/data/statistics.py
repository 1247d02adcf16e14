"""What a data set holds: counts, balance, threads, lengths, and what to beware of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from twinrank.data.dataset import Dataset
from twinrank.data.files import SPLITS
from twinrank.data.markup import count_markup, describe_markup
from twinrank.progress import progress_bar

UNLABELLED = "unlabelled"
SAMPLED = 20_000  # texts of a type whose tokens are counted
COUNTED_AT_ONCE = 1_000
FEW = 50  # with fewer queries of a type in a split, its figures say little
TOP = 10
UNSPACED = r"\p{Han}|\p{Hiragana}|\p{Katakana}|\p{Thai}|\p{Lao}|\p{Khmer}|\p{Myanmar}"
OF_A_TEXT, OF_ALL_TEXTS = 0.2, 0.05  # such characters, such texts, from which words are missed
TOKEN_SHARES = ("over_share", "unread_share")

CountTokens = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class Description:
    """Figures of a data set. Shares are from 0 to 1.

    Attributes:
        name: of the data set.
        counts: answers, queries, threads, threads_of_several_types, labels, and judged_wrong:
            judgements with a score of zero or less, which are not labels.
        splits: for each split and `unlabelled`: queries, labels, threads, answers (right for a
            query there), and for each type its count and its share of the queries.
        answers: never_right, of_every_type (those with labelled queries of all types) and
            top_ten_labels (how many labels the ten commonest have).
        spreads: mean, median, p90 and max of queries_per_answer (over answers that have any),
            labels_per_query (over labelled queries) and queries_per_thread.
        lengths: for each type and `answers`: characters, words and, if they were counted,
            tokens (special ones included), each with mean, median, p90 and max; tokens also with
            over_share (of the texts, those that are cut), unread_share (of all tokens, those
            behind the cut) and sampled (how many texts were counted; 0 if all).
        max_tokens: where the encoder cuts; nothing if tokens were not counted.
        warnings: what to beware of, a sentence each.
        markup: how many answers and queries hold HTML, where any do.
        left_out: what could not be used, a sentence each.
    """

    name: str
    counts: dict[str, int]
    splits: dict[str, dict[str, Any]]
    answers: dict[str, int]
    spreads: dict[str, dict[str, float]]
    lengths: dict[str, dict[str, dict[str, float]]]
    max_tokens: int | None
    warnings: tuple[str, ...]
    markup: dict[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"warnings": list(self.warnings), "left_out": list(self.left_out)}

    def tables(self) -> RenderableType:
        """The same for people."""
        tables = (_splits_table, _shares_table, _spreads_table, _lengths_table)
        parts = [table(self) for table in tables]
        return Group(*parts, *(Text(f" ! {warning}", "yellow") for warning in self.warnings))


def describe(
    dataset: Dataset, count_tokens: CountTokens | None = None, max_tokens: int = 128
) -> Description:
    """Count what a data set holds, in memory that does not grow with its texts.

    Args:
        dataset: what to describe.
        count_tokens: gives the number of tokens of each text (N), as `Encoder.count_tokens`
            does; without it no tokens are counted. Of a type with more than 20,000 texts, that
            many are sampled.
        max_tokens: where that encoder cuts a text.
    """
    text = pl.col("text")
    lengths = (
        text.str.len_chars().alias("characters"),
        text.str.count_matches(r"\S+").alias("words"),
    )
    queries = dataset.queries.select("id", "type", "thread", *lengths).collect(engine="streaming")
    answers = pl.DataFrame({"text": dataset.answer_texts()}).select(*lengths)
    labels = dataset.labels.join(
        queries.select("id", "type", "thread"), left_on="query", right_on="id"
    )
    labels = labels.with_columns(pl.col("split").cast(pl.String))
    split_of = labels.select(pl.col("query").alias("id"), "split").unique()
    queries = queries.join(split_of, on="id", how="left")
    queries = queries.with_columns(pl.col("split").fill_null(UNLABELLED))

    splits = {name: _split(queries, labels, dataset.types, name) for name in (*SPLITS, UNLABELLED)}
    per_answer = labels.group_by("answer").agg(
        pl.col("query").n_unique(), pl.len().alias("labels"), pl.col("type").n_unique()
    )
    threads = queries.group_by("thread").agg(pl.len(), pl.col("type").n_unique())
    kinds = {kind: queries.filter(pl.col("type") == kind) for kind in dataset.types}
    markup = count_markup(dataset)
    measured = {
        name: {unit: _spread(rows[unit]) for unit in ("characters", "words")}
        for name, rows in {**kinds, "answers": answers}.items()
    }
    if count_tokens is not None:
        for name, texts in _samples(dataset, queries).items():
            tokens = _tokens(texts, count_tokens, max_tokens, name)
            few = len(texts) < (kinds[name].height if name in kinds else dataset.answers.height)
            measured[name]["tokens"] = tokens | {"sampled": len(texts) if few else 0}
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
        splits=splits,
        answers={
            "never_right": dataset.answers.height - per_answer.height,
            "of_every_type": int((per_answer["type"] == len(dataset.types)).sum()),
            "top_ten_labels": int(per_answer["labels"].top_k(TOP).sum()),
        },
        spreads={
            "queries_per_answer": _spread(per_answer["query"]),
            "labels_per_query": _spread(labels.group_by("query").len()["len"]),
            "queries_per_thread": _spread(threads["len"]),
        },
        lengths=measured,
        max_tokens=max_tokens if count_tokens is not None else None,
        warnings=(
            *_warnings(splits, labels, dataset.types),
            *describe_markup(markup),
            *unspaced_warning(dataset),
        ),
        markup=markup,
        left_out=dataset.left_out,
    )


def unspaced_warning(dataset: Dataset) -> tuple[str, ...]:
    """A sentence if many texts are in a script without spaces, where BM25 finds no words."""
    text = pl.col("text")
    unspaced = text.str.count_matches(UNSPACED) >= OF_A_TEXT * text.str.len_chars()
    queries = dataset.queries.select(unspaced).collect(engine="streaming")["text"]
    answers = pl.DataFrame({"text": dataset.answer_texts()}).select(unspaced)["text"]
    every = pl.concat([queries, answers])
    part, whole = int(every.sum()), len(every)
    if not part or part < OF_ALL_TEXTS * whole:
        return ()
    return (
        f"{part:,} of {whole:,} texts ({part / whole:.0%}) are in a script without spaces between "
        "words, where BM25 finds none: take a recipe without [words], such as `residual`",
    )


def _split(
    queries: pl.DataFrame, labels: pl.DataFrame, types: tuple[str, ...], name: str
) -> dict[str, Any]:
    rows, right = queries.filter(pl.col("split") == name), labels.filter(pl.col("split") == name)
    counts = dict(rows.group_by("type").len().iter_rows())
    return {
        "queries": rows.height,
        "labels": right.height,
        "threads": rows["thread"].n_unique(),
        "answers": right["answer"].n_unique(),
        "types": {
            kind: {"count": counts.get(kind, 0), "share": _share(counts.get(kind, 0), rows.height)}
            for kind in types
        },
    }


def _spread(values: pl.Series | np.ndarray) -> dict[str, float]:
    array = np.asarray(values, dtype=np.float64) if len(values) else np.zeros(1)
    figures = (array.mean(), *np.quantile(array, (0.5, 0.9, 1.0)))
    return dict(zip(("mean", "median", "p90", "max"), map(float, figures), strict=True))


def _samples(dataset: Dataset, queries: pl.DataFrame) -> dict[str, list[str]]:
    """At most `SAMPLED` texts of each type, and of the answers."""
    drawn = pl.int_range(pl.len()).shuffle(seed=0).over("type") < SAMPLED
    ids = queries.filter(drawn)["id"]
    chosen = dataset.queries.filter(pl.col("id").is_in(ids.implode())).select("type", "text")
    rows = chosen.collect(engine="streaming")
    texts = {kind: rows.filter(pl.col("type") == kind)["text"].to_list() for kind in dataset.types}
    answers = pl.Series(dataset.answer_texts(), dtype=pl.String)
    some = answers.sample(min(SAMPLED, answers.len()), seed=0) if answers.len() else answers
    return {**texts, "answers": some.to_list()}


def _tokens(texts: list[str], count: CountTokens, limit: int, name: str) -> dict[str, float]:
    counted = [np.zeros(0, np.int64)]
    with progress_bar(f"counting tokens: {name}", len(texts)) as advance:
        for start in range(0, len(texts), COUNTED_AT_ONCE):
            counted.append(count(texts[start : start + COUNTED_AT_ONCE]))
            advance(len(counted[-1]))
    tokens = np.concatenate(counted)
    unread = np.maximum(tokens - limit, 0)
    parts = ((unread > 0).sum(), len(tokens)), (unread.sum(), tokens.sum())
    shares = [_share(int(part), int(whole)) for part, whole in parts]
    return _spread(tokens) | dict(zip(TOKEN_SHARES, shares, strict=True))


def _warnings(
    splits: dict[str, dict[str, Any]], labels: pl.DataFrame, types: tuple[str, ...]
) -> list[str]:
    if labels.is_empty():
        return ["no query has a label: there is nothing to train on or to measure"]
    found = []
    taught = labels.filter(pl.col("split") == "train")["answer"].unique()
    for name in SPLITS:
        right = labels.filter(pl.col("split") == name)["answer"]
        if right.is_empty():
            found.append(f"{name} has no labels: `twinrank split` divides those there are")
            continue
        counts = {kind: splits[name]["types"][kind]["count"] for kind in types}
        found += [
            f"{name} has {count or 'no'} labelled queries of the type {kind}"
            for kind, count in counts.items()
            if count < FEW
        ]
        unseen = right.filter(~right.is_in(taught.implode())).n_unique()
        if unseen and not taught.is_empty():
            found.append(f"{unseen:,} answers that are right in {name} have no label in train")
    if len(types) == 1:
        found.append(f"all queries are of one type, {types[0]}: there is no parity to measure")
    return found


def _splits_table(description: Description) -> Table:
    counts, splits = description.counts, list(description.splits.values())
    table = _table(
        ("queries", *description.splits, "all"),
        f"{description.name}: {counts['answers']:,} answers, {counts['queries']:,} queries in "
        f"{counts['threads']:,} threads, {counts['labels']:,} labels",
    )
    width = len(f"{counts['queries']:,}")
    for kind in splits[0]["types"]:
        cells = [(split["types"][kind]["count"], split["queries"]) for split in splits]
        cells.append((sum(count for count, _ in cells), counts["queries"]))
        table.add_row(Text(kind), *(_with_share(*cell, width) for cell in cells))
    table.add_section()
    for row in ("queries", "labels", "threads", "answers"):
        totals = [split[row] for split in splits] + [counts[row]]
        if row == "answers":
            totals[-1] -= description.answers["never_right"]
        name = "right answers" if row == "answers" else f"all {row}"
        table.add_row(name, *(f"{total:,}" for total in totals))
    return table


def _spreads_table(description: Description) -> Table:
    table = _table(("", "mean", "median", "90 %", "max"))
    for name, spread in description.spreads.items():
        table.add_row(name.replace("_", " "), *map(_number, spread.values()))
    return table


def _shares_table(description: Description) -> Table:
    counts, answers = description.counts, description.answers
    table = _table(("", "count", "share"))
    for name, part, whole in (
        ("answers never right", answers["never_right"], counts["answers"]),
        ("answers right for every type", answers["of_every_type"], counts["answers"]),
        ("labels of the ten commonest answers", answers["top_ten_labels"], counts["labels"]),
        ("threads of several types", counts["threads_of_several_types"], counts["threads"]),
    ):
        table.add_row(name, f"{part:,}", f"{_share(part, whole):.0%}")
    if counts["judged_wrong"]:
        table.add_row("judged not right, so no labels", f"{counts['judged_wrong']:,}")
    return table


def _lengths_table(description: Description) -> Table:
    limit = description.max_tokens
    tokens = () if limit is None else (f"over {limit:,}", "not read")
    sampled = any(units.get("tokens", {}).get("sampled") for units in description.lengths.values())
    table = _table(("length in", "", "median", "90 %", "max", *tokens))
    table.columns[1].justify = "left"
    if sampled:
        table.caption = f"tokens of {SAMPLED:,} sampled texts where there are more"
    for who, units in description.lengths.items():
        for unit, spread in units.items():
            cells = [_number(spread[key]) for key in ("median", "p90", "max")]
            shares = [f"{spread[key]:.0%}" for key in TOKEN_SHARES if key in spread]
            table.add_row(Text(who if unit == "characters" else ""), unit, *cells, *shares)
    return table


def _with_share(part: int, whole: int, width: int) -> Text:
    return Text(f"{_share(part, whole):.0%} ", "dim").append(f"{part:{width},}", "not dim")


def _share(part: int, whole: int) -> float:
    return part / max(whole, 1)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:,.1f}"


def _table(columns: tuple[str, ...], title: str = "") -> Table:
    heading = Text(title, "italic") if title else None
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left")
    return table
