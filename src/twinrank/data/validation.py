"""The rules a record must keep, whatever file it comes from; each fault is named by its line."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from twinrank.data.records import NotTextError, Record, as_integer, as_text
from twinrank.errors import Fault

Numbered = Iterable[tuple[int, Record]]  # records by the line where they begin
Judgement = tuple[str, str, float, str, bool]  # as in JUDGEMENTS_SCHEMA

DEFAULT_TYPE = "query"
SECTIONS = pl.List(pl.Struct({"title": pl.String, "text": pl.String}))
ANSWERS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "line": pl.Int64,
    **dict.fromkeys(("id", "title", "text", "url"), pl.String),
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
CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")
SCORES_OF_WORDS = {"true": "1", "false": "0"}
MAX_SCORE = 1e9
REPEATED = "repeated rows left out"
FOLLOWS = "judgements of rows that are left out, left out too"
JSON_KINDS = {list: "array", dict: "object", str: "string", bool: "true or false"}
FOREIGN_NAMES = {  # a field, and what other tools call it
    "_id": ("id", "doc_id", "docid", "query_id", "pid", "qid"),
    "text": ("query", "question", "contents", "content", "body"),
}


@dataclass
class Rows:
    """The rows of one file that can be used, and the ids of all, for those that refer to them.

    Attributes:
        kind: `answer` or `query`.
        file: that they stand in.
        faults: added to.
        lines: where each id was given first, that of a faulty row too.
        usable: cells by id.
        is_whole: false if a line could not be read, so that an unknown id may stand there.
    """

    kind: str
    file: Path
    faults: list[Fault]
    lines: dict[str, int] = field(default_factory=dict)
    usable: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_whole: bool = True

    def add(self, cells: dict[str, Any], *rows: _Row) -> None:
        """Add a row's cells, unless it (or an object in it) is faulty, or its id is taken."""
        name, row = cells["id"], rows[0]
        if not name:
            self.is_whole = False
            return
        first = self.lines.setdefault(name, row.line)
        if first != row.line and name in self.usable:
            what = f"id {name!r} stands on line {first} already"
            if {**self.usable[name], "line": row.line} == cells:
                row.add(f"{what}, with the same text", "delete one of the two", REPEATED)
            else:
                row.add(what, "rename or delete one of the two")
        elif not any(part.is_faulty for part in rows):
            self.usable[name] = cells

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The rows that can be used, in the order of the file; to be asked for once all are in."""
        schema = ANSWERS_SCHEMA if self.kind == "answer" else QUERIES_SCHEMA
        return pl.DataFrame(list(self.usable.values()), schema=schema)

    def find(self, given: str) -> str | None:
        """Find an id as it is given; else the one that differs in form alone, if there is one."""
        if given in self.lines:
            return given
        form = simplify_id(given)
        return form if form in self.lines else self._forms.get(form)

    @cached_property
    def _forms(self) -> dict[str, str | None]:
        forms: dict[str, str | None] = {}
        for name in self.lines:
            form = simplify_id(name)
            forms[form] = None if form in forms else name
        return forms

    def resolve(self, given: str, row: _Row) -> str:
        """Give the id that is meant; name it if none is, unless its row may be one not read."""
        name = self.find(given)
        if name is None and self.is_whole:
            what = f"unknown {self.kind} id {given!r}"
            mend = f"correct the id, or add the {self.kind} to {self.file}"
            row.add(what, mend, f"judgements of unknown {self.kind} ids left out")
        elif name is None:
            row.is_faulty = True
        elif name not in self.usable:
            row.add(f"{self.kind} {name!r} is left out", "mend its row", FOLLOWS)
        elif name != given:
            what = f"{self.kind} id {given!r} is taken for {name!r}"
            outcome = f"{self.kind} ids that differ from {self.file.name} in form alone"
            row.note(what, "write them alike", f"{outcome}, as 7.0 from 7")
        return name or given


def simplify_id(given: str) -> str:
    """Leave out of an id what differs by the program that wrote it.

    That is the normal form of Unicode, invisible characters, blanks and quotes around it, and the
    `.0` that a column of integers with gaps gets.
    """
    visible = "".join(c for c in given if unicodedata.category(c) != "Cf").strip(BLANK_OR_QUOTE)
    return as_integer(visible) or unicodedata.normalize("NFC", visible)


def check_answers(records: Numbered, file: Path, faults: list[Fault]) -> Rows:
    """Read answers from records as BEIR has them, into cells of `ANSWERS_SCHEMA`."""
    answers = Rows("answer", file, faults)
    for line, record in records:
        row = _Row(file, line, record, faults)
        name, title, text = row.read_id(), row.read("title"), row.read("text")
        metadata = row.open("metadata")
        url, sections = metadata.read("url") or None, metadata.read_sections()
        if not (title.strip() or text.strip() or row.is_faulty or metadata.is_faulty):
            what = f"neither title nor text{row.hint('text')}"
            mend = "give the answer a title or a text, or delete it"
            row.add(what, mend, "answers without title and text left out")
        cells = {"line": line, "id": name, "title": title, "text": text, "url": url}
        answers.add({**cells, "sections": sections}, row, metadata)
    return answers


def check_queries(
    records: Numbered, file: Path, faults: list[Fault], *, needs_type: bool = False
) -> Rows:
    """Read queries from records as BEIR has them, into cells of `QUERIES_SCHEMA`."""
    queries = Rows("query", file, faults)
    for line, record in records:
        row = _Row(file, line, record, faults)
        name, text = row.read_id(), row.read("text")
        if not text.strip() and not row.is_faulty:
            mend = "write what was asked, or delete the query and its labels"
            what = f"empty or missing text{row.hint('text')}"
            row.add(what, mend, "queries without a text left out")
        metadata = row.open("metadata")
        kind, thread = metadata.read_name("type"), metadata.read_name("thread")
        if needs_type and not kind and not metadata.is_faulty:
            row.add("no type, though others have one", "give it one")
        thread = (as_integer(thread) if "." in thread else None) or thread or name
        cells = {"line": line, "id": name, "type": kind or DEFAULT_TYPE, "thread": thread}
        queries.add({**cells, "text": text}, row, metadata)
    return queries


def check_judgements(
    records: Numbered,
    file: Path,
    queries: Rows,
    answers: Rows,
    threads: dict[str, tuple[Path, int, str]],
) -> Iterator[Judgement]:
    """Read the judgements of one file; faults go to those of its queries.

    Args:
        records: query, answer, score and split.
        file: that they stand in.
        queries: that they may name, as `answers`.
        answers: see there.
        threads: where each was judged first; no thread may be in two splits. Added to.
    """
    pairs: dict[tuple[str, str], tuple[int, float]] = {}
    for number, record in records:
        row = _Row(file, number, record, queries.faults)
        named = {kind: row.read(kind).strip() for kind in ("query", "answer")}
        for kind, article in (("query", "a"), ("answer", "an")):
            if not named[kind] and not row.is_faulty:
                row.add(f"a label without {article} {kind}", "give its id")
        score, split = row.read_score(), record["split"]
        if row.is_faulty:
            continue
        query, answer = (rows.resolve(named[rows.kind], row) for rows in (queries, answers))
        line, before = pairs.setdefault((query, answer), (number, score))
        if line != number:
            what = f"{query} and {answer} are judged in line {line} already"
            if before != score:
                row.add(f"{what}, {before:g} there and {score:g} here", "delete one of the two")
            else:
                row.add(what, "delete one of the two", "repeated judgements left out")
            continue
        if query in queries.usable:
            thread = queries.usable[query]["thread"]
            source, line, judged_split = threads.setdefault(thread, (file, number, split))
            if judged_split != split:
                what = f"thread {thread!r} is judged in another split too ({source.name}:{line})"
                row.add(what, "keep a thread in one split, as `twinrank split` does")
                continue
        yield query, answer, score, split, not row.is_faulty


def describe_outcomes(faults: Sequence[Fault]) -> list[str]:
    """Say what happened to what could not be used, a line for each kind in each file."""
    kinds: dict[tuple[Path, str], list[Fault]] = {}
    for fault in faults:
        kinds.setdefault((fault.file, fault.outcome), []).append(fault)
    return [
        f"{file}: {outcome}"
        + (f": {len(alike):,}, the first in line {alike[0].line}" if alike[0].line else "")
        for (file, outcome), alike in kinds.items()
    ]


@dataclass
class _Row:
    """One record, or an object in it, whose fields are read, and what is wrong with them."""

    file: Path
    line: int
    record: Record
    faults: list[Fault]
    is_faulty: bool = False

    def add(self, what: str, mend: str, outcome: str = "") -> None:
        """Name a fault for which the row cannot be used."""
        self.is_faulty = True
        self.faults.append(Fault(self.file, self.line, what, mend, outcome))

    def note(self, what: str, mend: str, outcome: str) -> None:
        """Name a fault with which the row can be used."""
        self.faults.append(Fault(self.file, self.line, what, mend, outcome, loses=False))

    def hint(self, name: str) -> str:
        """Name the field that another tool would have written instead."""
        foreign = next((n for n in FOREIGN_NAMES[name] if self.record.get(n)), None)
        return f", though there is a field {foreign}" if foreign else ""

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
            what = f"empty or missing id{self.hint('_id')}"
            self.add(what, "give every row an id of its own; in BEIR's layout the field is _id")
        if CONTROL_CHARACTER.search(name):
            self.add(f"the id {name!r} holds a tab or a line break", "take it out")
        return name if name.strip() else ""

    def read_score(self) -> float:
        """Read the score of a judgement; what is more than zero is right."""
        text = f"{self.record['score']}".strip(BLANK_OR_QUOTE).lower()
        try:
            score = math.nan if "_" in text else float(SCORES_OF_WORDS.get(text, text))
        except ValueError:
            score = math.nan
        if not abs(score) <= MAX_SCORE:
            what = f"score {text[:40]!r} is no number that can be a grade"
            self.add(what, "write 1 for a right answer, 0 for a wrong one")
        return score

    def open(self, name: str) -> _Row:
        """Open an object in the record."""
        value = self.record.get(name)
        if value is not None and not isinstance(value, dict):
            what = f"{name} is a JSON {JSON_KINDS.get(type(value), 'number')}, not an object"
            self.add(what, 'write {"type": ..., "thread": ...}, or leave it out')
        inner: Record = value if isinstance(value, dict) else {}
        return _Row(self.file, self.line, inner, self.faults)

    def read_sections(self) -> list[dict[str, str]]:
        """Read a list of sections, each an object with title and text, or a text."""
        given = self.record.get("sections") or []
        sections = []
        parts: list[Any] = given if isinstance(given, list) else [None]
        for part in parts:
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
