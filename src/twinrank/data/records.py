"""Records of tables: CSV, TSV, JSONL and Parquet files."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from twinrank.data.lines import byte_lines, json_lines
from twinrank.errors import Fault
from twinrank.progress import progress_bar


def records(file: Path, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a table, each with the line where it begins, in Parquet with its row, from 1.

    What is no record goes to `faults`; with a line if the others can still be used.
    """
    match file.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from json_lines(file, faults)
        case ".csv" | ".tsv":
            yield from _csv_records(file, faults)
        case ".parquet":
            yield from _parquet_records(file, faults)
        case suffix:
            what = f"a table cannot be a {suffix or 'file without a suffix'}"
            faults.append(Fault(file, None, what, "give .csv, .tsv, .jsonl or .parquet"))


def _csv_records(file: Path, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The separator is the tab in .tsv; else that of , ; and tab which the header has most of."""
    lines = _decoded(file, faults)
    header = next(lines, None)
    if header is None:
        if not faults or faults[-1].file != file:
            faults.append(Fault(file, None, "the file is empty", "check the file"))
        return
    separator = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        rows = csv.reader(chain([header], lines), delimiter=separator, strict=True)
        names = next(rows, [])
        if len(set(names)) < max(len(names), 1):
            what = "two columns have the same name" if names else "the first line is empty"
            faults.append(Fault(file, None, what, "name each column in the first line"))
            return
        known, begins = len(faults), rows.line_num + 1
        for row in rows:
            if row and len(row) != len(names):
                what = f"{len(row)} fields, but the header has {len(names)}"
                faults.append(
                    Fault(file, begins, what, "put quotes around fields with a separator")
                )
            elif row and len(faults) == known:
                yield begins, dict(zip(names, row, strict=True))
            known, begins = len(faults), rows.line_num + 1
    except csv.Error as error:
        what = f"unreadable from line {rows.line_num} on ({error})"
        faults.append(Fault(file, None, what, "close quotes, and double those inside a field"))
    finally:
        csv.field_size_limit(limit)


def _decoded(file: Path, faults: list[Fault]) -> Iterator[str]:
    for number, line in byte_lines(file, faults):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            faults.append(Fault(file, number, "the line is not UTF-8", "save the file as UTF-8"))
            yield line.decode("utf-8", errors="replace")


def _parquet_records(file: Path, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        frame = pl.read_parquet(file, glob=False)
    except (pl.exceptions.PolarsError, FileNotFoundError) as error:
        what = f"not readable as Parquet ({str(error).splitlines()[0]})"
        faults.append(Fault(file, None, what, "check the path and the file"))
        return
    with progress_bar(f"reading {file.name}", frame.height, unit="rows") as advance:
        for number, row in enumerate(frame.iter_rows(named=True), 1):
            yield number, row
            if number % 1_000 == 0:
                advance(1_000)
