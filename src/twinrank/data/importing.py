"""Tables of answers, queries and labels (CSV, TSV, JSONL, Parquet), imported as a data set."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from twinrank.arguments import AnyPath, path_of
from twinrank.data.beir import ANSWERS, SPELLINGS, SPLITS
from twinrank.data.columns import Columns, Table, read_table
from twinrank.data.dataset import Dataset
from twinrank.data.records import NotTextError, Record, as_text
from twinrank.data.statistics import count_markup, describe_markup
from twinrank.data.validation import (
    FOLLOWS,
    Numbered,
    Rows,
    check_answers,
    check_judgements,
    check_queries,
    describe_outcomes,
)
from twinrank.errors import DataError, Fault

log = logging.getLogger(__name__)

CONVERSATION, QUESTION = "conversation", "question"
USUAL_COLUMNS = Columns()


def import_tables(
    out: AnyPath,
    *,
    queries: AnyPath,
    answers: AnyPath,
    labels: AnyPath | None = None,
    columns: Columns = USUAL_COLUMNS,
    cast_below: int | None = None,
    skip_faulty: bool = False,
) -> Dataset:
    """Make a data set of tables, and write it to a folder in BEIR's layout.

    Right answers stand in a column of the queries or in a table of labels. Where no split is
    given, all labels go to train: `split` divides them. Faults name a line of a text file, a row
    of a Parquet file.

    Args:
        out: folder to write; must not hold a data set.
        queries: table of queries; its suffix says what it is, as for all tables.
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
    tables = {kind: read_table(file, kind, columns, faults) for kind, file in paths.items()}
    if any(fault.line is None for fault in faults) or not all(t.rows for t in tables.values()):
        raise DataError(faults)
    dataset = _check(tables, columns.separator, out.resolve().name, faults)
    _settle(faults, [*paths.values()], dataset, skip_faulty=skip_faulty)
    dataset = _drop_unknown(dataset)
    if cast_below is not None:
        dataset = cast_short(dataset, cast_below)
    for sentence in describe_markup(count_markup(dataset)):
        log.warning("%s", sentence)
    dataset.save(out)
    return Dataset.load(out)


def cast_short(dataset: Dataset, below: int) -> Dataset:
    """The same data with every conversation of fewer characters as a question.

    Some people write into a chat as into a search box. All splits are cast alike: training and
    measuring go by the same types. How many were cast, and where, is logged.

    Args:
        dataset: any.
        below: characters.

    Raises:
        DataError: if no query is of the type `conversation`.
    """
    if CONVERSATION not in dataset.types:
        what = f"no query is of type {CONVERSATION}; the types are {', '.join(dataset.types)}"
        file = Path(dataset.name) / "queries.jsonl"
        raise DataError([Fault(file, None, what, "leave cast_below out")])
    is_short = (pl.col("type") == CONVERSATION) & (pl.col("text").str.len_chars() < below)
    split_of = dataset.labels.select("split", id="query").unique("id").lazy()
    conversations = dataset.queries.filter(pl.col("type") == CONVERSATION)
    conversations = conversations.join(split_of, on="id", how="left")
    split = pl.col("split").fill_null("unlabelled")
    counts = conversations.group_by(split).agg(pl.len(), cast=is_short.sum()).collect()
    cast = dict(counts.select("split", "cast").iter_rows())
    listed = [f"{name} {cast[name]:,}" for name in (*SPLITS, "unlabelled") if name in cast]
    log.info(
        "%s of %s conversations have fewer than %d characters, and are questions now: %s",
        *(f"{counts['cast'].sum():,}", f"{counts['len'].sum():,}", below, ", ".join(listed)),
    )
    kind = pl.when(is_short).then(pl.lit(QUESTION)).otherwise(pl.col("type"))
    return replace(dataset, queries=dataset.queries.with_columns(type=kind), folder=None)


def _check(tables: dict[str, Table], separator: str, name: str, faults: list[Fault]) -> Dataset:
    """Make a data set of the rows that can be used; what is wrong with the rest goes to faults."""
    asked = tables["query"]
    answers = check_answers(_read_answers(tables["answer"]), tables["answer"].file, faults)
    records = [*_read_queries(asked)]
    queries = check_queries(records, asked.file, faults, needs_type=asked.has("type"))
    answers.is_whole &= tables["answer"].is_whole
    queries.is_whole &= asked.is_whole
    if "label" in tables:
        rows = zip(records, asked.rows, strict=True)
        splits = {f"{record['_id']}": cells.get("split") for (_, record), (_, cells) in rows}
        labels = _read_labels(tables["label"], splits, queries)
    else:
        labels = _read_named_answers(asked, records, separator, queries)
    file = tables.get("label", asked).file
    judged = check_judgements(_set_splits(labels, file, faults), file, queries, answers, {})
    return Dataset.of_rows(name, answers, queries, [*judged])


