"""Every fault of a data set, found line by line: what is wrong, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twinrank.data import files
from twinrank.data.lines import BOM, byte_lines, json_lines
from twinrank.errors import Fault

Lines = dict[str, int]  # id -> the line it first stands on


def find_faults(path: Path) -> list[Fault]:
    """All faults of all files of a data set in BEIR's layout, in the order of files and lines."""
    if not path.is_dir():
        return [Fault(path, None, "no such folder", "check the path")]
    faults: list[Fault] = []
    qrels = files.qrels_files(path).values()
    for file in (path / files.ANSWERS, path / files.QUERIES, *qrels):
        _check_byte_order_mark(file, faults)
    answers = _check_answers(path / files.ANSWERS, faults)
    queries, threads = _check_queries(path / files.QUERIES, faults)
    if files.twice_the_validation(path):
        file = path / "qrels" / "dev.tsv"
        faults.append(Fault(file, None, "validation.tsv is there too", "delete one of the two"))
    seen: dict[str, tuple[Path, int]] = {}
    for file in qrels:
        _check_qrels(file, answers, queries, threads, seen, faults)
    return faults


def _check_answers(file: Path, faults: list[Fault]) -> Lines:
    lines: Lines = {}
    for number, row in json_lines(file, faults):
        _check_id(file, number, row, lines, faults)
        for name in ("title", "text"):
            _check_text(file, number, row, name, faults)
        if not any(str(row.get(name) or "").strip() for name in ("title", "text")):
            mend = "give the answer a title or a text, or delete the line"
            faults.append(Fault(file, number, "neither title nor text", mend))
        metadata = _metadata(file, number, row, faults)
        _check_text(file, number, metadata, "url", faults)
        sections = metadata.get("sections") or []
        if not isinstance(sections, list) or not all(isinstance(s, dict) for s in sections):
            mend = 'write a list of {"title": ..., "text": ...}'
            faults.append(Fault(file, number, "metadata.sections is no list of objects", mend))
            continue
        for section in sections:
            for name in ("title", "text"):
                _check_text(file, number, section, name, faults)
    if not lines and file.is_file() and not any(fault.file == file for fault in faults):
        faults.append(Fault(file, None, "holds no answer", "write one JSON object a line"))
    return lines


def _check_queries(file: Path, faults: list[Fault]) -> tuple[Lines, dict[str, str]]:
    lines: Lines = {}
    threads: dict[str, str] = {}
    for number, row in json_lines(file, faults):
        query = _check_id(file, number, row, lines, faults)
        if _check_text(file, number, row, "text", faults):
            text = row.get("text")
            if text is None or not str(text).strip():
                mend = "write what was asked, or delete the line and its labels"
                faults.append(Fault(file, number, "empty or missing text", mend))
        metadata = _metadata(file, number, row, faults)
        for name in ("type", "thread"):
            given = metadata.get(name)
            is_text = _check_text(file, number, metadata, name, faults)
            if is_text and given is not None and not str(given).strip():
                mend = "write one, or leave the field out"
                faults.append(Fault(file, number, f"empty metadata.{name}", mend))
        if query is not None:
            thread = metadata.get("thread")
            threads.setdefault(query, query if thread is None else str(thread))
    return lines, threads


def _check_qrels(
    file: Path,
    answers: Lines,
    queries: Lines,
    threads: dict[str, str],
    seen: dict[str, tuple[Path, int]],
    faults: list[Fault],
) -> None:
    """`seen` says where a thread was first judged: no thread may be in two splits."""
    header = "\t".join(files.QREL_FIELDS)
    pairs: dict[tuple[str, str], int] = {}
    labels = 0
    before = len(faults)
    for number, line in _text_lines(file, faults):
        cells = line.split("\t")
        if number == 1:
            if line != header:
                columns = ", ".join(files.QREL_FIELDS)
                mend = f"begin the file with the columns {columns}, tabs between"
                faults.append(Fault(file, 1, "no header", mend))
            continue
        if len(cells) != 3:
            mend = "write query-id, corpus-id and score, tabs between"
            faults.append(Fault(file, number, f"{len(cells)} columns instead of 3", mend))
            continue
        query, answer, score = cells
        if not score.removeprefix("-").isascii() or not score.removeprefix("-").isdigit():
            faults.append(Fault(file, number, f"score {score!r} is no whole number", "write 1"))
        else:
            labels += int(score) > 0
        for what, given, known, home in (
            ("query", query, queries, files.QUERIES),
            ("answer", answer, answers, files.ANSWERS),
        ):
            if given not in known:
                mend = f"correct the id, or add the {what} to {home}"
                faults.append(Fault(file, number, f"unknown {what} id {given!r}", mend))
        first = pairs.setdefault((query, answer), number)
        if first != number:
            faults.append(Fault(file, number, f"the same pair as line {first}", "delete one"))
        _check_leak(file, number, threads.get(query), seen, faults)
    if not labels and len(faults) == before:
        mend = "label some queries, or delete the file"
        faults.append(Fault(file, None, "holds no label with a score above zero", mend))


def _check_leak(
    file: Path,
    number: int,
    thread: str | None,
    seen: dict[str, tuple[Path, int]],
    faults: list[Fault],
) -> None:
    if thread is None:
        return
    other, line = seen.setdefault(thread, (file, number))
    if other != file:
        what = f"thread {thread!r} is judged in another split too ({other.name}:{line})"
        mend = "keep a thread in one split, as `twinrank split` does"
        faults.append(Fault(file, number, what, mend))


def _text_lines(file: Path, faults: list[Fault]) -> Iterator[tuple[int, str]]:
    for number, raw in byte_lines(file, faults):
        try:
            line = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            faults.append(Fault(file, number, "the line is not UTF-8", "save the file as UTF-8"))
            continue
        if line or number == 1:
            yield number, line


def _check_byte_order_mark(file: Path, faults: list[Fault]) -> None:
    if file.is_file():
        with file.open("rb") as stream:
            if stream.read(len(BOM)) == BOM:
                what = "starts with a byte order mark"
                faults.append(Fault(file, 1, what, "save the file as UTF-8 without one"))


def _check_id(
    file: Path, number: int, row: dict[str, Any], lines: Lines, faults: list[Fault]
) -> str | None:
    if not _check_text(file, number, row, "_id", faults):
        return None
    given = row.get("_id")
    if given is None or not str(given).strip():
        faults.append(Fault(file, number, "empty or missing _id", "give the line an id of its own"))
        return None
    first = lines.setdefault(str(given), number)
    if first != number:
        what = f"id {str(given)!r} stands on line {first} already"
        faults.append(Fault(file, number, what, "rename or delete one of the two"))
    return str(given)


def _check_text(
    file: Path, number: int, row: dict[str, Any], name: str, faults: list[Fault]
) -> bool:
    """True if a field is text, a number or absent."""
    if isinstance(row.get(name), list | dict):
        what = f"{name} is a JSON {_kind(row[name])}, not text"
        faults.append(Fault(file, number, what, "write it as one string"))
        return False
    return True


def _metadata(file: Path, number: int, row: dict[str, Any], faults: list[Fault]) -> dict[str, Any]:
    metadata = row.get("metadata")
    if metadata is None or isinstance(metadata, dict):
        return metadata or {}
    what = f"metadata is a JSON {_kind(metadata)}, not an object"
    faults.append(Fault(file, number, what, 'write {"type": ..., "thread": ...}, or leave it out'))
    return {}


def _kind(value: object) -> str:
    names = {list: "array", dict: "object", str: "string", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "number")
