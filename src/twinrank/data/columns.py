"""The columns of tables to import: which of them is read as which field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from itertools import islice
from pathlib import Path

from twinrank.data import trec
from twinrank.data.records import NotTextError, Record, as_text, read_records
from twinrank.errors import Fault, TwinrankError

Convert = Callable[[object, bool], object]
Row = tuple[int, Record]

USUAL_SEPARATOR = ";"  # between several right answers
LARGE_TABLE = 20_000_000  # bytes; below, to start processes takes longer than they save
ROWS_AT_ONCE = 250

NEEDED = {  # of each group at least one
    "answer": (("answer_id",), ("answer_text", "answer_title", "answer_sections")),
    "query": (("query_text", "query_title"),),
    "label": (("label_query",), ("label_answer",)),
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
        query_type: without it, a query of turns (`User: ...`) is a `conversation`, any other a
            `question`.
        query_thread: without it, or where it is empty, a query is a thread by itself.
        query_answer: right answers, a list or with `separator` between; not read where there is
            a table of labels.
        query_split: train, validation (or dev, val, valid) or test; also of labels.
        label_score: zero or less means not right; without it, or where it is empty, right.
        separator: between right answers; with the usual one, a comma too, if no id holds one.
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
    separator: str = USUAL_SEPARATOR

    @classmethod
    def parse(cls, given: Sequence[str]) -> Columns:
        """Make them of items like `query_text=body`.

        Raises:
            TwinrankError: if an item is not of that form, or names no such field, or one again.
        """
        named: dict[str, str] = {}
        for item in given:
            field_name, _, column = item.partition("=")
            _check_field(item, field_name, column)
            if field_name in named:
                raise TwinrankError(
                    f"column {item!r}: {field_name} is {named[field_name]!r} already; give it "
                    f"once, as {field_name}=NAME|NAME if the column has one name or another"
                )
            named[field_name] = column
        return cls(**named)


def _check_field(item: str, name: str, column: str) -> None:
    """Refuse an item whose field is not known, with the nearest that is, or that has no column."""
    known = [field.name for field in fields(Columns)]
    if name not in known:
        nearest = get_close_matches(name.strip().lower().replace(" ", "_"), known, 1)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        if column in known:
            hint = f"write {column}={name}. "
        fault = f"no field is called {name!r}"
        raise TwinrankError(
            f"column {item!r}: {fault}; {hint}Write FIELD=NAME, FIELD one of {', '.join(known)}"
        )
    if not column:
        raise TwinrankError(
            f"column {item!r}: names no column; write {name}=NAME, or {name}=NAME|NAME to try "
            "one after the other"
        )


@dataclass
class Table:
    """The rows of one table: for each the line, and the cells by field, such as `title`.

    The cell `metadata` of answers and queries is an object of what no field names.
    """

    file: Path
    kind: str
    rows: list[Row] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # columns that no field names

    def has(self, name: str) -> bool:
        """Say whether any row has something in a field."""
        return any(cells.get(name) for _, cells in self.rows)

    def describe_unread(self) -> str:
        """Say what becomes of the columns that no field names."""
        done = "not read" if self.kind == "label" else "kept in metadata"
        names = ", ".join(self.unread)
        return f"{self.file}: columns {done}: {names}; read one by --column FIELD=NAME"

    def has_in_metadata(self, name: str) -> bool:
        """Say whether any row of answers or queries has something in a field of its metadata."""
        return any(cells["metadata"].get(name) for _, cells in self.rows)


def read_table(
    file: Path,
    kind: str,
    columns: Columns,
    faults: list[Fault],
    convert: Convert | None = None,
) -> Table:
    """Read a table of one kind: `answer`, `query` or `label`.

    Cells are texts without blanks around them, or none; what is no text is left to the check.

    Args:
        file: the table.
        kind: of its rows.
        columns: what its columns are called.
        faults: added to.
        convert: called with each text of a row, and whether its column is called Markdown; what
            it gives takes the text's place. Of a large table all cores convert the rows, so it is
            a function of a module. No text is in memory twice.
    """
    from joblib import Parallel, delayed  # a service reads no tables

    prefix = f"{kind}_"
    asked = {name: v.split("|") for name, v in asdict(columns).items() if name.startswith(prefix)}
    texts = {_normalise(name) for name in asked.get(f"{prefix}text", ())} if convert else set()
    known = len(faults)
    table, names = Table(file, kind), dict[str, None]()
    is_trec = kind == "label" and trec.count_columns(file) == trec.QREL_WIDTH
    records = (
        trec.read_judgements(file, faults)
        if is_trec
        else read_records(file, faults, may_be_old=True)
    )
    is_large = file.is_file() and file.stat().st_size > LARGE_TABLE
    read = Parallel(n_jobs=-1 if convert and is_large else 1, return_as="generator")
    for rows in read(delayed(_convert)(rows, texts, convert) for rows in _batches(records)):
        for _, cells in rows:
            names |= dict.fromkeys(cells)
        table.rows += rows
    if not table.rows:
        if len(faults) == known:
            faults.append(Fault(file, None, "no rows to import", "check the file"))
        return table
    column_of = _find_columns(file, kind, asked, list(names), faults)
    unread = table.unread = [name for name in names if name not in column_of.values()]
    for number, (line, cells) in enumerate(table.rows):
        fields = {name.removeprefix(prefix): cells.get(c) for name, c in column_of.items()}
        if kind != "label":
            fields["metadata"] = _as_metadata(cells, unread, fields.keys())
        table.rows[number] = (line, fields)
    return table


def _batches(records: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(records)
    while batch := [*islice(rows, ROWS_AT_ONCE)]:
        yield batch


def _convert(rows: list[Row], texts: set[str], convert: Convert | None) -> list[Row]:
    """Clean all cells of some rows, and convert those of the columns that hold texts."""
    converted: list[Row] = []
    for line, record in rows:
        cells = {name: _clean(value) for name, value in record.items()}
        for name, value in cells.items():
            if convert and value and _normalise(name) in texts:
                cells[name] = convert(value, "markdown" in _normalise(name))
        converted.append((line, cells))
    return converted


def _as_metadata(cells: Record, unread: Iterable[str], fields: Iterable[str]) -> Record:
    """Give what no field names: the other columns, and what a column `metadata` holds."""
    metadata: Record = {}
    below: Record = {}
    for name in unread:
        value = cells.get(name)
        if _normalise(name) == "metadata":
            value = parse_cell(value)
            below = value if isinstance(value, dict) else below
        elif name not in fields and value not in (None, "", [], {}):
            metadata[name] = value
    return metadata | below


def parse_cell(cell: object) -> object:
    """Read a list or an object that stands in a cell as JSON; what is none stays as it is."""
    if isinstance(cell, str) and cell.startswith(("[", "{")):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def _clean(value: object) -> object:
    try:
        return (as_text(value) or "").strip() or None
    except NotTextError:
        return value


@cache
def _normalise(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _find_columns(
    file: Path, kind: str, asked: dict[str, list[str]], given: list[str], faults: list[Fault]
) -> dict[str, str]:
    """Find the column of each field that has one."""
    columns: dict[str, str] = {}
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
        if fitting:
            columns[name] = fitting[0]
    for group in NEEDED[kind]:
        if not {*group} & (columns.keys() | chosen):
            what = f"no column fits {' or '.join(group)}; {listed}"
            faults.append(Fault(file, None, what, f"say which does: {group[0]}=NAME"))
    return columns
