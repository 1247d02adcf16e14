"""The files of a data set in BEIR's layout: their names, and how they are read and written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from twinrank.data.records import Record, read_json_lines, read_records
from twinrank.data.validation import SECTIONS, check_rows
from twinrank.errors import DataError, Fault

log = logging.getLogger(__name__)

ANSWERS, QUERIES = "corpus.jsonl", "queries.jsonl"
SPLITS = ("train", "validation", "test")
SPELLINGS = {"dev": "validation", "val": "validation", "valid": "validation"}
ANSWER_FIELDS: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("_id", "title", "text"), pl.String),
    "metadata": pl.Struct({"url": pl.String, "sections": SECTIONS}),
}
NO_SPLIT = "not read: no split is called so"
QREL_COLUMNS = {  # the columns of qrels, and what else they are called
    "query": ("query-id", "query", "qid"),
    "answer": ("corpus-id", "answer", "docid", "doc-id", "pid"),
    "score": ("score", "relevance", "rel", "grade", "label"),
}


def find_qrels(path: Path, faults: list[Fault]) -> dict[str, Path]:
    """Find the qrels files of a data set by split, and name those that are not read."""
    files: dict[str, Path] = {}
    for file in sorted([*path.glob("qrels/*"), *path.glob("qrels*")]):
        split = SPELLINGS.get(file.stem, file.stem)
        if file.parent != path and file.suffix == ".tsv" and split in SPLITS:
            if split in files:
                what = f"{files[split].name} is {split} too"
                faults.append(Fault(file, None, what, "delete one of the two"))
            files[split] = file
        elif file.is_file() and not file.name.startswith((".", "README")):
            mend = f"call it qrels/SPLIT.tsv, SPLIT one of {', '.join(SPLITS)}"
            faults.append(Fault(file, None, NO_SPLIT, mend, f"{NO_SPLIT}; {mend}"))
    return {split: files[split] for split in SPLITS if split in files}


def read_qrels(file: Path, split: str, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Read the judgements of a qrels file: query, answer, score and split, each with its line."""
    columns: dict[str, str] = {}
    for line, record in read_records(file, faults):
        if not columns:
            names = {name.strip().lower().replace("_", "-"): name for name in record}
            for kind, spellings in QREL_COLUMNS.items():
                columns[kind] = next((names[name] for name in spellings if name in names), "")
            if not all(columns.values()):
                what = f"no header: the first line is {', '.join(record)[:80]!r}"
                mend = "begin the file with query-id, corpus-id and score, tabs between"
                faults.append(Fault(file, 1, what, mend))
                return
            if unread := [name for name in record if name not in columns.values()]:
                log.warning("%s: columns not read, and not saved: %s", file, ", ".join(unread))
        yield line, {kind: record[name] for kind, name in columns.items()} | {"split": split}


def read_answers(file: BinaryIO) -> pl.DataFrame:
    """Read answers (id, title, text, url, sections) as `write_answers` wrote them."""
    metadata = pl.col("metadata").struct
    section = pl.element().struct
    filled = pl.struct(section.field("title").fill_null(""), section.field("text").fill_null(""))
    sections = pl.coalesce(metadata.field("sections"), pl.lit([], dtype=SECTIONS))
    return pl.read_ndjson(file, schema=ANSWER_FIELDS).select(
        pl.col("_id").alias("id"),
        pl.col("title", "text").fill_null(""),
        metadata.field("url"),
        sections.list.eval(filled).alias("sections"),
    )


def write_answers(answers: pl.DataFrame, file: Path) -> None:
    """Write answers as a `corpus.jsonl`."""
    answers.select(
        pl.col("id").alias("_id"), "title", "text", metadata=pl.struct("url", "sections")
    ).write_ndjson(file)


def write_rows(source: Path | None, kind: str, rows: pl.DataFrame, file: Path) -> None:
    """Write rows as JSONL, with all that the lines they came from say besides.

    Args:
        source: the file that they were read from; a line of it whose row did not change, or that
            gives none, is written as it is.
        kind: `answer` or `query`.
        rows: of that kind.
        file: to write.
    """
    merge = merge_answer if kind == "answer" else merge_query
    faults: list[Fault] = []
    new = {row["id"]: row for row in rows.iter_rows(named=True)}
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for _, record, text in read_json_lines(source, faults) if source else ():
            before = next(iter(check_rows(kind, [(1, record)], file, []).usable.values()), None)
            row = new.pop(before["id"], None) if before else None
            if row == before:
                stream.write(text.rstrip("\r\n") + "\n")
            elif row:
                stream.write(json.dumps(merge(record, row), ensure_ascii=False) + "\n")
        if faults:
            raise DataError(faults)
        for row in new.values():
            stream.write(json.dumps(merge({}, row), ensure_ascii=False) + "\n")


def merge_answer(record: Record, row: dict[str, Any]) -> Record:
    """Put what a row of answers says into the record it came from, which says more."""
    merged = {**record, "_id": row["id"], "title": row["title"], "text": row["text"]}
    metadata = {name: row[name] for name in ("url", "sections") if row[name]}
    return {**merged, "metadata": {**(record.get("metadata") or {}), **metadata}}


def merge_query(record: Record, row: dict[str, Any]) -> Record:
    """Put what a row of queries says into the record it came from, which says more."""
    known = record.get("metadata") or {}
    metadata = {"type": row["type"], "thread": row["thread"]}
    if record and "thread" not in known and row["thread"] == row["id"]:
        del metadata["thread"]  # a default, not written by anybody
    merged = {**record, "_id": record.get("_id", row["id"]), "text": row["text"]}
    return {**merged, "metadata": {**known, **metadata}}


def write_qrels(judgements: pl.DataFrame, file: Path) -> None:
    """Write judgements (query, answer, score) as a qrels file."""
    score = pl.col("score")
    whole = pl.when(score == score.round()).then(score.cast(pl.Int64).cast(pl.String))
    rows = judgements.select(
        pl.col("query").alias("query-id"),
        pl.col("answer").alias("corpus-id"),
        whole.otherwise(score.cast(pl.String)).alias("score"),
    )
    rows.write_csv(file, separator="\t")
