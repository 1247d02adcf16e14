"""The one reader of people's files: records of CSV, JSON, Excel and Parquet, by their lines."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import re
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from twinrank.data.text_files import (
    EXCEL,
    PACKINGS,
    UnreadableError,
    find_encoding,
    find_form_fault,
    open_unpacked,
    suffix_of,
)
from twinrank.errors import DataError, Fault, first_line
from twinrank.extras import check_installed
from twinrank.progress import progress_bar

log = logging.getLogger(__name__)

Record = dict[str, Any]

MAX_CELL_CHARACTERS = 2**31 - 1  # the largest limit that csv takes on every system
MAX_EXACT_FLOAT = 2**53  # above it a float does not tell whole numbers apart
WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0*", re.ASCII)
SURROGATE = re.compile("[\ud800-\udfff]")
NOT_UTF8 = ("the line is not UTF-8", "save the file as UTF-8")
NOT_OBJECT = "write an object, {...}, on a line of its own"
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
        case date() | time():
            return value.isoformat()  # 2026-11-27, or 2026-11-27T09:30:00
        case bytes():
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                raise NotTextError("bytes that are not UTF-8") from None
        case list() | dict():
            raise NotTextError("a list" if isinstance(value, list) else "an object")
    return f"{value}"


def as_integer(text: str) -> str:
    """Write a whole number, such as 42.0, as an integer; leave any other text as it is."""
    number = WHOLE_NUMBER.fullmatch(text)
    return number[1] if number else text


def read_records(
    file: Path, faults: list[Fault], *, may_be_old: bool = False
) -> Iterator[tuple[int, Record]]:
    """Read the records of a table, each with the line where it begins, or its row, from 1.

    Text may be packed by gzip or ZIP, and UTF-16. What is no record goes to `faults`; without a
    line if the rest cannot be used either.

    Args:
        file: to read.
        faults: added to.
        may_be_old: text may be in an encoding older than UTF-8.
    """
    match suffix_of(file):
        case ".jsonl" | ".ndjson":
            lines = read_json_lines(file, faults, may_be_old=may_be_old)
            yield from ((line, record) for line, record, _ in lines)
        case ".json":
            yield from _read_json_table(file, faults)
        case ".csv" | ".tsv":
            yield from _read_csv(file, faults, may_be_old)
        case suffix if suffix in (*EXCEL, ".parquet") and file.suffix.lower() not in PACKINGS:
            read = _read_parquet if suffix == ".parquet" else _read_excel
            yield from read(file, faults)
        case suffix:
            what = f"a table cannot be a {suffix or 'file without a suffix'}"
            unknown = Fault(file, None, what, "give .csv, .tsv, .json, .jsonl, .xlsx or .parquet")
            faults.append(find_form_fault(file) or unknown)


def read_values(file: Path, faults: list[Fault]) -> Iterator[Any]:
    """Read the values of a JSON file: the whole of it, or of JSONL each line."""
    encoding = (
        "" if suffix_of(file) in JSON_LINES else _find_encoding(file, faults, may_be_old=True)
    )
    if encoding is None:
        return
    try:
        if encoding:
            with open_unpacked(file) as stream:
                yield _parse_json(file, stream.read().decode(encoding))
            return
    except (UnreadableError, ValueError, RecursionError) as error:
        if not f"{error}".startswith("Extra data"):  # as JSONL has it, a line after the other
            faults.append(Fault(file, None, f"not readable as JSON ({error})", "export it anew"))
            return
    yield from (record for _, record, _ in read_json_lines(file, faults, may_be_old=True))


def _parse_json(file: Path, text: str) -> Any:  # noqa: ANN401 (whatever a file holds)
    """Read JSON, without the halves of characters that a lone surrogate is."""
    value = json.loads(text)
    if "\\ud" in text.lower():
        whole = json.dumps(value, ensure_ascii=False)
        if SURROGATE.search(whole):
            log.warning("%s: halves of characters (lone surrogates) are question marks now", file)
            return json.loads(SURROGATE.sub("?", whole))
    return value


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


def read_json_lines(
    file: Path, faults: list[Fault], *, may_be_old: bool = False
) -> Iterator[tuple[int, Record, str]]:
    """Read the objects of a JSONL file, each with its line's number and text.

    Lines that hold none go to `faults`; a file that is one array goes there as a whole.
    """
    if not find_form_fault(file):
        with open_unpacked(file) as stream:
            is_array = bool(MANY_LINES.match(stream.read(4_096)))
        if is_array:
            mend = "write it as JSONL: `jq -c '.[]' FILE > FILE.jsonl`; `import` reads it as .json"
            faults.append(Fault(file, None, "JSON, but not one object a line", mend))
            return
    for number, line in read_lines(file, faults, may_be_old=may_be_old):
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


def read_lines(
    file: Path, faults: list[Fault], *, may_be_old: bool = False
) -> Iterator[tuple[int, str]]:
    """Read the lines of a text file, from 1, whatever ends them, without a byte order mark.

    A line that is not in the file's encoding goes to `faults`, and is given as a blank one; a file
    that is missing, or known to be no text, goes there as a whole. An encoding older than UTF-8,
    and NUL characters, which are left out, are logged.
    """
    encoding = _find_encoding(file, faults, may_be_old=may_be_old)
    if encoding is None:
        return
    errors = "strict" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    is_packed = file.suffix.lower() in PACKINGS
    size = 0 if is_packed else file.stat().st_size // 1_000
    characters, nuls = 0, 0
    with (
        open_unpacked(file) as stream,
        io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="") as lines,
        progress_bar(f"reading {file.name}", size, unit="kB") as advance,
    ):
        try:
            for number, line in enumerate(lines, 1):
                if not line.isascii() and SURROGATE.search(line):
                    faults.append(Fault(file, number, *NOT_UTF8))
                    line = "\n"
                if "\0" in line:
                    line, nuls = line.replace("\0", ""), nuls or number
                yield number, line
                characters += len(line)
                if characters > 1_000_000:
                    advance(characters // 1_000)
                    characters = 0
        except UnicodeDecodeError as error:
            faults.append(
                Fault(file, None, f"not {encoding.upper()} ({error.reason})", NOT_UTF8[1])
            )
    if nuls:
        log.warning("%s: NUL characters left out, the first in line %d", file, nuls)


def _find_encoding(file: Path, faults: list[Fault], *, may_be_old: bool) -> str | None:
    """Find a text file's encoding, and log one that is older than UTF-8; none if it is no text."""
    fault = find_form_fault(file)
    try:
        encoding = None if fault else find_encoding(file, may_be_old=may_be_old)
    except UnreadableError as error:
        encoding, fault = None, Fault(file, None, f"{error}", "pack it anew, or give what it holds")
    if fault:
        faults.append(fault)
    elif encoding and not encoding.startswith("utf"):
        log.warning("%s: read as %s, since it is not UTF-8", file, encoding)
    return encoding


