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

from twinrank.errors import Fault
from twinrank.progress import progress_bar

log = logging.getLogger(__name__)

Record = dict[str, Any]
Line = tuple[int, str]
IsWanted = Callable[[str], bool]

KILOBYTE = 1_000
MAX_FIELD = 2**31 - 1  # characters; the largest that csv takes on every system
LARGEST_EXACT = 2**53  # of the whole numbers that a float tells from the next
FLOAT_SHAPED = re.compile(r"[+-]?\d{1,18}(\.\d*)?([eE][+-]?\d{1,2})?", re.ASCII)
TREC = re.compile(r"\S+[ \t]+(0|Q0)[ \t]+\S+[ \t]+-?\d+(\.\d+)?\s*", re.ASCII)
SURROGATE = re.compile("[\ud800-\udfff]")
NOT_UTF8 = ("the line is not UTF-8", "save the file as UTF-8")
NOT_OBJECT = "write an object, {...}, on a line of its own"
FORMS = (  # how a file begins, what it is, and the mend
    (b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    (b"PK\x03\x04", "a ZIP archive, as Excel's files are", "unpack it, or save it as CSV UTF-8"),
    (b"PAR1", "a Parquet file", "name it .parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file", "save it as CSV UTF-8"),
    (b"BZh91AY&SY", "compressed by bzip2", "unpack it"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it"),
    (b"ARROW1", "an Arrow or Feather file", "save it as Parquet"),
    (b"%PDF", "a PDF", "export its table as CSV UTF-8"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (b"<!doctype html", "an HTML page", "download the file itself"),
    (b"<html", "an HTML page", "download the file itself"),
    (b"SQLite format 3", "an SQLite database", "export its tables as CSV"),
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
        case float() if abs(value) > LARGEST_EXACT:
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
    if not FLOAT_SHAPED.fullmatch(text):
        return None
    number = Decimal(text)
    return f"{int(number)}" if number == int(number) else None


def read_records(
    file: Path, faults: list[Fault], is_wanted: IsWanted
) -> Iterator[tuple[int, Record]]:
    """Read the records of a table, each with the line where it begins, in Parquet its row, from 1.

    What is no record goes to `faults`; without a line if no other can be used either. Columns of
    a CSV that are not wanted may be broken: unnamed, repeated, or missing at the end of a row.
    """
    match file.suffix.lower():
        case ".jsonl" | ".ndjson":
            for line, record, _ in read_json_lines(file, faults):
                yield line, record
        case ".csv" | ".tsv":
            yield from _read_csv(file, faults, is_wanted)
        case ".parquet":
            yield from _read_parquet(file, faults)
        case suffix:
            if not file.exists():
                faults.append(missing(file))
            elif not (form := recognise(file)):
                what = f"a table cannot be a {suffix or 'file without a suffix'}"
                faults.append(Fault(file, None, what, "give .csv, .tsv, .jsonl or .parquet"))
            else:
                faults.append(form)


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


def read_lines(file: Path, faults: list[Fault]) -> Iterator[Line]:
    """Read the lines of a text file, from 1, whatever ends them, without a byte order mark.

    UTF-8, or UTF-16 with its mark, which is said; a byte that is neither becomes a surrogate. A
    file that is missing, or known to be no text, goes to `faults` whole.
    """
    if fault := (missing(file) if not file.is_file() else recognise(file)):
        faults.append(fault)
        return
    encoding = "utf-16" if _begins(file)[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if encoding == "utf-16":
        log.info("%s: read as UTF-16", file)
    errors = "replace" if encoding == "utf-16" else "surrogateescape"
    size = file.stat().st_size // KILOBYTE
    with (
        file.open(encoding=encoding, errors=errors, newline="") as lines,
        progress_bar(f"reading {file.name}", size, unit="kB") as advance,
    ):
        done = 0
        for number, line in enumerate(lines, 1):
            # what is no UTF-16 is told from other text, as what is no UTF-8 is
            yield number, line.replace("\ufffd", "\udcff") if errors == "replace" else line
            done += len(line)
            if done > 1_000 * KILOBYTE:
                advance(done // KILOBYTE)
                done %= KILOBYTE


def missing(file: Path) -> Fault:
    """Name a file that is not there, or no file, and what stands there under a like name."""
    if file.is_dir():
        return Fault(file, None, "a folder, not a file", "give a file")
    if file.is_symlink() or file.exists():
        what = "no plain file, such as a device" if file.exists() else "a link to what is not there"
        return Fault(file, None, what, "put the file itself there")
    stem = file.name.split(".")[0].lower()
    near = sorted(file.parent.glob("*")) if file.parent.is_dir() else []
    alike = [other.name for other in near if other.name.split(".")[0].lower() == stem]
    if alike:
        what = f"missing, though there is {' and '.join(alike)}"
        return Fault(file, None, what, "unpack, convert or rename it")
    return Fault(file, None, "missing", "put it there, or check the path")


def recognise(file: Path) -> Fault | None:
    """Name a form that is known by how a file begins, and that cannot be read."""
    start = _begins(file)
    for magic, what, mend in FORMS:
        if start.lower().startswith(magic.lower()) and not (
            magic == b"PAR1" and file.suffix.lower() == ".parquet"
        ):
            return Fault(file, None, what, mend)
    if start[:4] in (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff") or start[:2].count(b"\0") == 1:
        return Fault(file, None, "UTF-16 or UTF-32 text", "save it as UTF-8")
    text = start.decode("utf-8", errors="replace").removeprefix("\ufeff").lstrip()
    if file.suffix.lower() in (".json", ".jsonl", ".ndjson") and text.startswith("["):
        rest = text[1:].lstrip()
        if not rest or rest.startswith("{"):
            what = "one JSON array, not an object a line"
            return Fault(file, None, what, "write it as JSONL: `jq -c '.[]' FILE > FILE.jsonl`")
    if file.suffix.lower() in (".jsonl", ".ndjson") and text.split("\n", 1)[0].rstrip() == "{":
        what = "JSON with an object over many lines"
        return Fault(file, None, what, "write each on one line: `jq -c . FILE > FILE.jsonl`")
    if TREC.fullmatch(text.partition("\n")[0]):
        what = "TREC's form of judgements (query 0 answer score, without a header)"
        mend = "write the columns query-id, corpus-id and score, with a header and tabs between"
        return Fault(file, None, what, mend)
    return None


def _begins(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(4_096)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twin!r} stands in it twice")
    return record


DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=JsonNumber, object_pairs_hook=_refuse_twins
)


def _read_csv(file: Path, faults: list[Fault], is_wanted: IsWanted) -> Iterator[tuple[int, Record]]:
    """Read a table with a separator: the tab in .tsv, else what the header has most of.

    Rows of empty cells, and Excel's first line `sep=;`, are passed over.
    """
    lines = _decoded(file, faults)
    header, before = next(lines, None), 0
    separator = "\t" if file.suffix.lower() == ".tsv" else ""
    if header and (given := re.fullmatch(r'"?sep=(.)"?\s*', header, re.IGNORECASE)):
        separator, header, before = given[1], next(lines, None), 1
    if header is None:
        if not faults or faults[-1].file != file:
            faults.append(Fault(file, None, "the file is empty", "check the file"))
        return
    limit = csv.field_size_limit(MAX_FIELD)
    separator = separator or max(",;\t|", key=re.sub('"[^"]*"', "", header).count)
    rows = csv.reader(chain([header], lines), delimiter=separator, strict=True)
    begins = before + 1
    try:
        names = [name.strip() for name in next(rows)]
        columns = {i: name for i, name in enumerate(names) if name and names.count(name) == 1}
        if fault := _header_fault(file, names, is_wanted):
            faults.append(fault)
            return
        needed = max((i for i, name in columns.items() if is_wanted(name)), default=0)
        known, begins = len(faults), before + rows.line_num + 1
        for row in rows:
            is_empty = not any(cell.strip() for cell in row)
            if not is_empty and (len(row) <= needed or any(map(str.strip, row[len(names) :]))):
                what = f"{len(row)} fields, but the header has {len(names)}"
                mend = "put quotes around fields with a separator"
                faults.append(Fault(file, begins, what, mend))
            elif not is_empty and len(faults) == known:
                yield begins, {name: row[i] for i, name in columns.items() if i < len(row)}
            known, begins = len(faults), before + rows.line_num + 1
    except csv.Error as error:
        what = f"the record that begins in line {begins} cannot be read ({error})"
        faults.append(Fault(file, None, what, "close quotes, and double those inside a field"))
    finally:
        csv.field_size_limit(limit)


def _header_fault(file: Path, names: list[str], is_wanted: IsWanted) -> Fault | None:
    if not any(names):
        what = "the first line names no column"
        return Fault(file, None, what, "name each column in the first line")
    twice = sorted({name for name in names if names.count(name) > 1 and is_wanted(name)})
    if twice:
        what = f"two columns are called {' and '.join(twice)}"
        return Fault(file, None, what, "rename or delete one of the two")
    return None


def _decoded(file: Path, faults: list[Fault]) -> Iterator[str]:
    for number, line in read_lines(file, faults):
        if SURROGATE.search(line):
            faults.append(Fault(file, number, *NOT_UTF8))
        yield line


def _read_parquet(file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    if fault := (missing(file) if not file.is_file() else recognise(file)):
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
