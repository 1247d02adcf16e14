"""What can be wrong with a row of a table to import."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from twinrank.data.dataset import SPLITS

Check = tuple[pl.Expr, pl.Expr, str]  # what is wrong with a row: when, in words, and the mend


def _id_checks() -> list[Check]:
    column = pl.col("id")
    first = pl.col("line").first().over("id")
    return [
        (column.is_null(), pl.lit("no id"), "give it one"),
        (
            column.str.contains(r"\p{Cc}"),
            pl.format("the id {} holds a tab or a line break", "id"),
            "take it out",
        ),
        (
            column.is_not_null() & ~column.is_first_distinct(),
            pl.format("the id {} is that of line {} too", "id", first),
            "give every row an id of its own",
        ),
    ]


def answer_checks() -> list[Check]:
    """Of rows of answers."""
    empty = (pl.col("title").fill_null("") == "") & (pl.col("text").fill_null("") == "")
    mend = 'write a JSON list of {"title": ..., "text": ...}'
    return [
        *_id_checks(),
        (pl.col("unreadable"), pl.lit("the sections are no list of sections"), mend),
        (empty, pl.lit("neither title nor text"), "write one, or delete the row"),
    ]


def query_checks() -> list[Check]:
    """Of rows of queries."""
    return [
        *_id_checks(),
        (pl.col("text") == "", pl.lit("no text"), "write one, or delete the row"),
        (pl.col("type").is_null(), pl.lit("no type, though others have one"), "give it one"),
    ]


def pair_checks(answers: Path, queries: Path) -> list[Check]:
    """Of rows of labels; the files are named where an id is unknown."""
    query, answer, split = pl.col("query"), pl.col("answer"), pl.col("split")
    unknown = query.is_not_null() & pl.col("thread").is_null()
    leaks = pl.col("thread").is_not_null() & (split != pl.col("first_split"))
    pair = pl.struct("query", "answer")
    allowed = f"give one of {', '.join(SPLITS)}"
    return [
        (query.is_null(), pl.lit("a label without a query"), "give its id"),
        (unknown, pl.format(f"no query {{}} in {queries}", query), "correct the id"),
        (answer.is_null(), pl.lit("a label without an answer"), "give its id"),
        (
            answer.is_not_null() & ~pl.col("known"),
            pl.format(f"no answer {{}} in {answers}", answer),
            "correct the id, or the separator of several",
        ),
        (
            pl.col("scored").is_not_null() & pl.col("score").is_null(),
            pl.format("the score {} is no number", "scored"),
            "write a number: more than zero is right",
        ),
        (
            query.is_not_null() & answer.is_not_null() & ~pair.is_first_distinct(),
            pl.format("{} and {} are a label already", query, answer),
            "delete the row",
        ),
        (split.is_null(), pl.lit("no split, though others have one"), allowed),
        (~split.is_in(SPLITS), pl.format("{} is no split", split), allowed),
        (
            leaks,
            pl.format("thread {} is in {} by line {}", "thread", "first_split", "first_line"),
            "keep a thread in one split",
        ),
    ]
