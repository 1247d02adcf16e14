"""The columns of tables to import: which of them is read as which field."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path

from twinrank.data.records import Record, read_records
from twinrank.errors import Fault, TwinrankError

log = logging.getLogger(__name__)

NEEDED = {  # of each group at least one
    "answer": (("answer_id",), ("answer_text", "answer_title", "answer_sections")),
    "query": (("query_text", "query_title"),),
    "label": (("label_query",), ("label_answer",)),
}
FILLERS = {  # what programs write into cells that are empty or failed
    *("na", "n/a", "nan", "none", "null", "<na>", "\\n"),
    *("#n/a", "#ref!", "#name?", "#value!", "#null!", "#div/0!", "#num!"),
}
SCORES = "score relevance relevant rel grade label judgement judgment rating gain correct"
LOOKS_LIKE = {  # words in the name of a column that is not read, and the field it may be meant for
    "answer_id": "id key number",
    "answer_title": "title subject heading name",
    "answer_text": "text body content description html markdown",
    "answer_url": "url link href permalink",
    "answer_sections": "sections",
    "query_title": "title subject heading",
    "query_text": "text body content question query message conversation transcript",
    "query_type": "type kind channel source category",
    "query_thread": "thread ticket conversation",
    "query_answer": "answer answers article articles solution",
    "query_split": "split fold subset",
    "label_score": f"{SCORES} right value weight helpful",
    "label_split": "split fold subset",
}


@dataclass(frozen=True)
class Columns:
    """The names of the columns of the tables, `|` standing between names to try.

    Capitals, spaces and hyphens do not matter: `answer_id` fits a column `Answer ID`. A table
    must have each column that is named otherwise than here.

    Attributes:
        answer_sections: lists of {"title", "text"} or of texts, in CSV as JSON.
        answer_section: title of a section, if an answer is spread over rows, one a section.
        query_id: without it, ids are made from the lines.
        query_title: goes before the text, on a line by itself.
        query_type: without it, all queries are of the type `query`.
        query_thread: without it, or where it is empty, a query is a thread by itself.
        query_answer: right answers, a list or with `separator` between; not read where there is
            a table of labels.
        query_split: train, validation (or dev, val, valid) or test; also of labels.
        label_score: zero or less means not right; without it, or where it is empty, right.
        separator: between right answers.
    """

    answer_id: str = "id|_id|answer_id"
    answer_title: str = "title"
    answer_text: str = "text|content|body"
    answer_url: str = "url"
    answer_sections: str = "sections"
    answer_section: str = "section|section_title"
    query_id: str = "id|_id|query_id"
    query_title: str = "title"
    query_text: str = "text|content|body"
    query_type: str = "type"
    query_thread: str = "thread|thread_id"
    query_answer: str = "answer|answer_id|answers"
    query_split: str = "split"
    label_query: str = "query|query_id"
    label_answer: str = "answer|answer_id|corpus_id"
    label_score: str = "score|relevance|rel|grade|label"
    label_split: str = "split"
    separator: str = ";"

    @classmethod
    def parse(cls, given: Sequence[str]) -> Columns:
        """Make them of items like `query_text=body`.

        Raises:
            TwinrankError: if an item is not of that form, or names no such field.
        """
        named = dict(item.partition("=")[::2] for item in given)
        if len(named) < len(given):
            raise TwinrankError(f"{', '.join(given)}: give each FIELD once, NAME|NAME for several")
        known = [field.name for field in fields(cls)]
        for field_name, name in named.items():
            if field_name not in known or not name:
                message = f"{field_name}={name}: write FIELD=NAME, FIELD one of {', '.join(known)}"
                raise TwinrankError(message)
        return cls(**named)


@dataclass
class Table:
    """The rows of one table: for each the line, and the cells by field, such as `title`.

    Attributes:
        is_whole: false if a row could not be read.
    """

    file: Path
    kind: str
    rows: list[tuple[int, Record]] = field(default_factory=list)
    is_whole: bool = True

    def has(self, name: str) -> bool:
        """Say whether any row has something in a field."""
        return any(cells.get(name) not in (None, "") for _, cells in self.rows)


def read_table(file: Path, kind: str, columns: Columns, faults: list[Fault]) -> Table:
    """Read the wanted columns of a table of one kind: `answer`, `query` or `label`."""
    prefix = f"{kind}_"
    asked = {name: v.split("|") for name, v in asdict(columns).items() if name.startswith(prefix)}
    fitting = {_normalise(name) for names in asked.values() for name in names}
    table, unread = Table(file, kind), list[Fault]()
    names: dict[str, None] = {}
    for line, record in read_records(file, unread, lambda name: _normalise(name) in fitting):
        names.update(dict.fromkeys(record))
        table.rows.append((line, {n: v for n, v in record.items() if _normalise(n) in fitting}))
    table.is_whole = not unread
    faults += unread
    if not table.rows:
        if not unread:
            faults.append(Fault(file, None, "no rows to import", "check the file"))
        return table
    column_of = _resolve(file, kind, asked, list(names), faults)
    fillers = [line for line, cells in table.rows if any(map(_is_filler, cells.values()))]
    if fillers:
        message = (
            "%s: %s rows have cells such as NA, nan or #N/A, read as text; the first in line %d"
        )
        log.warning(message, file, f"{len(fillers):,}", min(fillers))
    read = {name.removeprefix(prefix): column for name, column in column_of.items() if column}
    table.rows = [
        (line, {name: cells.get(column) for name, column in read.items()})
        for line, cells in table.rows
    ]
    _warn_of_unread(file, column_of, [name for name in names if name not in read.values()])
    return table


def _is_filler(cell: object) -> bool:
    return isinstance(cell, str) and cell.strip().lower() in FILLERS


def _normalise(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _resolve(
    file: Path, kind: str, asked: dict[str, list[str]], given: list[str], faults: list[Fault]
) -> dict[str, str | None]:
    """Find the column of each field, or none."""
    columns: dict[str, str | None] = {}
    usual = asdict(Columns())
    listed = f"the columns are {', '.join(given)}"
    chosen = {name for name, tried in asked.items() if "|".join(tried) not in ("", usual[name])}
    for name, tried in asked.items():
        fitting = [column for column in given if _normalise(column) in map(_normalise, tried)]
        if not fitting and name in chosen:
            what = f"no column {' or '.join(tried)}; {listed}"
            faults.append(Fault(file, None, what, f"correct the name of {name}"))
        if len(fitting) > 1:
            what = f"{' and '.join(fitting)} could both be {name}"
            faults.append(Fault(file, None, what, f"say which: {name}=NAME"))
        columns[name] = fitting[0] if fitting else None
    for group in NEEDED[kind]:
        if not any(columns[name] or name in chosen for name in group):
            what = f"no column fits {' or '.join(group)}; {listed}"
            faults.append(Fault(file, None, what, f"say which does: {group[0]}=NAME"))
    return columns


def _warn_of_unread(file: Path, column_of: dict[str, str | None], unread: Iterable[str]) -> None:
    """Name the columns that are not read though they look like a field that has none."""
    words_of = {column: _normalise(column).split("_") for column in unread}
    empty = [name for name, column in column_of.items() if not column and name in LOOKS_LIKE]
    for column, words in words_of.items():
        for name in empty:
            known = LOOKS_LIKE[name].split()
            if any(get_close_matches(word, known, n=1, cutoff=0.85) for word in words):
                message = "%s: the column %r is not read; if it is wanted: --column '%s=%s'"
                log.warning(message, file, column, name, column)
                break
    if column_of.get("query_answer"):
        graded = [name for name, words in words_of.items() if {*words} & {*SCORES.split()}]
        if graded:
            message = "%s: %s is not read, and all answers count as right: give a table of --labels"
            log.warning(message, file, " and ".join(graded))
    if ["metadata"] in words_of.values():
        log.warning("%s: the column metadata is not read: make columns of what it holds", file)
