"""Tables of answers, queries and labels (CSV, TSV, JSONL, Parquet), imported as a data set."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from twinrank.arguments import AnyPath, path_of
from twinrank.data.casting import cast_short
from twinrank.data.dataset import Dataset
from twinrank.data.files import ANSWERS, SPELLINGS, SPLITS
from twinrank.data.markup import count_markup, describe_markup
from twinrank.data.records import NotTextError, Record, as_text, read_records
from twinrank.data.validation import (
    FOLLOWS,
    JUDGEMENTS_SCHEMA,
    Ids,
    Judgement,
    check_answers,
    check_judgements,
    check_queries,
    say_outcomes,
)
from twinrank.errors import DataError, Fault, TwinrankError

log = logging.getLogger(__name__)

Judged = Iterator[tuple[Judgement, object]]

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
    """What the columns of the tables are called, `|` standing between names to try.

    Capitals, spaces and hyphens do not matter: `answer_id` fits a column `Answer ID`. A table
    must have each column that is named otherwise than here.

    Attributes:
        answer_sections: lists of {"title", "text"} or of texts, in CSV as JSON.
        answer_section: title of a section, if an answer is spread over rows, one a section.
        query_id: without it, ids are made from the lines.
        query_title: goes before the text, on a line of its own.
        query_type: without it, all queries are of the type `query`.
        query_thread: without it, or where it is empty, a query is a thread of its own.
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
        """From items like `query_text=body`.

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
class _Table:
    """The rows of one table: for each the line, and the cells by field.

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


def import_tables(
    out: AnyPath,
    *,
    queries: AnyPath,
    answers: AnyPath,
    labels: AnyPath | None = None,
    columns: Columns = Columns(),
    cast_below: int | None = None,
    skip_faulty: bool = False,
) -> Dataset:
    """Make a data set of tables, and write it to a folder in BEIR's layout.

    Right answers stand in a column of the queries or in a table of labels. Where no split is
    given, all labels go to train: `split` divides them. Faults name a line of a text file, a row
    of a Parquet file.

    Args:
        out: folder to write; must not hold a data set.
        queries: table of queries; its suffix says what it is, as with the others.
        answers: table of answers.
        labels: table of pairs of a query and a right answer.
        columns: what their columns are called.
        cast_below: conversations of fewer characters become questions; see `cast_short`.
        skip_faulty: leave out rows that cannot be used, and log how many.

    Raises:
        DataError: with every fault of every table; nothing is written then.
    """
    out = path_of(out, "out")
    if out.is_file() or (out / ANSWERS).exists():
        what = "a file, not a folder" if out.is_file() else "there is a data set already"
        raise DataError([Fault(out, None, what, "choose another folder")])
    faults: list[Fault] = []
    paths = {"answer": path_of(answers, "answers"), "query": path_of(queries, "queries")}
    if labels is not None:
        paths["label"], columns = path_of(labels, "labels"), replace(columns, query_answer="")
    tables = {kind: _read(file, kind, columns, faults) for kind, file in paths.items()}
    if any(fault.line is None for fault in faults) or not all(t.rows for t in tables.values()):
        raise DataError(faults)
    asked = tables["query"]
    answer_rows, answer_ids = check_answers(_answers(tables["answer"]), paths["answer"], faults)
    records = list(_queries(asked))
    query_rows, query_ids = check_queries(records, asked.file, faults, needs_type=asked.has("type"))
    answer_ids.is_whole &= tables["answer"].is_whole
    query_ids.is_whole &= asked.is_whole
    given = tables.get("label", asked)
    rows = zip(records, asked.rows, strict=True)
    splits = {f"{record['_id']}": cells.get("split") for (_, record), (_, cells) in rows}
    named = (
        _labels(given, splits, query_ids)
        if labels
        else _named_answers(asked, records, columns.separator, query_ids)
    )
    threads = dict(query_rows.select("id", "thread").iter_rows())
    judged = check_judgements(
        _with_splits(named, given.file, faults),
        *(given.file, (query_ids, threads), answer_ids, {}, faults),
    )
    faults = [fault for fault in faults if fault.outcome != FOLLOWS]
    lost = [fault for fault in faults if fault.loses]
    if lost and (not skip_faulty or answer_rows.is_empty() or query_rows.is_empty()):
        order = list(paths.values())
        raise DataError(sorted(lost, key=lambda fault: (order.index(fault.file), fault.line)))
    for sentence in say_outcomes([fault for fault in faults if not fault.loses]):
        log.warning("%s", sentence)
    for file in paths.values():
        if lines := sorted({fault.line for fault in lost if fault.file == file and fault.line}):
            said = "%s: left out what is wrong in %s rows, the first in line %s"
            log.warning(said, file, f"{len(lines):,}", lines[0])
    dataset = _dataset(out, answer_rows, query_rows, judged)
    if cast_below is not None:
        dataset = cast_short(dataset, cast_below)
    for sentence in describe_markup(count_markup(dataset)):
        log.warning("%s", sentence)
    dataset.save(out)
    return Dataset.load(out)