def _read_csv(file: Path, faults: list[Fault], may_be_old: bool) -> Iterator[tuple[int, Record]]:
    """Read a table with a separator: the tab in .tsv, else what the header has most of.

    Rows of empty cells, and Excel's first line `sep=;`, are passed over. A column whose name
    stands several times, as trackers export it, holds lists; one without a name is not read.
    """
    known = len(faults)
    lines = (line for _, line in read_lines(file, faults, may_be_old=may_be_old))
    header, skipped = next(lines, None), 0
    separator = "\t" if suffix_of(file) == ".tsv" else ""
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


def _read_json_table(file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Read the objects of an array, of the one array in an object, or one a line."""
    rows = 0
    for value in read_values(file, faults):
        lists = [v for v in value.values() if _is_rows(v)] if isinstance(value, dict) else [value]
        for record in lists[0] if len(lists) == 1 and isinstance(lists[0], list) else [value]:
            rows += 1
            if isinstance(record, dict):
                yield rows, record
            else:
                faults.append(Fault(file, rows, "not a JSON object", "write a list of objects"))


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _read_excel(file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Read the first sheet that holds anything; rows are counted as Excel shows them."""
    check_installed("Excel tables", "helpdesk", "fastexcel")
    import fastexcel

    if not file.is_file():
        faults.append(find_form_fault(file) or Fault(file, None, "no file", "check the path"))
        return
    logging.getLogger("fastexcel").setLevel(logging.ERROR)  # of a column without values
    try:
        book = fastexcel.read_excel(file)
        names = book.sheet_names
        frame = book.load_sheet(0).to_polars()
    except (fastexcel.FastExcelError, ValueError) as error:
        what = f"not readable as Excel ({first_line(error)})"
        faults.append(Fault(file, None, what, "check the file, or save it as CSV UTF-8"))
        return
    if len(names) > 1:
        log.warning("%s: the first sheet is read, %s, not %s", file, names[0], ", ".join(names[1:]))
    for row, record in enumerate(frame.iter_rows(named=True), 2):
        if any(value is not None and f"{value}".strip() for value in record.values()):
            yield row, {name: _as_day(value) for name, value in record.items()}


def _as_day(value: object) -> object:
    """Make a date of a time at midnight: Excel has no other dates."""
    return value.date() if isinstance(value, datetime) and value.time() == time() else value


def _read_parquet(file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    fault = find_form_fault(file)
    if fault and not fault.what.startswith("a Parquet"):
        faults.append(fault)
        return
    try:
        frame = pl.read_parquet(file, glob=False)
    except pl.exceptions.PolarsError as error:
        what = f"not readable as Parquet ({first_line(error)})"
        faults.append(Fault(file, None, what, "check the file"))
        return
    yield from enumerate(frame.iter_rows(named=True), 1)
