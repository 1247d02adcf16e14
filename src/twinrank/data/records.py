"""The one reader of people's files: records of JSONL, CSV, TSV and Parquet, by their lines."""

from __future__ import annotations

import csv
import json
import logging
import math
import re
from collections.abc import Callable, Iterator
from datetime import date, time
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from twinrank.errors import DataError, Fault
from twinrank.progress import progress_bar

log = logging.getLogger(__name__)

Record = dict[str, Any]
IsWanted = Callable[[str], bool]

MAX_CELL_CHARACTERS = 2**31 - 1  # the largest limit that csv takes on every system
MAX_EXACT_FLOAT = 2**53  # above it a float does not tell whole numbers apart
FLOAT_SHAPE = re.compile(r"[+-]?\d{1,18}(\.\d*)?([eE][+-]?\d{1,2})?", re.ASCII)
TREC_LINE = re.compile(r"\S+[ \t]+(0|Q0)[ \t]+\S+[ \t]+-?\d+(\.\d+)?\s*", re.ASCII)
SURROGATE = re.compile("[\ud800-\udfff]")
NOT_UTF8 = ("the line is not UTF-8", "save the file as UTF-8")
NOT_OBJECT = "write an object, {...}, on a line of its own"
FORMS = (  # how a file begins, in lower case; what it is; the mend
    (b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    (b"pk\x03\x04", "a ZIP archive, as Excel's files are", "unpack it, or save it as CSV UTF-8"),
    (b"par1", "a Parquet file", "name it .parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file", "save it as CSV UTF-8"),
    (b"bzh91ay&sy", "compressed by bzip2", "unpack it"),
    (b"\xfd7zxz\x00", "compressed by xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it"),
    (b"arrow1", "an Arrow or Feather file", "save it as Parquet"),
    (b"%pdf", "a PDF", "export its table as CSV UTF-8"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (b"<!doctype html", "an HTML page", "download the file itself"),
    (b"<html", "an HTML page", "download the file itself"),
    (b"sqlite format 3", "an SQLite database", "export its tables as CSV"),
)


class NotTextError(ValueError):
    """A value that cannot be read as one text."""


class JsonNumber(str):
    """A number of a JSON file with a point or an exponent, as it is written there."""


def as_text(value: object) -> str | None:
    """Read a value as text: 12.0 as 12, since integers with gaps come as floats; NaN as none.

    Raises:
        NotTextError: for lists, objects and bytes that are not UTF-8.
    """
    match value:
        case None:
            return None
        case JsonNumber():
            return as_integer(value) or str(value)
        case str():
            return value
        case bool():
            return f"{value}".lower()
        case float() if math.isnan(value):
            return None
        case float() if abs(value) > MAX_EXACT_FLOAT:
            raise NotTextError("a number beyond what a float holds exactly")
        case int() | float() | Decimal():
            return as_integer(f"{value}") or f"{value}"
        case bytes():
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                raise NotTextError("bytes that are not UTF-8") from None
        case date() | time():
            return value.isoformat()
        case list() | dict():
            raise NotTextError("a JSON array" if isinstance(value, list) else "a JSON object")
    raise NotTextError(f"a {type(value).__name__}")


def as_integer(text: str) -> str | None:
    """Read a text in the shape of a number that is whole, such as 42.0 or 4.2e1, as an integer."""
    if not FLOAT_SHAPE.fullmatch(text):
        return None
    number = Decimal(text)
    return f"{int(number)}" if number == int(number) else None


def read_records(
    file: Path, faults: list[Fault], is_wanted: IsWanted
) -> Iterator[tuple[int, Record]]:
    """Read the records of a table, each with the line where it begins, in Parquet its row, from 1.

    What is no record goes to `faults`; without a line if the rest cannot be used either. Columns
    of a CSV that are not wanted may be broken: unnamed, repeated, or missing at the end of a row.
    """
    match file.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from ((line, record) for line, record, _ in read_json_lines(file, faults))
        case ".csv" | ".tsv":
            yield from _read_csv(file, faults, is_wanted)
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
        if text is None:
            faults.append(Fault(file, number, "the field text is missing", 'add "text": "..."'))
        elif not isinstance(text, str):
            what = f"text is {json.dumps(text)[:40]}, not a string"
            faults.append(Fault(file, number, what, "put it in quotes"))
        elif not text.strip():
            faults.append(Fault(file, number, "text is empty", "write one or delete the line"))
        else:
            texts.append(text)
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
        if not line.isascii() and SURROGATE.search(line):
            faults.append(Fault(file, number, *NOT_UTF8))
            continue
        try:
            record = DECODER.decode(line)
            if "\\u" in line:  # only an escape can spell half a character
                json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            what = "the line holds half a character (a lone surrogate)"
            faults.append(Fault(file, number, what, "write the whole character"))
        except (ValueError, RecursionError) as error:
            faults.append(Fault(file, number, f"the line is not JSON ({error})", NOT_OBJECT))
        else:
            if isinstance(record, dict):
                yield number, record, line
            else:
                faults.append(Fault(file, number, "the line is not a JSON object", NOT_OBJECT))


def read_lines(file: Path, faults: list[Fault]) -> Iterator[tuple[int, str]]:
    """Read the lines of a text file, from 1, whatever ends them, without a byte order mark.

    UTF-8, or UTF-16 with its mark, which is logged; a byte that is neither becomes a surrogate. A
    file that is missing, or known to be no text, goes to `faults` whole.
    """
    if fault := find_form_fault(file):
        faults.append(fault)
        return
    is_utf16 = _read_start(file)[:2] in (b"\xff\xfe", b"\xfe\xff")
    if is_utf16:
        log.info("%s: read as UTF-16", file)
    encoding, errors = ("utf-16", "replace") if is_utf16 else ("utf-8-sig", "surrogateescape")
    with (
        file.open(encoding=encoding, errors=errors, newline="") as lines,
        progress_bar(f"reading {file.name}", file.stat().st_size // 1_000, unit="kB") as advance,
    ):
        characters = 0
        for number, line in enumerate(lines, 1):
            # in UTF-16 too, a surrogate marks what could not be decoded
            yield number, line.replace("\ufffd", "\udcff") if is_utf16 else line
            characters += len(line)
            if characters > 1_000_000:
                advance(characters // 1_000)
                characters %= 1_000


def find_form_fault(file: Path) -> Fault | None:
    """Find why a file cannot be read as a whole: it is not there, or of a form that is not read."""
    return _recognise(file) if file.is_file() else _explain_missing(file)


def _explain_missing(file: Path) -> Fault:
    """Name a file that is not there, or no file, and what stands there under a like name."""
    if file.is_dir():
        return Fault(file, None, "a folder, not a file", "give a file")
    if file.is_symlink() or file.exists():
        what = "no plain file, such as a device" if file.exists() else "a link to what is not there"
        return Fault(file, None, what, "put the file itself there")
    stem = file.name.split(".")[0].lower()
    near = sorted(file.parent.glob("*")) if file.parent.is_dir() else []
    alike = [path.name for path in near if path.name.split(".")[0].lower() == stem]
    if alike:
        what = f"missing, though there is {' and '.join(alike)}"
        return Fault(file, None, what, "unpack, convert or rename it")
    return Fault(file, None, "missing", "put it there, or check the path")


def _recognise(file: Path) -> Fault | None:
    """Name a form that is known by how a file begins, and that cannot be read."""
    start, suffix = _read_start(file), file.suffix.lower()
    for magic, what, mend in FORMS:
        if start.lower().startswith(magic) and (magic, suffix) != (b"par1", ".parquet"):
            return Fault(file, None, what, mend)
    if start[:4] in (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff") or start[:2].count(b"\0") == 1:
        return Fault(file, None, "UTF-16 or UTF-32 text", "save it as UTF-8")
    text = start.decode("utf-8", errors="replace").removeprefix("\ufeff").lstrip()
    if suffix in (".json", ".jsonl", ".ndjson") and re.match(r"\[\s*(\{|\Z)", text):
        what = "one JSON array, not an object a line"
        return Fault(file, None, what, "write it as JSONL: `jq -c '.[]' FILE > FILE.jsonl`")
    first = text.partition("\n")[0]
    if suffix in (".jsonl", ".ndjson") and first.rstrip() == "{":
        what = "JSON with an object over many lines"
        return Fault(file, None, what, "write each on one line: `jq -c . FILE > FILE.jsonl`")
    if TREC_LINE.fullmatch(first):
        what = "TREC's form of judgements (query 0 answer score, without a header)"
        mend = "write the columns query-id, corpus-id and score, with a header and tabs between"
        return Fault(file, None, what, mend)
    return None


def _read_start(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(4_096)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse_repeated_fields(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twin!r} stands in it twice")
    return record


DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_float=JsonNumber,
    object_pairs_hook=_refuse_repeated_fields,
)


def _read_csv(file: Path, faults: list[Fault], is_wanted: IsWanted) -> Iterator[tuple[int, Record]]:
    """Read a table with a separator: the tab in .tsv, else what the header has most of.

    Rows of empty cells, and Excel's first line `sep=;`, are passed over.
    """
    lines = _read_decoded_lines(file, faults)
    header, skipped = next(lines, None), 0
    separator = "\t" if file.suffix.lower() == ".tsv" else ""
    if header and (given := re.fullmatch(r'"?sep=(.)"?\s*', header, re.IGNORECASE)):
        separator, header, skipped = given[1], next(lines, None), 1
    if header is None:
        if not faults or faults[-1].file != file:
            faults.append(Fault(file, None, "the file is empty", "check the file"))
        return
    separator = separator or max(",;\t|", key=re.sub('"[^"]*"', "", header).count)
    limit = csv.field_size_limit(MAX_CELL_CHARACTERS)
    rows = csv.reader(chain([header], lines), delimiter=separator, strict=True)
    begins = skipped + 1
    try:
        names = [name.strip() for name in next(rows)]
        if fault := _find_header_fault(file, names, is_wanted):
            faults.append(fault)
            return
        columns = {i: name for i, name in enumerate(names) if name and names.count(name) == 1}
        needed = max((i for i, name in columns.items() if is_wanted(name)), default=0)
        known, begins = len(faults), skipped + rows.line_num + 1
        for row in rows:
            is_empty = not any(cell.strip() for cell in row)
            if not is_empty and (len(row) <= needed or any(map(str.strip, row[len(names) :]))):
                what = f"{len(row)} fields, but the header has {len(names)}"
                mend = "put quotes around fields with a separator"
                faults.append(Fault(file, begins, what, mend))
            elif not is_empty and len(faults) == known:
                yield begins, {name: row[i] for i, name in columns.items() if i < len(row)}
            known, begins = len(faults), skipped + rows.line_num + 1
    except csv.Error as error:
        what = f"the record that begins in line {begins} cannot be read ({error})"
        faults.append(Fault(file, None, what, "close quotes, and double those inside a field"))
    finally:
        csv.field_size_limit(limit)


def _read_decoded_lines(file: Path, faults: list[Fault]) -> Iterator[str]:
    for number, line in read_lines(file, faults):
        if SURROGATE.search(line):
            faults.append(Fault(file, number, *NOT_UTF8))
        yield line


def _find_header_fault(file: Path, names: list[str], is_wanted: IsWanted) -> Fault | None:
    if not any(names):
        what = "the first line names no column"
        return Fault(file, None, what, "name each column in the first line")
    twice = sorted({name for name in names if names.count(name) > 1 and is_wanted(name)})
    if twice:
        what = f"two columns are called {' and '.join(twice)}"
        return Fault(file, None, what, "rename or delete one of the two")
    return None


def _read_parquet(file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    if fault := find_form_fault(file):
        faults.append(fault)
        return
    try:
        frame = pl.read_parquet(file, glob=False)
    except pl.exceptions.PolarsError as error:
        what = f"not readable as Parquet ({str(error).splitlines()[0]})"
        faults.append(Fault(file, None, what, "check the path and the file"))
        return
    with progress_bar(f"reading {file.name}", frame.height, unit="rows") as advance:
        for number, row in enumerate(frame.iter_rows(named=True), 1):
            yield number, row
            if number % 1_000 == 0:
                advance(1_000)