def _dataset(
    out: Path,
    answers: pl.DataFrame,
    queries: pl.DataFrame,
    judged: list[tuple[str, str, float, str, bool]],
) -> Dataset:
    judgements = pl.DataFrame(judged, schema=JUDGEMENTS_SCHEMA, orient="row")
    known = judgements.filter("is_known")
    right = known.filter(pl.col("score") > 0)
    if right.height < known.height:
        log.info("%s judgements of zero or less are no labels", f"{known.height - right.height:,}")
    if known.height < judgements.height:
        log.warning("%s labels fell away with them", f"{judgements.height - known.height:,}")
    return Dataset(
        name=out.resolve().name,
        answers=answers.drop("line"),
        queries=queries.drop("line").lazy(),
        labels=right.select("query", "answer", "split"),
        judgements=known,
    )


def _read(file: Path, kind: str, columns: Columns, faults: list[Fault]) -> _Table:
    """Read the wanted columns of a table, by field."""
    prefix = f"{kind}_"
    asked = {name: v.split("|") for name, v in asdict(columns).items() if name.startswith(prefix)}
    fitting = {_plain(name) for names in asked.values() for name in names}
    table = _Table(file, kind)
    names: dict[str, None] = {}
    unread: list[Fault] = []
    for line, record in read_records(file, unread, lambda name: _plain(name) in fitting):
        names.update(dict.fromkeys(record))
        table.rows.append((line, {n: v for n, v in record.items() if _plain(n) in fitting}))
    table.is_whole = not unread
    faults += unread
    if not table.rows:
        if not unread:
            faults.append(Fault(file, None, "no rows to import", "check the file"))
        return table
    found = _resolve(file, kind, asked, list(names), faults)
    fills = {line for line, cells in table.rows if any(_is_filler(v) for v in cells.values())}
    if fills:
        said = "%s: %s rows have cells such as NA, nan or #N/A, read as text; the first in line %d"
        log.warning(said, file, f"{len(fills):,}", min(fills))
    table.rows = [
        (line, {f.removeprefix(prefix): cells.get(name) for f, name in found.items() if name})
        for line, cells in table.rows
    ]
    _name_unread(file, found, [name for name in names if name not in found.values()])
    return table


def _is_filler(cell: object) -> bool:
    return isinstance(cell, str) and cell.strip().lower() in FILLERS


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _resolve(
    file: Path, kind: str, asked: dict[str, list[str]], given: list[str], faults: list[Fault]
) -> dict[str, str | None]:
    """Find the column of each field, or none."""
    names: dict[str, str | None] = {}
    usual = asdict(Columns())
    listed = f"the columns are {', '.join(given)}"
    chosen = {name for name, tried in asked.items() if "|".join(tried) not in ("", usual[name])}
    for name, tried in asked.items():
        fitting = [column for column in given if _plain(column) in map(_plain, tried)]
        if not fitting and name in chosen:
            what = f"no column {' or '.join(tried)}; {listed}"
            faults.append(Fault(file, None, what, f"correct the name of {name}"))
        if len(fitting) > 1:
            what = f"{' and '.join(fitting)} could both be {name}"
            faults.append(Fault(file, None, what, f"say which: {name}=NAME"))
        names[name] = fitting[0] if fitting else None
    for group in NEEDED[kind]:
        if not any(names[name] or name in chosen for name in group):
            what = f"no column fits {' or '.join(group)}; {listed}"
            faults.append(Fault(file, None, what, f"say which does: {group[0]}=NAME"))
    return names


def _name_unread(file: Path, found: dict[str, str | None], unread: list[str]) -> None:
    """Name the columns that are not read though they look like a field that has none."""
    empty = [name for name, column in found.items() if not column and name in LOOKS_LIKE]
    for column in unread:
        words = _plain(column).split("_")
        for name in empty:
            known = LOOKS_LIKE[name].split()
            if any(get_close_matches(word, known, n=1, cutoff=0.85) for word in words):
                said = "%s: the column %r is not read; if it is wanted: --column '%s=%s'"
                log.warning(said, file, column, name, column)
                break
    if found.get("query_answer"):
        graded = [name for name in unread if set(_plain(name).split("_")) & set(SCORES.split())]
        if graded:
            said = "%s: %s is not read, and all answers count as right: give a table of --labels"
            log.warning(said, file, " and ".join(graded))
    if "metadata" in map(_plain, unread):
        log.warning("%s: the column metadata is not read: make columns of what it holds", file)


def _answers(table: _Table) -> Iterator[tuple[int, Record]]:
    """Give answers as BEIR has them, the rows of one answer's sections joined."""
    if not table.has("section"):
        for line, cells in table.rows:
            yield line, _answer(cells, _cell(cells.get("text")), _listed(cells.get("sections")))
        return
    parts: dict[object, list[tuple[int, Record]]] = {}
    for line, cells in table.rows:
        parts.setdefault(_cell(cells.get("id")) or line, []).append((line, cells))
    for rows in parts.values():
        first = {n: next((c[n] for _, c in rows if c.get(n)), None) for n in ("title", "url")}
        sections = [{"title": c.get("section"), "text": c.get("text")} for _, c in rows]
        yield rows[0][0], _answer({**rows[0][1], **first}, None, sections)


def _answer(cells: Record, text: object, sections: object) -> Record:
    if isinstance(sections, list) and all(isinstance(part, dict | str) for part in sections):
        named = [part if isinstance(part, dict) else {"text": part} for part in sections]
        names = [(part.get("title"), part.get("text") or part.get("content")) for part in named]
        sections = [{"title": _cell(title), "text": _cell(body)} for title, body in names]
        lines = (line for part in sections for line in part.values() if line)
        text = text or "\n".join(map(str, lines))
    head = {"_id": _cell(cells.get("id")), "title": _cell(cells.get("title")), "text": text}
    return {**head, "metadata": {"url": _cell(cells.get("url")), "sections": sections}}


def _queries(table: _Table) -> Iterator[tuple[int, Record]]:
    """Give queries as BEIR has them; the title goes before the text."""
    has_ids = table.has("id")
    for line, cells in table.rows:
        texts = [text for name in ("title", "text") if (text := _cell(cells.get(name)))]
        odd = [text for text in texts if not isinstance(text, str)]  # left to the check to name
        text = odd[0] if odd else "\n".join(map(str, texts))
        metadata = {name: _cell(cells.get(name)) for name in ("type", "thread")}
        name = _cell(cells.get("id")) if has_ids else f"q{line}"
        yield line, {"_id": name, "text": text, "metadata": metadata}


def _named_answers(
    table: _Table, records: list[tuple[int, Record]], separator: str, queries: Ids
) -> Judged:
    """Give a judgement for each right answer that a query names, with the query's split."""
    for (line, record), (_, cells) in zip(records, table.rows, strict=True):
        named = _listed(cells.get("answer"))
        parts = named.split(separator) if isinstance(named, str) else named
        parts = parts if isinstance(parts, list) else [parts]
        listed = [_cell(part) for part in parts]
        for place, name in enumerate(listed):
            is_own = queries.lines.get(f"{record['_id']}") == line
            if name and is_own and name not in listed[:place]:
                yield Judgement(line, record["_id"], name, 1, ""), cells.get("split")


def _labels(table: _Table, splits: dict[str, object], queries: Ids) -> Judged:
    """Give the rows of a table of labels; without a split, with that of the query."""
    without = []
    for line, cells in table.rows:
        query, answer = _cell(cells.get("query")), _cell(cells.get("answer"))
        score = cells.get("score", 1)
        if score is None or score == "":
            without.append(line)
            score = 1
        split = _cell(cells.get("split")) or splits.get(queries.find(f"{query}") or "")
        yield Judgement(line, query, answer, score, ""), split
    if without:
        said = "%s: %s labels without a score count as right, the first in line %d"
        log.warning(said, table.file, f"{len(without):,}", without[0])


def _with_splits(given: Judged, file: Path, faults: list[Fault]) -> Iterator[Judgement]:
    """Give the judgements with their splits; all in train where none has one."""
    rows = [(judgement, _cell(split)) for judgement, split in given]
    has_splits = any(split for _, split in rows)
    mend = f"give one of {', '.join(SPLITS)}"
    for judgement, split in rows:
        name = f"{split or ''}".lower() if has_splits else SPLITS[0]
        name = SPELLINGS.get(name, name)
        if name in SPLITS:
            yield judgement._replace(split=name)
        else:
            what = f"{split} is no split" if split else "no split, though others have one"
            faults.append(Fault(file, judgement.line, what, mend))


def _listed(cell: object) -> object:
    """Read a list that stands in a cell as JSON; what is none stays as it is."""
    if not isinstance(cell, str) or not cell.lstrip().startswith(("[", "{")):
        return _cell(cell)
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _cell(value: object) -> object:
    """Read a cell as text without blanks around it; what is no text is left to the check."""
    try:
        text = value if isinstance(value, bool) else as_text(value)
    except NotTextError:
        return value
    return (text.strip() or None) if isinstance(text, str) else text
