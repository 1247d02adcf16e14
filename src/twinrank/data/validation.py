"""The rules a record must keep, whatever file it comes from; each fault is named by its line."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from twinrank.data.records import NotTextError, Record, as_integer, as_text
from twinrank.errors import Fault

Numbered = Iterable[tuple[int, Record]]  # records by the line where they begin
Judgement = tuple[str, str, float, str]  # as in JUDGEMENTS_SCHEMA

DEFAULT_TYPE = "query"
SYNTHETIC = "synthetic"  # type of queries that `bootstrap` made of answers
SECTIONS = pl.List(pl.Struct({"title": pl.String, "text": pl.String}))
SCHEMAS: dict[str, dict[str, Any]] = {
    "answer": {
        **dict.fromkeys(("id", "title", "text", "url"), pl.String),
        "sections": SECTIONS,
        "metadata": pl.String,
    },
    "query": dict.fromkeys(("id", "type", "thread", "text", "metadata"), pl.String),
}
HEAD_FIELDS = {"_id", "title", "text", "metadata"}  # the fields of a record that are no metadata
NO_METADATA = "{}"
JUDGEMENTS_SCHEMA = {
    **dict.fromkeys(("query", "answer"), pl.String),
    "score": pl.Float64,
    "split": pl.String,
}
EMPTY = {  # what is wrong with a row without a text, the mend, and what becomes of it
    "answer": (
        "neither title nor text",
        "give the answer a title or a text, or delete it",
        "answers without title and text left out",
    ),
    "query": (
        "empty or missing text",
        "write the question in the field text, or delete the query and its labels",
        "queries without a text left out",
    ),
}
BLANK_OR_QUOTE = f'{string.whitespace}\xa0"'
SCORES_OF_WORDS = {"true": "1", "false": "0"}
MAX_SCORE = 1e9


@dataclass
class Rows:
    """The rows of one file that can be used, and the ids of all, for labels that refer to them.

    Attributes:
        kind: `answer` or `query`.
        file: of the rows.
        faults: added to.
        lines: where each id was given first, that of a faulty row too.
        usable: cells by id.
    """

    kind: str
    file: Path
    faults: list[Fault]
    lines: dict[str, int] = field(default_factory=dict)
    usable: dict[str, dict[str, Any]] = field(default_factory=dict)

    def frame(self) -> pl.DataFrame:
        """Return the rows that can be used, in the order of the file."""
        return pl.DataFrame(list(self.usable.values()), schema=SCHEMAS[self.kind])

    @cached_property
    def is_whole(self) -> bool:
        """Say whether every row was read; in one that was not, an unknown id may stand."""
        return all(fault.outcome for fault in self.faults if fault.file == self.file)

    @cached_property
    def has_urls(self) -> bool:
        """Say whether any answer has a URL."""
        return any(cells.get("url") for cells in self.usable.values())


def check_rows(
    kind: str, records: Numbered, file: Path, faults: list[Fault], *, needs_type: bool = False
) -> Rows:
    """Read answers or queries from records as BEIR has them, into cells of `SCHEMAS`.

    Args:
        kind: `answer` or `query`.
        records: with their lines.
        file: of the records.
        faults: added to.
        needs_type: a query without a type is a fault.
    """
    rows = Rows(kind, file, faults)
    for line, record in records:
        if "_id" not in record and "id" in record:  # as some collections call it
            record = {"_id": record["id"], **{n: v for n, v in record.items() if n != "id"}}
        row = _Row(file, line, faults)
        cells = row.read_answer(record) if kind == "answer" else row.read_query(record)
        name = cells["id"]
        if not row.is_faulty and not (cells["text"].strip() or cells.get("title", "").strip()):
            row.reject(*EMPTY[kind])
        if kind == "query" and not cells["type"]:
            cells["type"] = DEFAULT_TYPE
            if needs_type and not row.is_faulty:
                row.reject("no type, though others have one", "give it one")
        if name in rows.usable:
            is_same = {**rows.usable[name], "metadata": cells["metadata"]} == cells
            outcome = "repeated rows left out" if is_same else ""
            what = f"id {name!r} stands on line {rows.lines[name]} already"
            row.reject(what, "rename or delete one of the two", outcome)
        elif name:
            rows.lines.setdefault(name, line)
            if not row.is_faulty:
                rows.usable[name] = cells
    return rows


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
        file: of the records.
        queries: that they may name, as `answers`.
        answers: see there.
        threads: where each was judged first; no thread may be in two splits. Added to.
    """
    pairs: dict[tuple[str, str], tuple[int, float]] = {}
    for number, record in records:
        row = _Row(file, number, queries.faults)
        query, answer = row.read_id(record, "query"), row.read_id(record, "answer")
        score, split = row.read_score(record), record["split"]
        if row.is_faulty:
            continue
        for name, rows in ((query, queries), (answer, answers)):
            if name not in rows.lines and rows.is_whole:
                what = f"unknown {rows.kind} id {name!r}"
                mend = f"correct the id, or add the {rows.kind} to {rows.file}"
                if "://" in name and not rows.has_urls:
                    mend += ", or name the column of its URL by --column answer_url=NAME"
                row.reject(what, mend, f"judgements of unknown {rows.kind} ids left out")
        if row.is_faulty:
            continue
        line, before = pairs.setdefault((query, answer), (number, score))
        if line != number:
            what = f"{query} and {answer} are judged in line {line} already"
            if before != score:
                what = f"{what}, {before:g} there and {score:g} here"
            outcome = "repeated judgements left out" if before == score else ""
            row.reject(what, "delete one of the two", outcome)
            continue
        if query in queries.usable:
            thread = queries.usable[query]["thread"]
            source, line, judged_split = threads.setdefault(thread, (file, number, split))
            if judged_split != split:
                what = f"thread {thread!r} is judged in another split too ({source.name}:{line})"
                row.reject(what, "keep a thread in one split, as `twinrank split` does")
                continue
        yield query, answer, score, split


