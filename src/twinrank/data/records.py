"""The one reader of people's files: records of JSONL, CSV, TSV and Parquet, by their lines."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from twinrank.errors import DataError, Fault
from twinrank.progress import progress_bar

Record = dict[str, Any]

MAX_CELL_CHARACTERS = 2**31 - 1  # the largest limit that csv takes on every system
MAX_EXACT_FLOAT = 2**53  # above it a float does not tell whole numbers apart
WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0*", re.ASCII)
SURROGATE = re.compile("[\ud800-\udfff]")
NOT_UTF8 = ("the line is not UTF-8", "save the file as UTF-8")
NOT_OBJECT = "write an object, {...}, on a line of its own"
FORMS = (  # how a file begins, in lower case; what it is; the mend
    (rb"\x1f\x8b|bzh\d|\xfd7zxz|\x28\xb5\x2f\xfd", "a compressed file", "unpack it"),
    (
        rb"pk\x03\x04|\xd0\xcf\x11\xe0",
        "an Excel file, or a ZIP archive",
        "save it as CSV UTF-8, or unpack it",
    ),
    (rb"par1", "a Parquet file", "name it .parquet"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (rb"<!doctype html|<html", "an HTML page", "download the file itself"),
    (rb"\xff\xfe\0\0|\0\0\xfe\xff|[^\0]\0|\0", "UTF-16 or UTF-32 text", "save it as UTF-8"),
)
JSON_LINES = (".jsonl", ".ndjson")
MANY_LINES = re.compile(rb"(\xef\xbb\xbf)?\s*(\[\s*(\{|\Z)|\{\s*\n)")  # an array, or one indented


class NotTextError(ValueError):
    """A value that cannot be read as one text."""


def as_text(value: object) -> str | None:
    """Read a value as text: 12.0 as 12, since integers with gaps come as floats; NaN as none.

    Raises:
        NotTextError: for lists, objects, bytes that are not UTF-8, and floats that are no exact
            number.
    """
    match value:
        case str() | None:
            return value
        case bool():
            return f"{value}".lower()
        case float() if math.isnan(value):
            return None
        case float() if abs(value) > MAX_EXACT_FLOAT:
            raise NotTextError("a number beyond what a float holds exactly")
        case int() | float() | Decimal():
            return as_integer(f"{value}")
        case bytes():
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                raise NotTextError("bytes that are not UTF-8") from None
        case list() | dict():
            raise NotTextError("a list" if isinstance(value, list) else "an object")
    return f"{value}"  # dates and times


def as_integer(text: str) -> str:
    """Write a whole number, such as 42.0, as an integer; leave any other text as it is."""
    number = WHOLE_NUMBER.fullmatch(text)
    return number[1] if number else text


def read_records(file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Read the records of a table, each with the line where it begins, in Parquet its row, from 1.

    What is no record goes to `faults`; without a line if the rest cannot be used either.
    """
    match file.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from ((line, record) for line, record, _ in read_json_lines(file, faults))
        case ".csv" | ".tsv":
            yield from _read_csv(file, faults)
        case ".parquet":
            yield from _read_parquet(file, faults)
        case suffix:
            what = f"a table cannot be a {suffix or 'file without a suffix'}"
            unknown = Fault(file, None, what, "give .csv, .tsv, .jsonl or .parquet")
            faults.append(find_form_fault(file) or unknown)


def read_texts(file: Path) -> list[str]:
    """Read the `text` field of every line of a JSONL file; blank lines are passed over.

    Raises:
        DataError: with every fault of the file: it is missing, or a line is not UTF-8, not JSON,
            not an object, or has no text.
    """
    texts: list[str] = []
    faults: list[Fault] = []
    for number, record, _ in read_json_lines(file, faults):
        text = record.get("text")
        if isinstance(text, str) and text.strip():
            texts.append(text)
        else:
            what, mend = "no text in the field text", 'write {"text": "..."}, or delete the line'
            faults.append(Fault(file, number, what, mend))
    if not texts and not faults:
        faults.append(Fault(file, None, "holds no text", 'write {"text": ...} a line'))
    if faults:
        raise DataError(faults)
    return texts


def read_json_lines(file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record, str]]:
    """Read the objects of a JSONL file, each with its line's number and text.

    Lines that hold none go to `faults`.
    """
    for number, line in read_lines(file, faults):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(file, number, f"the line is not JSON ({error})", NOT_OBJECT))
            continue
        if not isinstance(record, dict):
            faults.append(Fault(file, number, "the line is not a JSON object", NOT_OBJECT))
        elif "\\ud" in line.lower() and SURROGATE.search(json.dumps(record, ensure_ascii=False)):
            what = "the line holds half a character (a lone surrogate)"
            faults.append(Fault(file, number, what, "write the whole character"))
        else:
            yield number, record, line