def _settle(faults: list[Fault], files: list[Path], dataset: Dataset, *, skip_faulty: bool) -> None:
    """Refuse the faults, or log what they cost."""
    faults = [fault for fault in faults if fault.outcome != FOLLOWS]
    lost = [fault for fault in faults if fault.loses]
    is_empty = dataset.answers.is_empty() or dataset.queries.collect().is_empty()
    if lost and (is_empty or not skip_faulty):
        raise DataError(sorted(lost, key=lambda fault: (files.index(fault.file), fault.line)))
    for sentence in describe_outcomes([fault for fault in faults if not fault.loses]):
        log.warning("%s", sentence)
    for file in files:
        if lines := sorted({fault.line for fault in lost if fault.file == file and fault.line}):
            message = "%s: left out what is wrong in %s rows, the first in line %s"
            log.warning(message, file, f"{len(lines):,}", lines[0])


def _drop_unknown(dataset: Dataset) -> Dataset:
    """Drop the judgements of rows that were left out, and log how many are no labels."""
    known = dataset.judgements.filter("is_known")
    wrong = known.filter(pl.col("score") <= 0).height
    if wrong:
        log.info("%s judgements of zero or less are no labels", f"{wrong:,}")
    if known.height < dataset.judgements.height:
        lost = dataset.judgements.height - known.height
        log.warning("%s labels fell away with them", f"{lost:,}")
    return replace(dataset, judgements=known)


def _read_answers(table: Table) -> Iterator[tuple[int, Record]]:
    """Give answers as BEIR has them, the rows of one answer's sections joined."""
    if not table.has("section"):
        for line, cells in table.rows:
            yield line, _as_answer(cells, _cell(cells.get("text")), _parse(cells.get("sections")))
        return
    rows_of: dict[object, list[tuple[int, Record]]] = {}
    for line, cells in table.rows:
        rows_of.setdefault(_cell(cells.get("id")) or line, []).append((line, cells))
    for rows in rows_of.values():
        first = {n: next((c[n] for _, c in rows if c.get(n)), None) for n in ("title", "url")}
        sections = [{"title": c.get("section"), "text": c.get("text")} for _, c in rows]
        yield rows[0][0], _as_answer({**rows[0][1], **first}, None, sections)


def _as_answer(cells: Record, text: object, sections: object) -> Record:
    if isinstance(sections, list) and all(isinstance(part, dict | str) for part in sections):
        parts = [part if isinstance(part, dict) else {"text": part} for part in sections]
        sections = [
            {
                "title": _cell(part.get("title")),
                "text": _cell(part.get("text") or part.get("content")),
            }
            for part in parts
        ]
        text = text or "\n".join(f"{line}" for part in sections for line in part.values() if line)
    head = {"_id": _cell(cells.get("id")), "title": _cell(cells.get("title")), "text": text}
    return {**head, "metadata": {"url": _cell(cells.get("url")), "sections": sections}}


def _read_queries(table: Table) -> Iterator[tuple[int, Record]]:
    """Give queries as BEIR has them; the title goes before the text."""
    has_ids = table.has("id")
    for line, cells in table.rows:
        texts = [text for name in ("title", "text") if (text := _cell(cells.get(name)))]
        odd = [text for text in texts if not isinstance(text, str)]  # left to the check to name
        text = odd[0] if odd else "\n".join(map(str, texts))
        metadata = {name: _cell(cells.get(name)) for name in ("type", "thread")}
        name = _cell(cells.get("id")) if has_ids else f"q{line}"
        yield line, {"_id": name, "text": text, "metadata": metadata}


def _read_named_answers(
    table: Table, records: list[tuple[int, Record]], separator: str, queries: Rows
) -> Iterator[tuple[int, Record]]:
    """Give a judgement for each right answer that a query names, with the query's split."""
    for (line, record), (_, cells) in zip(records, table.rows, strict=True):
        if queries.lines.get(f"{record['_id']}") != line:
            continue  # the row repeats the id of another
        named = _parse(cells.get("answer"))
        parts = named.split(separator) if isinstance(named, str) else named
        names = [_cell(part) for part in (parts if isinstance(parts, list) else [parts])]
        for position, name in enumerate(names):
            if name and name not in names[:position]:
                split = cells.get("split")
                yield line, {"query": record["_id"], "answer": name, "score": 1, "split": split}


def _read_labels(
    table: Table, splits: dict[str, object], queries: Rows
) -> Iterator[tuple[int, Record]]:
    """Give the rows of a table of labels; without a split, with that of the query."""
    without = []
    for line, cells in table.rows:
        query, answer = _cell(cells.get("query")), _cell(cells.get("answer"))
        score = cells.get("score", 1)
        if score is None or score == "":
            without.append(line)
            score = 1
        split = _cell(cells.get("split")) or splits.get(queries.find(f"{query}") or "")
        yield line, {"query": query, "answer": answer, "score": score, "split": split}
    if without:
        message = "%s: %s labels without a score count as right, the first in line %d"
        log.warning(message, table.file, f"{len(without):,}", without[0])


def _set_splits(judged: Numbered, file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Give the judgements with their splits; all in train where none has one."""
    rows = [(line, record, _cell(record["split"])) for line, record in judged]
    has_splits = any(split for _, _, split in rows)
    mend = f"give one of {', '.join(SPLITS)}"
    for line, record, split in rows:
        name = f"{split or ''}".lower() if has_splits else SPLITS[0]
        name = SPELLINGS.get(name, name)
        if name in SPLITS:
            yield line, {**record, "split": name}
        else:
            what = f"{split} is no split" if split else "no split, though others have one"
            faults.append(Fault(file, line, what, mend))


def _parse(cell: object) -> object:
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
