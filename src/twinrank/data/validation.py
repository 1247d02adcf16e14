"""What a record must be, whatever file it comes from; what is wrong is named by its line."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from twinrank.data.records import NotTextError, Record, as_integer, as_text
from twinrank.errors import Fault

Numbered = Iterable[tuple[int, Record]]

DEFAULT_TYPE = "query"
SECTIONS = pl.List(pl.Struct({"title": pl.String, "text": pl.String}))
ANSWERS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "line": pl.Int64(),
    **dict.fromkeys(("id", "title", "text", "url"), pl.String()),
    "sections": SECTIONS,
}
QUERIES_SCHEMA = {"line": pl.Int64, **dict.fromkeys(("id", "type", "thread", "text"), pl.String)}
JUDGEMENTS_SCHEMA = {
    **dict.fromkeys(("query", "answer"), pl.String),
    "score": pl.Float64,
    "split": pl.String,
    "is_known": pl.Boolean,
}
BLANK_OR_QUOTE = f'{string.whitespace}\xa0"'
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
SCORES = {"true": "1", "false": "0"}
LARGEST_SCORE = 1e9
REPEATED = "repeated rows left out"
FOLLOWS = "judgements of rows that are left out, left out too"
NAMES_FOR = {  # a field, and what other tools call it
    "_id": ("id", "doc_id", "docid", "query_id", "pid", "qid"),
    "text": ("query", "question", "contents", "content", "body"),
}


@dataclass
class Ids:
    """The ids that one file gives, to be looked up by those that refer to them.

    Attributes:
        kind: `answer` or `query`.
        file: that gives them.
        lines: where each was given first; those of rows that are left out too.
        left_out: the ids of these.
        is_whole: false if a line could not be read, so that an unknown id may stand there.
    """

    kind: str
    file: Path
    lines: dict[str, int] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    is_whole: bool = True

    def find(self, given: str) -> str | None:
        """Find an id as it is given; else the one that differs in form alone, if there is one."""
        form = simplify_id(given)
        return next((n for n in (given, form) if n in self.lines), None) or self._forms.get(form)

    @cached_property
    def _forms(self) -> dict[str, str | None]:
        forms: dict[str, str | None] = {}
        for name in self.lines:
            form = simplify_id(name)
            forms[form] = None if form in forms else name
        return forms


def simplify_id(given: str) -> str:
    """Leave out of an id what differs by the program that wrote it.

    That is the normal form of Unicode, invisible characters, blanks and quotes around it, and the
    `.0` that a column of integers with gaps gets.
    """
    visible = "".join(c for c in given if unicodedata.category(c) != "Cf").strip(BLANK_OR_QUOTE)
    return as_integer(visible) or unicodedata.normalize("NFC", visible)


class Judgement(NamedTuple):
    """One row that says how right an answer is for a query, as it was read."""

    line: int
    query: object
    answer: object
    score: object
    split: str


def check_answers(records: Numbered, file: Path, faults: list[Fault]) -> tuple[pl.DataFrame, Ids]:
    """Read answers from records as BEIR has them: line, id, title, text, url, sections."""
    table = _Table(Ids("answer", file), faults)
    for line, record in records:
        row = _Row(file, line, record, faults)
        name, title, text = row.read_id(), row.read("title"), row.read("text")
        metadata = row.open("metadata")
        url, sections = metadata.read("url") or None, metadata.read_sections()
        if not (title.strip() or text.strip() or row.is_faulty or metadata.is_faulty):
            what = f"neither title nor text{_hint(record, 'text')}"
            mend = "give the answer a title or a text, or delete it"
            row.add(what, mend, "answers without title and text left out")
        cells = {"line": line, "id": name, "title": title, "text": text}
        cells |= {"url": url, "sections": sections}
        table.add(cells, row, is_faulty=row.is_faulty or metadata.is_faulty)
    return pl.DataFrame(table.rows, schema=ANSWERS_SCHEMA), table.ids


def check_queries(
    records: Numbered, file: Path, faults: list[Fault], *, needs_type: bool = False
) -> tuple[pl.DataFrame, Ids]:
    """Read queries from records as BEIR has them: line, id, type, thread, text."""
    table = _Table(Ids("query", file), faults)
    for line, record in records:
        row = _Row(file, line, record, faults)
        name, text = row.read_id(), row.read("text")
        if not text.strip() and not row.is_faulty:
            mend = "write what was asked, or delete the query and its labels"
            what = f"empty or missing text{_hint(record, 'text')}"
            row.add(what, mend, "queries without a text left out")
        metadata = row.open("metadata")
        kind, thread = metadata.read_name("type"), metadata.read_name("thread")
        if needs_type and not kind and not metadata.is_faulty:
            row.add("no type, though others have one", "give it one")
        thread = (as_integer(thread) if "." in thread else None) or thread or name
        cells = {"line": line, "id": name, "type": kind or DEFAULT_TYPE, "thread": thread}
        table.add({**cells, "text": text}, row, is_faulty=row.is_faulty or metadata.is_faulty)
    return pl.DataFrame(table.rows, schema=QUERIES_SCHEMA), table.ids


def check_judgements(
    rows: Iterable[Judgement],
    file: Path,
    queries: tuple[Ids, dict[str, str]],
    answers: Ids,
    threads: dict[str, tuple[Path, int, str]],
    faults: list[Fault],
) -> list[tuple[str, str, float, str, bool]]:
    """Read judgements: query, answer, score, split, and whether both are known.

    Args:
        rows: of one file.
        file: that they stand in.
        queries: their ids, and the thread of each.
        answers: their ids.
        threads: where each was judged first; no thread may be in two splits. Added to.
        faults: added to.
    """
    ids, thread_of = queries
    pairs: dict[tuple[str, str], tuple[int, float]] = {}
    judged = []
    for given in rows:
        row = _Row(file, given.line, given._asdict(), faults)
        named = {kind: row.read(kind).strip() for kind in ("query", "answer")}
        for kind, article in (("query", "a"), ("answer", "an")):
            if not named[kind] and not row.is_faulty:
                row.add(f"a label without {article} {kind}", "give its id")
        score = row.read_score()
        if row.is_faulty:
            continue
        query, answer = (_look_up(each, named[each.kind], row) for each in (ids, answers))
        line, before = pairs.setdefault((query, answer), (given.line, score))
        if line != given.line:
            what = f"{query} and {answer} are judged in line {line} already"
            if before != score:
                row.add(f"{what}, {before:g} there and {score:g} here", "delete one of the two")
            else:
                row.add(what, "delete one of the two", "repeated judgements left out")
            continue
        thread = thread_of.get(query)
        if thread is not None:
            other, first, split = threads.setdefault(thread, (file, given.line, given.split))
            if split != given.split:
                what = f"thread {thread!r} is judged in another split too ({other.name}:{first})"
                row.add(what, "keep a thread in one split, as `twinrank split` does")
                continue
        judged.append((query, answer, score, given.split, not row.is_faulty))
    return judged


def say_outcomes(faults: Sequence[Fault]) -> list[str]:
    """Say what happened to what could not be used, a line for each kind in each file."""
    kinds: dict[tuple[Path, str], list[Fault]] = {}
    for fault in faults:
        kinds.setdefault((fault.file, fault.outcome), []).append(fault)
    return [
        f"{file}: {outcome}"
        + (f": {len(alike):,}, the first in line {alike[0].line}" if alike[0].line else "")
        for (file, outcome), alike in kinds.items()
    ]


def _look_up(ids: Ids, given: str, row: _Row) -> str:
    """Give the id that is meant; say if none is, unless what would give it is wrong itself."""
    name = ids.find(given)
    if name is None and ids.is_whole:
        what = f"unknown {ids.kind} id {given!r}"
        mend = f"correct the id, or add the {ids.kind} to {ids.file}"
        row.add(what, mend, f"judgements of unknown {ids.kind} ids left out")
    elif name is None:
        row.is_faulty = True  # it may stand in a line that could not be read
    elif name in ids.left_out:
        row.add(f"{ids.kind} {name!r} is left out", "mend its row", FOLLOWS)
    elif name != given:
        outcome = f"{ids.kind} ids that differ from {ids.file.name} in form alone, as 7.0 from 7"
        row.note(f"{ids.kind} id {given!r} is taken for {name!r}", "write them alike", outcome)
    return name or given


@dataclass
class _Table:
    """The rows of a file that can be used, and the ids of all."""

    ids: Ids
    faults: list[Fault]
    rows: list[dict[str, Any]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def add(self, cells: dict[str, Any], row: _Row, *, is_faulty: bool) -> None:
        """Take a row in, unless it is faulty or its id is taken."""
        name = cells["id"]
        if not name:
            self.ids.is_whole = False
            return
        first = self.ids.lines.setdefault(name, row.line)
        if first != row.line and name in self.places:
            what = f"id {name!r} stands on line {first} already"
            before = self.rows[self.places[name]]
            if all(before[column] == value for column, value in cells.items() if column != "line"):
                row.add(f"{what}, with the same text", "delete one of the two", REPEATED)
            else:
                row.add(what, "rename or delete one of the two")
        elif is_faulty:
            self.ids.left_out.add(name)
        else:
            self.ids.left_out.discard(name)
            self.places[name] = len(self.rows)
            self.rows.append(cells)


class _Row:
    """One record, or an object in it, whose fields are read, and what is wrong with them."""

    def __init__(self, file: Path, line: int, record: Record, faults: list[Fault]) -> None:
        self.file, self.line, self.record = file, line, record
        self.faults, self.is_faulty = faults, False

    def add(self, what: str, mend: str, outcome: str = "") -> None:
        """Name a fault for which the row cannot be used."""
        self.is_faulty = True
        self.faults.append(Fault(self.file, self.line, what, mend, outcome))

    def note(self, what: str, mend: str, outcome: str) -> None:
        """Name a fault with which the row can be used."""
        self.faults.append(Fault(self.file, self.line, what, mend, outcome, loses=False))

    def read(self, name: str) -> str:
        """Read a field as text, an absent one as an empty text."""
        try:
            text = as_text(self.record.get(name)) or ""
        except NotTextError as error:
            self.add(f"{name} is {error}, not text", "write it as one string")
            return ""
        if "\0" in text:
            what = f"{name} holds NUL characters"
            self.note(what, "take them out", "NUL characters taken out of texts")
            text = text.replace("\0", "")
        return text

    def read_name(self, name: str) -> str:
        """Read a field that may be absent, but not empty."""
        text = self.read(name)
        if not text.strip() and self.record.get(name) is not None and not self.is_faulty:
            what, mend = f"empty {name}", "write one, or leave the field out"
            self.note(what, mend, f"empty fields {name} taken as absent")
            return ""
        return text

    def read_id(self) -> str:
        """Read the id; an empty text, and a fault, if there is none."""
        if isinstance(self.record.get("_id"), bool):
            self.add("the id is true or false, not text", "write it as one string")
            return ""
        name = self.read("_id")
        if not name.strip() and not self.is_faulty:
            what = f"empty or missing id{_hint(self.record, '_id')}"
            self.add(what, "give every row an id of its own; in BEIR's layout the field is _id")
        if CONTROL.search(name):
            self.add(f"the id {name!r} holds a tab or a line break", "take it out")
        return name if name.strip() else ""

    def read_score(self) -> float:
        """Read the score of a judgement; what is more than zero is right."""
        given = self.record["score"]
        text = f"{given}".strip(BLANK_OR_QUOTE).lower()
        try:
            score = math.nan if "_" in text else float(SCORES.get(text, text))
        except ValueError:
            score = math.nan
        if not abs(score) <= LARGEST_SCORE:
            what = f"score {text[:40]!r} is no number that can be a grade"
            self.add(what, "write 1 for a right answer, 0 for a wrong one")
        return score

    def open(self, name: str) -> _Row:
        """Open an object in the record."""
        value = self.record.get(name)
        if value is not None and not isinstance(value, dict):
            what = f"{name} is a JSON {_kind(value)}, not an object"
            self.add(what, 'write {"type": ..., "thread": ...}, or leave it out')
        inner: Record = value if isinstance(value, dict) else {}
        return _Row(self.file, self.line, inner, self.faults)

    def read_sections(self) -> list[dict[str, str]]:
        """Read a list of sections, each an object with title and text, or a text."""
        given = self.record.get("sections") or []
        if not isinstance(given, list):
            given = [None]
        sections = []
        for part in given:
            cells: Record = {"text": part} if isinstance(part, str) else part
            if not isinstance(cells, dict):
                what = "sections is no list of sections"
                self.add(what, 'write a list of {"title": ..., "text": ...}')
                return []
            section = _Row(self.file, self.line, cells, self.faults)
            text = section.read("text") or section.read("content")
            sections.append({"title": section.read("title"), "text": text})
            self.is_faulty |= section.is_faulty
        return sections


def _hint(record: Record, name: str) -> str:
    """Name the field that another tool would have written instead."""
    other = next((other for other in NAMES_FOR[name] if record.get(other)), None)
    return f", though there is a field {other}" if other else ""


def _kind(value: object) -> str:
    names = {list: "array", dict: "object", str: "string", bool: "true or false"}
    return names.get(type(value), "number")
