"""TREC's files, split by blanks and without a header: judgements (qrels) and rankings (runs)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from twinrank.arguments import AnyPath, path_of
from twinrank.data.records import Record, as_integer, read_lines
from twinrank.errors import DataError, Fault
from twinrank.files import write_file

log = logging.getLogger(__name__)

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)
QREL_WIDTH, RUN_WIDTH = 4, 6  # query, 0, answer, score; query, Q0, answer, rank, score, tag
RUN_MEND = "write lines of query, Q0, answer, rank, score and a name, with blanks between"
ROWS_AT_ONCE = 200_000
RUN_SCHEMA = {**dict.fromkeys(("query", "answer"), pl.String), "score": pl.Float64}


def count_columns(file: Path) -> int:
    """Return how many columns the judgements of a file without a header have: 4, 3, or else 0."""
    lines = (cells for _, cells in read_cells(file, []))
    first = next(lines, [])
    has_score = len(first) in (3, QREL_WIDTH) and NUMBER.fullmatch(first[-1])
    return len(first) if has_score else 0


def read_cells(file: Path, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Read the cells of each line that is not blank: between tabs if it has any, else blanks."""
    for number, line in read_lines(file, faults):
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        if any(cells):
            yield number, cells


def read_judgements(
    file: Path, faults: list[Fault], *, width: int = QREL_WIDTH
) -> Iterator[tuple[int, Record]]:
    """Read a file of judgements without a header: query, answer and score, each with its line."""
    for number, cells in read_cells(file, faults):
        if len(cells) == width:
            yield number, {"query": cells[0], "answer": cells[-2], "score": cells[-1]}
        else:
            what = f"{len(cells)} fields, but the first line has {width}"
            faults.append(Fault(file, number, what, "write query, 0, answer, score in each line"))


def read_run(path: AnyPath) -> pl.DataFrame:
    """Read a TREC run: query, answer and score, the best answer of each query first.

    Of equal scores, the line that comes first ranks first; the column of ranks is not read. An
    answer that stands twice counts where it stands first, and is counted in the log.

    Raises:
        DataError: with every line that is none of a run.
    """
    file = path_of(path, "a run's file")
    faults: list[Fault] = []
    lines, frames = _read_run_lines(file, faults), []
    while rows := [*islice(lines, ROWS_AT_ONCE)]:
        frames.append(pl.DataFrame(rows, schema=RUN_SCHEMA, orient="row"))
    if not frames and not faults:
        faults.append(Fault(file, None, "holds no ranking", RUN_MEND))
    if faults:
        raise DataError(faults)
    run = pl.concat(frames)
    ranked = run.sort("score", descending=True, maintain_order=True)
    unique = ranked.unique(["query", "answer"], keep="first", maintain_order=True)
    if repeated := run.height - unique.height:
        log.warning("%s: lines of an answer that ranks higher left out: %s", file, f"{repeated:,}")
    return unique


def _read_run_lines(file: Path, faults: list[Fault]) -> Iterator[tuple[str, str, float]]:
    for number, cells in read_cells(file, faults):
        if len(cells) == RUN_WIDTH and NUMBER.fullmatch(cells[4]):
            yield as_integer(cells[0]), as_integer(cells[2]), float(cells[4])
        else:
            what = f"no line of a run: {' '.join(cells)[:60]!r}"
            faults.append(Fault(file, number, what, RUN_MEND))


def write_run(path: AnyPath, run: pl.DataFrame, tag: str = "twinrank") -> None:
    """Write rankings (query, answer and score, the best answer of each query first) as a TREC run.

    Tools for such files sort by score alone, and by the names of answers of equal scores. So a
    score is written below the one before it, by the least that single precision can tell.

    Raises:
        DataError: if an id holds blanks.
    """
    file = path_of(path, "a run's file")
    for column in ("query", "answer"):
        blank = run.filter(pl.col(column).str.contains(r"\s"))
        if not blank.is_empty():
            what = f"the {column} id {blank[column][0]!r} holds blanks, which a run cannot"
            raise DataError([Fault(file, None, what, f"rename the {column}")])
    table = run.select(
        "query",
        pl.lit("Q0").alias("Q0"),
        "answer",
        pl.int_range(1, pl.len() + 1).over("query").alias("rank"),
        pl.col("score").cast(pl.Float32),
        pl.lit(tag).alias("tag"),
    )
    scores, below = table["score"].to_numpy(writable=True), np.float32(-np.inf)
    ranks = table["rank"].to_numpy()
    by_rank = np.split(np.argsort(ranks, kind="stable"), np.cumsum(np.bincount(ranks)[1:-1]))
    for rows in by_rank[1:]:
        scores[rows] = np.minimum(scores[rows], np.nextafter(scores[rows - 1], below))
    table = table.with_columns(score=pl.Series(scores))
    style: dict[str, Any] = {"separator": " ", "include_header": False, "quote_style": "never"}
    write_file(file, partial(table.write_csv, **style))