def describe_outcomes(faults: Iterable[Fault]) -> list[str]:
    """Say what is left out, a sentence for each kind in each file."""
    kinds: dict[tuple[Path, str], list[Fault]] = {}
    for fault in faults:
        kinds.setdefault((fault.file, fault.outcome or fault.mend), []).append(fault)
    sentences = []
    for (file, _), alike in kinds.items():
        first = min(alike, key=lambda fault: fault.line or 0)
        sentence = f"{file}: {first.outcome or 'rows left out'}"
        if first.line:
            sentence += f": {len(alike):,}, the first in line {first.line}"
        sentences.append(sentence if first.outcome else f"{sentence} ({first.what})")
    return sentences


@dataclass
class _Row:
    """One line of a file, whose fields are read, and whether anything is wrong with them."""

    file: Path
    line: int
    faults: list[Fault]
    is_faulty: bool = False

    def reject(self, what: str, mend: str, outcome: str = "") -> None:
        """Name a fault for which the row cannot be used."""
        self.is_faulty = True
        self.faults.append(Fault(self.file, self.line, what, mend, outcome))

    def read(self, record: Record, name: str) -> str:
        """Read a field as text, an absent one as an empty text."""
        try:
            return as_text(record.get(name)) or ""
        except NotTextError as error:
            self.reject(f"{name} is {error}, not text", "write it as one string")
            return ""

    def read_id(self, record: Record, name: str) -> str:
        """Read an id, 7.0 as 7: so a column of integers with gaps is written."""
        known = len(self.faults)
        text = as_integer(self.read(record, name).strip(BLANK_OR_QUOTE))
        if not text and len(self.faults) == known:
            mend = "give every row an id of its own; in BEIR's layout the field is _id"
            mend = mend if name == "_id" else "give its id"
            self.reject(f"empty or missing {name.strip('_')}", mend)
        return text

    def read_answer(self, record: Record) -> dict[str, Any]:
        """Read the cells of an answer."""
        metadata = self.read_metadata(record)
        return {
            "id": self.read_id(record, "_id"),
            "title": self.read(record, "title"),
            "text": self.read(record, "text"),
            "url": self.read(metadata, "url") or None,
            "sections": self.read_sections(metadata),
            "metadata": _write_metadata(metadata, {"url", "sections"}),
        }

    def read_query(self, record: Record) -> dict[str, Any]:
        """Read the cells of a query; its type is empty if it has none."""
        metadata = self.read_metadata(record, head=HEAD_FIELDS - {"title"})
        name = self.read_id(record, "_id")
        return {
            "id": name,
            "type": self.read(metadata, "type").strip(),
            "thread": as_integer(self.read(metadata, "thread").strip()) or name,
            "text": self.read(record, "text"),
            "metadata": _write_metadata(metadata, {"type", "thread"}),
        }

    def read_metadata(self, record: Record, head: Collection[str] = HEAD_FIELDS) -> Record:
        """Read the fields of `metadata`, and those beside it that are not of the head."""
        fields = {name: value for name, value in record.items() if name not in head}
        metadata = record.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            mend = 'write {"type": ..., "thread": ...}, or leave it out'
            self.reject("metadata is not an object", mend)
            return fields
        return fields | (metadata or {})

    def read_sections(self, metadata: Record) -> list[dict[str, str]]:
        """Read a list of sections, each an object with title and text, or a text."""
        given = metadata.get("sections") or []
        listed: list[Any] = given if isinstance(given, list) else [None]
        parts: list[Any] = [{"text": part} if isinstance(part, str) else part for part in listed]
        if not all(isinstance(part, dict) for part in parts):
            mend = 'write a list of {"title": ..., "text": ...}'
            self.reject("sections is no list of sections", mend)
            return []
        return [
            {
                "title": self.read(part, "title"),
                "text": self.read(part, "text") or self.read(part, "content"),
            }
            for part in parts
        ]

    def read_score(self, record: Record) -> float:
        """Read the score of a judgement; what is more than zero is right."""
        text = f"{record['score']}".strip(BLANK_OR_QUOTE).lower()
        try:
            score = float(SCORES_OF_WORDS.get(text, text))
        except ValueError:
            score = math.nan
        if not abs(score) <= MAX_SCORE:
            what = f"score {text[:40]!r} is no number that can be a grade"
            self.reject(what, "write 1 for a right answer, 0 for a wrong one")
        return score


def _write_metadata(metadata: Record, known: Collection[str]) -> str:
    """Write the fields that are not known as JSON, sorted by name; NaN as null."""
    fields = {name: value for name, value in metadata.items() if name not in known}
    if not fields:
        return NO_METADATA
    write = partial(json.dumps, ensure_ascii=False, sort_keys=True, default=str)
    try:
        return write(fields, allow_nan=False)
    except ValueError:
        return write(json.loads(write(fields), parse_constant=lambda _: None))
