"""Texts to rank from a JSONL file, and records from JSONL, CSV, TSV and Parquet files."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from twinrank.errors import DataError, Fault
from twinrank.progress import progress_bar

KILOBYTE = 1_000
OBJECT = "write an object, {...}, on a line of its own"
BOM = b"\xef\xbb\xbf"


def read_texts(file: Path) -> list[str]:
    """The `text` field of every line of a JSONL file; blank lines are passed over.

    Raises:
        DataError: with every fault of the file: it is missing, or a line is not UTF-8, not JSON,
            not an object, or has no text.
    """
    texts: list[str] = []
    faults: list[Fault] = []
    for number, record in json_lines(file, faults):
        text = record.get("text")
        if text is None:
            faults.append(Fault(file, number, "the field text is missing", 'add "text": "..."'))
        elif not isinstance(text, str):
            what = f"text is {json.dumps(text)[:40]}, not a string"
            faults.append(Fault(file, number, what, "put it in quotes"))
        elif not text.strip():
            faults.append(Fault(file, number, "text is empty", "write one or delete the line"))
        else:
            texts.append(text)
    if faults:
        raise DataError(faults)
    return texts


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


def json_lines(file: Path, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file, each with its line; lines that are none go to `faults`."""
    for number, line in byte_lines(file, faults):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
            if b"\\u" in line:  # only an escape can spell half a character
                json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeDecodeError:
            faults.append(Fault(file, number, "the line is not UTF-8", "save the file as UTF-8"))
        except UnicodeEncodeError:
            what = "the line holds half a character (a lone surrogate)"
            faults.append(Fault(file, number, what, "write the whole character"))
        except (ValueError, RecursionError) as error:
            faults.append(Fault(file, number, f"the line is not JSON ({error})", OBJECT))
        else:
            if isinstance(record, dict):
                yield number, record
            else:
                faults.append(Fault(file, number, "the line is not a JSON object", OBJECT))


def byte_lines(file: Path, faults: list[Fault]) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, from 1, without a byte order mark; a missing file goes to `faults`."""
    try:
        lines = file.open("rb")
    except FileNotFoundError:
        faults.append(Fault(file, None, "there is no such file", "check the path"))
        return
    size = file.stat().st_size // KILOBYTE
    with lines, progress_bar(f"reading {file.name}", size, unit="kB") as advance:
        unsaid = 0
        for number, line in enumerate(lines, 1):
            yield number, line.removeprefix(BOM) if number == 1 else line
            unsaid += len(line)
            if unsaid > 1_000 * KILOBYTE:
                advance(unsaid // KILOBYTE)
                unsaid %= KILOBYTE


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
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, FileNotFoundError) as error:
        what = f"not readable as Parquet ({str(error).splitlines()[0]})"
        faults.append(Fault(file, None, what, "check the path and the file"))
        return
    with progress_bar(f"reading {file.name}", frame.height, unit="rows") as advance:
        for number, row in enumerate(frame.iter_rows(named=True), 1):
            yield number, row
            if number % 1_000 == 0:
                advance(1_000)
