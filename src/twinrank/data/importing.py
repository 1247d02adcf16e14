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
from twinrank.data.records import Record, as_integer
from twinrank.data.validation import (
    Numbered,
    check_judgements,
    check_rows,
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
        what = "there is a file or a data set already"
        raise DataError([Fault(out, None, what, "choose another folder")])
    faults: list[Fault] = []
    paths = {"answer": path_of(answers, "answers"), "query": path_of(queries, "queries")}
    if labels is not None:
        paths["label"], columns = path_of(labels, "labels"), replace(columns, query_answer="")
    tables = {kind: read_table(file, kind, columns, faults) for kind, file in paths.items()}
    if any(fault.line is None for fault in faults) or not all(t.rows for t in tables.values()):
        raise DataError(faults)
    dataset = _make_dataset(tables, columns.separator, out.resolve().name, faults)
    is_empty = dataset.answers.is_empty() or dataset.queries.collect().is_empty()
    if faults and (is_empty or not skip_faulty):
        files = [*paths.values()]
        raise DataError(sorted(faults, key=lambda fault: (files.index(fault.file), fault.line)))
    for sentence in describe_outcomes(faults):
        log.warning("%s", sentence)
    if cast_below is not None:
        dataset = cast_short(dataset, cast_below)
    dataset.save(out)
    return Dataset.load(out)


def cast_short(dataset: Dataset, below: int) -> Dataset:
    """The same data with every conversation of fewer characters as a question.

    Some people write into a chat as into a search box. All splits are cast alike: training and
    measuring go by the same types. How many were cast is logged.

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
    is_conversation = pl.col("type") == CONVERSATION
    is_short = is_conversation & (pl.col("text").str.len_chars() < below)
    total, short = dataset.queries.select(is_conversation.sum(), s=is_short.sum()).collect().row(0)
    log.info(
        "%s of %s conversations have fewer than %d characters, and are questions now",
        *(f"{short:,}", f"{total:,}", below),
    )
    kind = pl.when(is_short).then(pl.lit(QUESTION)).otherwise(pl.col("type"))
    return replace(dataset, queries=dataset.queries.with_columns(type=kind), folder=None)


def _make_dataset(
    tables: dict[str, Table], separator: str, name: str, faults: list[Fault]
) -> Dataset:
    """Make a data set of the rows that can be used; what is wrong with the rest goes to faults."""
    asked = tables["query"]
    articles = tables["answer"]
    answers = check_rows("answer", _read_answers(articles), articles.file, faults)
    records = [*_read_queries(asked)]
    queries = check_rows("query", records, asked.file, faults, needs_type=asked.has("type"))
    rows = zip(records, asked.rows, strict=True)
    if "label" in tables:
        splits = {f"{record['_id']}": cells.get("split") for (_, record), (_, cells) in rows}
        labels = _read_labels(tables["label"], splits)
    else:
        first = [pair for pair in rows if queries.lines.get(f"{pair[0][1]['_id']}") == pair[0][0]]
        labels = _read_named_answers(first, separator)
    file = tables.get("label", asked).file
    judged = [*check_judgements(_set_splits(labels, file, faults), file, queries, answers, {})]
    usable = [j for j in judged if j[0] in queries.usable and j[1] in answers.usable]
    if len(usable) < len(judged):
        log.warning("%s labels of rows left out fell away", f"{len(judged) - len(usable):,}")
    return Dataset.of_rows(name, answers, queries, usable)


def _read_answers(table: Table) -> Iterator[tuple[int, Record]]:
    """Give answers as BEIR has them, the rows of one answer's sections joined."""
    rows_of: dict[object, list[tuple[int, Record]]] = {}
    by_id = table.has("section")
    for line, cells in table.rows:
        rows_of.setdefault((by_id and cells.get("id")) or line, []).append((line, cells))
    for rows in rows_of.values():
        line, cells = rows[0]
        if by_id:
            cells = {name: next((c[name] for _, c in rows if c[name]), None) for name in cells}
            sections: object = [{"title": c["section"], "text": c.get("text")} for _, c in rows]
            cells["text"] = None
        else:
            sections = _parse(cells.get("sections"))
        text = cells.get("text") or _join_sections(sections)
        metadata = {"url": cells.get("url"), "sections": sections}
        head = {"_id": cells.get("id"), "title": cells.get("title"), "text": text}
        yield line, {**head, "metadata": metadata}


def _join_sections(sections: object) -> str:
    """Join titles and texts of sections, a line each; what are none is left to the check."""
    lines: list[object] = []
    for part in sections if isinstance(sections, list) else []:
        if isinstance(part, dict):
            lines += [part.get("title"), part.get("text") or part.get("content")]
        else:
            lines.append(part)
    return "\n".join(f"{line}" for line in lines if line)


def _read_queries(table: Table) -> Iterator[tuple[int, Record]]:
    """Give queries as BEIR has them; the title goes before the text."""
    has_ids = table.has("id")
    for line, cells in table.rows:
        texts = [cells[name] for name in ("title", "text") if cells.get(name)]
        odd = [text for text in texts if not isinstance(text, str)]  # left to the check to name
        metadata = {name: cells.get(name) for name in ("type", "thread")}
        name = cells.get("id") if has_ids else f"q{line}"
        name = as_integer(name) if isinstance(name, str) else name
        yield line, {"_id": name, "text": odd[0] if odd else "\n".join(texts), "metadata": metadata}


def _read_named_answers(
    rows: list[tuple[tuple[int, Record], tuple[int, Record]]], separator: str
) -> Iterator[tuple[int, Record]]:
    """Give a judgement for each right answer that a query names, with the query's split."""
    for (line, record), (_, cells) in rows:
        named = _parse(cells.get("answer"))
        parts = named.split(separator) if isinstance(named, str) else named
        names = parts if isinstance(parts, list) else [parts]
        names = [name.strip() if isinstance(name, str) else name for name in names]
        for position, name in enumerate(names):
            if name and name not in names[:position]:
                judged = {"query": record["_id"], "answer": name, "score": 1}
                yield line, {**judged, "split": cells.get("split")}


def _read_labels(table: Table, splits: dict[str, object]) -> Iterator[tuple[int, Record]]:
    """Give the rows of a table of labels: right without a score, in the query's split without."""
    for line, cells in table.rows:
        split = cells.get("split") or splits.get(as_integer(f"{cells.get('query')}"))
        score = 1 if cells.get("score") is None else cells["score"]
        judged = {"query": cells.get("query"), "answer": cells.get("answer"), "score": score}
        yield line, {**judged, "split": split}


def _set_splits(judged: Numbered, file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Give the judgements with their splits; all in train where none has one."""
    rows = [*judged]
    has_splits = any(record["split"] for _, record in rows)
    for line, record in rows:
        name = f"{record['split'] or ''}".lower() if has_splits else SPLITS[0]
        name = SPELLINGS.get(name, name)
        if name in SPLITS:
            yield line, {**record, "split": name}
        else:
            what = f"'{record['split'] or ''}' is no split, and other rows have one"
            faults.append(Fault(file, line, what, f"give one of {', '.join(SPLITS)}"))


def _parse(cell: object) -> object:
    """Read a list that stands in a cell as JSON; what is none stays as it is."""
    if isinstance(cell, str) and cell.startswith(("[", "{")):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell
