"""Figures of a data set: counts, balance, threads, lengths, and what to beware of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from twinrank.data.beir import SPLITS
from twinrank.data.dataset import Dataset
from twinrank.progress import progress_bar

UNLABELLED = "unlabelled"
MAX_COUNTED_TEXTS = 20_000  # of a type, whose tokens are counted
TEXTS_COUNTED_AT_ONCE = 1_000
FEW = 50  # with fewer queries of a type in a split, its figures say little
TOP = 10
MARKUP = (  # tags and entities of HTML, which an encoder would read as words
    r"(?i)</(p|div|span|h[1-6]|ul|ol|li|table|tr|td|th|a|strong|em|b|i|u|pre|code|script|style"
    r"|body|figure|blockquote)\s*>|<br\s*/?>|<img\s|&(nbsp|amp|lt|gt|quot|#\d+);"
)
TOKEN_SHARES = ("over_share", "unread_share")

CountTokens = Callable[[list[str]], np.ndarray]


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
        spreads: mean, median, p90 and max of queries_per_answer (over answers that have any),
            labels_per_query (over labelled queries) and queries_per_thread.
        lengths: for each type and `answers`: characters, words and, if they were counted,
            tokens (special ones included), each with mean, median, p90 and max; tokens also with
            over_share (of the texts, those that are cut), unread_share (of all tokens, those
            behind the cut) and sampled (how many texts were counted; 0 if all).
        max_tokens: where the encoder cuts; nothing if tokens were not counted.
        warnings: what to beware of, a sentence each.
        markup: how many answers and queries hold HTML, where any do.
        left_out: what could not be used, a sentence for each kind.
    """

    name: str
    counts: dict[str, int]
    splits: dict[str, dict[str, Any]]
    answers: dict[str, int]
    spreads: dict[str, dict[str, float]]
    lengths: dict[str, dict[str, dict[str, float]]]
    max_tokens: int | None
    warnings: tuple[str, ...]
    markup: dict[str, int]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"warnings": list(self.warnings), "left_out": list(self.left_out)}


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
    sizes = {
        "characters": text.str.len_chars(),
        "words": text.str.count_matches(r"\S+"),
        "markup": text.str.contains(MARKUP),
    }
    rows = dataset.queries.select("id", "type", "thread", **sizes).collect(engine="streaming")
    labels = dataset.labels.cast({"split": pl.String}).join(
        rows.select("type", "thread", query="id"), on="query"
    )
    split_of = labels.select("split", id="query").unique()
    queries = rows.join(split_of, on="id", how="left").with_columns(
        pl.col("split").fill_null(UNLABELLED)
    )
    texts = pl.DataFrame({"text": dataset.answer_texts()}).select(text, **sizes)
    groups = {kind: queries.filter(pl.col("type") == kind) for kind in dataset.types}
    lengths = {
        name: {size: _spread(group[size]) for size in ("characters", "words")}
        for name, group in (groups | {"answers": texts}).items()
    }
    if count_tokens is not None:
        for name in lengths:
            total = texts.height if name == "answers" else groups[name].height
            sample = _sample_texts(dataset, name, total)
            tokens = _count_tokens(sample, count_tokens, max_tokens, name)
            tokens["sampled"] = len(sample) if len(sample) < total else 0
            lengths[name]["tokens"] = tokens
    splits = {
        name: _count_split(queries, labels, name, dataset.types) for name in (*SPLITS, UNLABELLED)
    }
    markup = {"answers": int(texts["markup"].sum()), "queries": int(queries["markup"].sum())}
    markup = {name: count for name, count in markup.items() if count}
    mend = "whose tags are read as words: import again, without --keep-markup"
    warnings = (
        *_find_warnings(splits, labels, dataset.types),
        *(f"{count:,} {name} hold HTML, {mend}" for name, count in markup.items()),
    )
    return Description(
        name=dataset.name,
        **_count_all(dataset, queries, labels),
        splits=splits,
        lengths=lengths,
        max_tokens=max_tokens if count_tokens is not None else None,
        warnings=warnings,
        markup=markup,
        left_out=dataset.left_out,
    )


def _count_all(dataset: Dataset, queries: pl.DataFrame, labels: pl.DataFrame) -> dict[str, Any]:
    """Count over all splits: `counts`, `answers` and `spreads` of a description."""
    per_answer = labels.group_by("answer").agg(
        pl.col("query").n_unique(), pl.len().alias("labels"), pl.col("type").n_unique()
    )
    threads = queries.group_by("thread").agg(pl.len(), pl.col("type").n_unique())
    return {
        "counts": {
            "answers": dataset.answers.height,
            "queries": queries.height,
            "threads": threads.height,
            "threads_of_several_types": int((threads["type"] > 1).sum()),
            "labels": labels.height,
            "judged_wrong": dataset.judged_wrong,
        },
        "answers": {
            "never_right": dataset.answers.height - per_answer.height,
            "of_every_type": int((per_answer["type"] == len(dataset.types)).sum()),
            "top_ten_labels": int(per_answer["labels"].top_k(TOP).sum()),
        },
        "spreads": {
            "queries_per_answer": _spread(per_answer["query"]),
            "labels_per_query": _spread(labels.group_by("query").len()["len"]),
            "queries_per_thread": _spread(threads["len"]),
        },
    }


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


def _spread(values: pl.Series | np.ndarray) -> dict[str, float]:
    array = np.asarray(values, dtype=np.float64) if len(values) else np.zeros(1)
    figures = (array.mean(), *np.quantile(array, (0.5, 0.9, 1.0)))
    return dict(zip(("mean", "median", "p90", "max"), map(float, figures), strict=True))


def _sample_texts(dataset: Dataset, name: str, total: int) -> list[str]:
    """Draw at most `MAX_COUNTED_TEXTS` texts of a type, or of the answers."""
    rows = np.random.default_rng(0).permutation(total)[:MAX_COUNTED_TEXTS]
    if name == "answers":
        texts = pl.Series(dataset.answer_texts(), dtype=pl.String)
    else:
        texts = dataset.queries.filter(pl.col("type") == name).select("text").collect()["text"]
    return texts.gather(np.sort(rows)).to_list()


def _count_tokens(texts: list[str], count: CountTokens, limit: int, name: str) -> dict[str, float]:
    counts = [np.zeros(0, np.int64)]
    with progress_bar(f"counting tokens: {name}", len(texts)) as advance:
        for start in range(0, len(texts), TEXTS_COUNTED_AT_ONCE):
            counts.append(count(texts[start : start + TEXTS_COUNTED_AT_ONCE]))
            advance(len(counts[-1]))
    tokens = np.concatenate(counts)
    unread = np.maximum(tokens - limit, 0)
    shares = ((unread > 0).sum() / max(len(tokens), 1), unread.sum() / max(tokens.sum(), 1))
    return _spread(tokens) | dict(zip(TOKEN_SHARES, map(float, shares), strict=True))


def _find_warnings(
    splits: dict[str, dict[str, Any]], labels: pl.DataFrame, types: tuple[str, ...]
) -> list[str]:
    if labels.is_empty():
        return ["no query has a label: there is nothing to train on or to measure"]
    warnings = []
    right = {name: labels.filter(pl.col("split") == name)["answer"] for name in SPLITS}
    for name, answers in right.items():
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
        warnings.append(f"all queries are of one type, {types[0]}: there is no parity to measure")
    return warnings
