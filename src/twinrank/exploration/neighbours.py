"""Nearest neighbours by cosine, and texts that are near twins: queries and answers."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from twinrank.exploration.findings import Check, Finding, Level, Table, count_of
from twinrank.exploration.sample import MAX_ROWS, Sample, Subject, shorten

ROWS_PER_BLOCK = 512
# At this cosine of mean-pooled features two texts are taken for one. On mozilla-support, pairs
# of queries from .9 on differ by a word or less, and nearer ones agree no better in their labels
# (46 to 54 %); pairs of articles are old and new versions of one, or one for each device.
TWIN_COSINE = 0.9
MAX_TWINS = 10  # of each text
# From these shares on, something is to be mended rather than known.
MUCH_OVERLAP = 0.05  # of the queries of a split
MUCH_DISAGREEMENT = 0.2  # of the labelled queries with a labelled twin

Points = Float[np.ndarray, "n d"]
Codes = Int[np.ndarray, " n"]


def nearest(
    points: Float[np.ndarray, "n d"],
    others: Float[np.ndarray, "v d"],
    k: int,
    *,
    apart: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " v"]] | None = None,
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Find the k nearest others of each point, the nearest first, and their cosines.

    Where there are fewer than k, so many columns. Those that do not count have cosine -inf.

    Args:
        points: of length one.
        others: of length one.
        k: how many.
        apart: a code for each point and each other; those of equal codes do not count.
    """
    k = min(k, len(others))
    columns = np.zeros((len(points), k), np.int64)
    cosines = np.zeros((len(points), k), np.float32)
    if not k:
        return columns, cosines
    for start in range(0, len(points), ROWS_PER_BLOCK):
        rows = slice(start, start + ROWS_PER_BLOCK)
        products = points[rows] @ others.T
        if apart is not None:
            products[apart[0][rows, None] == apart[1][None]] = -np.inf
        top = np.argpartition(-products, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(products, top, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        columns[rows] = np.take_along_axis(top, order, axis=1)
        cosines[rows] = np.take_along_axis(values, order, axis=1)
    return columns, cosines


def check_query_twins(subject: Subject) -> Check:
    """Are queries alike labelled alike, and was a split seen in train?"""
    sample, heading = subject.sample, "Near twins among the queries"
    twins = find_query_twins(sample)
    overlap = count_overlap(sample, twins)
    findings, tables = [], []
    pairs = twins.filter("labelled")
    if pairs.height:
        sides = [pairs.select(pl.col(side).alias("query"), "agree") for side in pairs.columns[:2]]
        queries = pl.concat(sides)["query"].n_unique()
        odd = pl.concat(sides).filter(~pl.col("agree"))["query"].n_unique()
        level: Level = "mend" if odd / queries >= MUCH_DISAGREEMENT else "know"
        text = (
            f"{odd:,} of {queries:,} labelled queries with a near twin ({odd / queries:.0%}) have "
            "a twin that is labelled with another answer."
        )
        advice = (
            "Agree on one answer for each, or give both answers to both: no first answer can be "
            "right for two labels."
        )
        if not odd:
            level, advice = "fine", "Nothing: what is asked alike is answered alike."
        figures = {"queries_with_twins": queries, "disagreeing": odd}
        findings.append(Finding("twins", level, text, advice, figures))
    if overlap:
        head = ["split", "queries", "with a twin", "with the same answer"]
        rows = [[name, *(f"{n:,}" for n in counts.values())] for name, counts in overlap.items()]
        tables.append(Table("What of a split has a near twin in train", [head, *rows]))
        findings += [_find_overlap(name, counts) for name, counts in overlap.items()]
    odd_pairs = _take_each_once(pairs.filter(~pl.col("agree")))
    if odd_pairs:
        rows = [
            [f"{cosine:.2f}", "\n\n".join(map(sample.describe_query, (first, second)))]
            for first, second, cosine in odd_pairs[:MAX_ROWS]
        ]
        head = ["cosine", "two queries of different threads"]
        title = "Alike, but labelled with different answers"
        tables.append(Table(title, [head, *rows], len(odd_pairs)))
    counts = {"pairs": twins.height, "labelled": pairs.height, "agree": int(pairs["agree"].sum())}
    return Check(
        "query_twins", heading, findings, tables=tables, facts={"cosine": TWIN_COSINE, **counts}
    )


def _find_overlap(name: str, counts: dict[str, int]) -> Finding:
    share = counts["twins"] / counts["queries"]
    text = (
        f"{counts['twins']:,} of {counts['queries']:,} {name} queries ({share:.0%}) have a near "
        f"twin in train, and {counts['agree']:,} of them with the same answer."
    )
    figures = {f"{name}_{key}": value for key, value in counts.items()}
    if share < MUCH_OVERLAP:
        advice = f"Nothing: hardly anything in {name} was seen in train."
        return Finding("overlap", "fine", text, advice, figures)
    advice = (
        "Give twins that are one case the same `thread` and divide anew with `twinrank split`; "
        "else expect less on what was never asked before."
    )
    return Finding("overlap", "mend", text, advice, figures)


def _take_each_once(pairs: pl.DataFrame) -> list[tuple[int, int, float]]:
    """Choose the nearest pairs such that no query is in two."""
    seen: set[int] = set()
    chosen = []
    for first, second, cosine in pairs.select("first", "second", "cosine").iter_rows():
        if not {first, second} & seen:
            seen |= {first, second}
            chosen.append((first, second, cosine))
    return chosen


def check_answer_twins(subject: Subject) -> Check:
    """Are there answers that the encoder cannot tell apart?"""
    answers, heading = subject.sample.answers, "Near twins among the answers"
    pairs = find_answer_twins(subject.sample)
    used = subject.popularity.filter(pl.col("queries") > 0)["answer"]
    is_used = answers["id"].is_in(used.implode())
    both = int((is_used.gather(pairs["first"]) & is_used.gather(pairs["second"])).sum())
    figures = {"pairs": pairs.height, "both_right": both}
    if pairs.is_empty():
        text = f"No two answers are nearly the same to the encoder (cosine {TWIN_COSINE} or more)."
        finding = Finding("answer_twins", "fine", text, "Nothing.", figures)
        return Check("answer_twins", heading, [finding])
    text = (
        f"{count_of(pairs.height, 'pair of answers is', 'pairs of answers are')} nearly the same "
        f"to the encoder (cosine {TWIN_COSINE} or more); in {both:,} of them both are right for "
        "some query."
    )
    advice = (
        "Merge those that say the same, or label queries with both; where they differ behind the "
        "limit, put the difference into the title."
    )
    rows = [
        [
            f"{row['cosine']:.2f}",
            f"{row['words']:.0%}",
            "\n\n".join(
                f"{answers['title'][row[side]]}\n{shorten(answers['text'][row[side]])}"
                for side in ("first", "second")
            ),
        ]
        for row in pairs.head(MAX_ROWS).iter_rows(named=True)
    ]
    head = ["cosine", "words shared", "two answers"]
    table = Table("Answers that are nearly the same", [head, *rows], pairs.height)
    finding = Finding("answer_twins", "mend", text, advice, figures)
    return Check("answer_twins", heading, [finding], tables=[table])


def find_query_twins(sample: Sample) -> pl.DataFrame:
    """Find pairs of queries of different threads that are nearly the same, the nearest first.

    Of more than ten twins of a query the nearest count.

    Returns:
        first and second (rows, first < second), cosine, labelled (both are), agree (they share a
        right answer).
    """
    pairs = _find_twins(sample.points, sample.codes("thread"))
    left, right = (sample.labels[pairs[side].to_numpy()] for side in ("first", "second"))
    shared = np.asarray(left.multiply(right).sum(axis=1)).ravel() > 0
    both = np.logical_and(*(np.diff(side.indptr) > 0 for side in (left, right)))
    return pairs.with_columns(labelled=pl.Series(both), agree=pl.Series(shared))


def find_answer_twins(sample: Sample) -> pl.DataFrame:
    """Find pairs of answers that are nearly the same to the encoder, the nearest first.

    Returns:
        first and second (columns, first < second), cosine, and words: the share of their words
        that both have (Jaccard), of the whole texts: the encoder may have read less.
    """
    pairs = _find_twins(sample.answer_points, np.arange(len(sample.answer_points)))
    title, text = sample.answers["title"], sample.answers["text"]
    shares = []
    for rows in pairs.select("first", "second").iter_rows():
        a, b = (set(re.findall(r"\w+", f"{title[i]} {text[i]}".lower())) for i in rows)
        shares.append(len(a & b) / max(len(a | b), 1))
    return pairs.with_columns(words=pl.Series(shares, dtype=pl.Float64))


def _find_twins(points: Points, groups: Codes) -> pl.DataFrame:
    """Pair near twins of different groups, each pair once."""
    columns, cosines = nearest(points, points, MAX_TWINS, apart=(groups, groups))
    row, rank = np.nonzero(cosines >= TWIN_COSINE)
    column = columns[row, rank]
    pairs = {
        "first": np.minimum(row, column).astype(np.int64),
        "second": np.maximum(row, column).astype(np.int64),
        "cosine": np.minimum(cosines[row, rank], 1).astype(np.float64),
    }
    once = pl.DataFrame(pairs).unique(["first", "second"], keep="first", maintain_order=True)
    return once.sort("cosine", descending=True, maintain_order=True)


def count_overlap(sample: Sample, twins: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Count the queries of each split that have a near twin in train, and those that agree.

    Returns:
        for validation and test, if they have queries here: queries, twins (queries with one) and
        agree (queries with one that shares a right answer).
    """
    split = sample.frame["split"].fill_null("")
    sides = [
        twins.select(query=pl.col(a), twin=pl.col(b), agree="agree")
        for a, b in (("first", "second"), ("second", "first"))
    ]
    pairs = pl.concat(sides).filter(split.gather(pl.concat(sides)["twin"]) == "train")
    pairs = pairs.with_columns(split=split.gather(pairs["query"]))
    counts = {}
    for name in ("validation", "test"):
        if queries := int((split == name).sum()):
            inside = pairs.filter(pl.col("split") == name)
            agree = inside.filter("agree")["query"].n_unique()
            counts[name] = {"queries": queries, "twins": inside["query"].n_unique(), "agree": agree}
    return counts
