"""Is a data set sound? Fast by columns; if there is a doubt, slowly, every fault by its line."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from twinrank.data import files
from twinrank.data.faults import find_faults
from twinrank.errors import DataError, Fault


def check(path: Path) -> None:
    """Return if the data set in a folder is sound.

    Raises:
        DataError: with every fault there is.
    """
    unreadable = None
    try:
        if _looks_sound(path):
            return
    except (pl.exceptions.PolarsError, OSError) as error:
        unreadable = error
    faults = find_faults(path)
    if unreadable and not faults:
        what = f"cannot be read, though no line alone is at fault: {unreadable}"
        faults = [Fault(path, None, what, "check the files' encoding and nesting")]
    if faults:
        raise DataError(faults)


def _looks_sound(path: Path) -> bool:
    """False where something is wrong, or might be: Polars reads lists and objects as text."""
    if not (path / files.ANSWERS).is_file() or not (path / files.QUERIES).is_file():
        return False
    if files.twice_the_validation(path):
        return False
    answers = files.read_answers(path / files.ANSWERS)
    text = pl.col("text")
    doubtful = _blank("title") & _blank("text") | _odd("id", "title", "text", "url")
    sections = answers["sections"].explode().drop_nulls().struct.unnest()
    if sections.select(_odd("title", "text").any()).item():
        return False
    if answers.is_empty() or answers.select(doubtful.any()).item() or not _ids(answers["id"]):
        return False
    doubtful = _blank("type") | _blank("thread") | text.is_null() | _blank("text")
    queries = files.scan_queries(path / files.QUERIES)
    heads = queries.select(
        "id", "thread", doubtful=doubtful | _odd("id", "type", "thread", "text")
    ).collect(engine="streaming")
    if heads["doubtful"].any() or not _ids(heads["id"]):
        return False
    judged = []
    for split, file in files.qrels_files(path).items():
        rows = files.read_qrels(file)
        if not _judgements(rows, answers["id"]) or file.read_bytes()[:3] == b"\xef\xbb\xbf":
            return False
        judged.append(rows.select("query", split=pl.lit(split)))
    if not judged:
        return True
    threads = pl.concat(judged).join(heads.select("id", "thread"), left_on="query", right_on="id")
    if threads.height < sum(rows.height for rows in judged):  # unknown queries
        return False
    return bool(threads.group_by("thread").agg(pl.col("split").n_unique())["split"].max() == 1)


def _judgements(rows: pl.DataFrame, answers: pl.Series) -> bool:
    return (
        not any(rows.null_count().row(0))
        and bool((rows["score"] > 0).any())
        and not rows.select("query", "answer").is_duplicated().any()
        and bool(rows["answer"].is_in(answers.implode()).all())
    )


def _ids(ids: pl.Series) -> bool:
    there = ids.null_count() == 0 and (ids.str.strip_chars() != "").all()
    return there and ids.n_unique() == len(ids)


def _blank(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars() == ""


def _odd(*columns: str) -> pl.Expr:
    """What may have been a list or an object, or half a surrogate pair, which Polars makes NUL."""
    odd = "^[\\[{]|\x00"
    return pl.any_horizontal(pl.col(c).str.contains(odd).fill_null(False) for c in columns)