def read_lines(file: Path, faults: list[Fault]) -> Iterator[tuple[int, str]]:
    """Read the lines of a text file, from 1, whatever ends them, without a byte order mark.

    UTF-8, or UTF-16 with its mark. A line that is neither goes to `faults`, and is given as a blank
    one; a file that is missing, or known to be no text, goes there as a whole.
    """
    if fault := find_form_fault(file):
        faults.append(fault)
        return
    with file.open("rb") as stream:
        is_utf16 = stream.read(2) in (b"\xff\xfe", b"\xfe\xff")
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    errors = "strict" if is_utf16 else "surrogateescape"
    characters = 0
    with (
        file.open(encoding=encoding, errors=errors, newline="") as lines,
        progress_bar(f"reading {file.name}", file.stat().st_size // 1_000, unit="kB") as advance,
    ):
        try:
            for number, line in enumerate(lines, 1):
                if not line.isascii() and SURROGATE.search(line):
                    faults.append(Fault(file, number, *NOT_UTF8))
                    line = "\n"
                yield number, line
                characters += len(line)
                if characters > 1_000_000:
                    advance(characters // 1_000)
                    characters = 0
        except UnicodeDecodeError as error:
            faults.append(Fault(file, None, f"not UTF-16 ({error.reason})", NOT_UTF8[1]))


def find_form_fault(file: Path) -> Fault | None:
    """Find why a file cannot be read as a whole: it is not there, or of a form that is not read."""
    if not file.is_file():
        what = "a folder, not a file" if file.is_dir() else "missing"
        return Fault(file, None, what, "put the file there, or check the path")
    with file.open("rb") as stream:
        start = stream.read(4_096)
    suffix = file.suffix.lower()
    for beginning, what, mend in FORMS:
        if re.match(beginning, start.lower()) and (what, suffix) != ("a Parquet file", ".parquet"):
            return Fault(file, None, what, mend)
    if suffix in (".json", *JSON_LINES) and MANY_LINES.match(start):
        what = "JSON, but not one object a line"
        return Fault(file, None, what, "write it as JSONL: `jq -c '.[]' FILE > FILE.jsonl`")
    return None


def _read_csv(file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Read a table with a separator: the tab in .tsv, else what the header has most of.

    Rows of empty cells, and Excel's first line `sep=;`, are passed over. A column whose name
    stands several times, as trackers export it, holds lists; one without a name is not read.
    """
    known = len(faults)
    lines = (line for _, line in read_lines(file, faults))
    header, skipped = next(lines, None), 0
    separator = "\t" if file.suffix.lower() == ".tsv" else ""
    if header and (given := re.fullmatch(r'"?sep=(.)"?\s*', header, re.IGNORECASE)):
        separator, header, skipped = given[1], next(lines, None), 1
    if header is None:
        if len(faults) == known:
            faults.append(Fault(file, None, "the file is empty", "check the file"))
        return
    separator = separator or max(",;\t|", key=re.sub('"[^"]*"', "", header).count)
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    rows = csv.reader(chain([header], lines), delimiter=separator, strict=True)
    begins = skipped + 1
    try:
        names = [name.strip() for name in next(rows)]
        repeated = {name for name in names if names.count(name) > 1}
        needed = max((i for i, n in enumerate(names) if n and n not in repeated), default=0)
        begins = skipped + rows.line_num + 1
        for row in rows:
            if any(cell.strip() for cell in row):
                if len(row) <= needed or any(map(str.strip, row[len(names) :])):
                    what = f"{len(row)} fields, but the header has {len(names)}"
                    mend = "write all columns, and quotes around fields with a separator"
                    faults.append(Fault(file, begins, what, mend))
                else:
                    cells = [(n, cell) for n, cell in zip(names, row, strict=False) if n]
                    lists = {name: [c for n, c in cells if n == name and c] for name in repeated}
                    yield begins, {**dict(cells), **lists}
            begins = skipped + rows.line_num + 1
    except csv.Error as error:
        what = f"the record that begins in line {begins} cannot be read ({error})"
        faults.append(Fault(file, None, what, "close quotes, and double those inside a field"))


def _read_parquet(file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    if fault := find_form_fault(file):
        faults.append(fault)
        return
    try:
        frame = pl.read_parquet(file, glob=False)
    except pl.exceptions.PolarsError as error:
        what = f"not readable as Parquet ({str(error).splitlines()[0]})"
        faults.append(Fault(file, None, what, "check the file"))
        return
    yield from enumerate(frame.iter_rows(named=True), 1)
