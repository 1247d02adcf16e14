"""The files of a data set in BEIR's layout: their names, and how they are read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from twinrank.data.records import NOT_UTF8, SURROGATE, Record, read_lines
from twinrank.data.validation import SECTIONS
from twinrank.errors import Fault

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
    folder = path / "qrels"
    given = sorted(folder.iterdir()) if folder.is_dir() else sorted(path.glob("qrels*"))
    for file in given:
        split = SPELLINGS.get(file.stem, file.stem)
        if folder.is_dir() and file.suffix == ".tsv" and split in SPLITS:
            if split in files:
                what = f"{files[split].name} is {split} too"
                faults.append(Fault(file, None, what, "delete one of the two"))
            files[split] = file
        elif file.is_file() and not file.name.startswith((".", "README")):
            mend = f"call it qrels/SPLIT.tsv, SPLIT one of {', '.join(SPLITS)}"
            faults.append(Fault(file, None, NO_SPLIT, mend, f"{NO_SPLIT}; {mend}"))
    return {split: files[split] for split in SPLITS if split in files}


def read_qrels(file: Path, split: str, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Read the judgements of a qrels file, which has tabs between columns, and no quotes.

    Each comes with its line: query, answer, score and split, as they stand there.
    """
    positions: dict[str, int] | None = None
    width = 0
    for number, line in read_lines(file, faults):
        if SURROGATE.search(line):
            faults.append(Fault(file, number, *NOT_UTF8))
        elif not line.strip():
            continue
        elif positions is None:
            names = [cell.strip(' "\r\n').lower().replace("_", "-") for cell in line.split("\t")]
            positions = _find_columns(file, number, line, names, faults)
            if positions is None:
                return
            width = len("\t".join(names).rstrip("\t").split("\t"))
        else:
            cells = line.rstrip("\r\n").split("\t")
            if len(cells) < width or any(map(str.strip, cells[width:])):
                what = f"{len(cells)} columns instead of {width}"
                mend = "write query-id, corpus-id and score, tabs between"
                faults.append(Fault(file, number, what, mend))
            else:
                row = {name: cells[position] for name, position in positions.items()}
                yield number, {**row, "split": split}


def _find_columns(
    file: Path, number: int, line: str, names: list[str], faults: list[Fault]
) -> dict[str, int] | None:
    """Find the columns of query, answer and score in a header; none if one is missing."""
    known = {kind: [n for n in QREL_COLUMNS[kind] if n in names] for kind in QREL_COLUMNS}
    if not all(known.values()):
        header = ", ".join(spellings[0] for spellings in QREL_COLUMNS.values())
        mend = f"begin the file with the columns {header}, tabs between"
        what = f"no header: the line is {line.strip()[:80]!r}"
        faults.append(Fault(file, number, what, mend))
        return None
    columns = {kind: spellings[0] for kind, spellings in known.items()}
    if unread := [name for name in names if name not in (*columns.values(), "")]:
        what = f"columns that are not read, and not saved: {', '.join(unread)}"
        faults.append(Fault(file, number, what, "keep a copy if they matter", what, loses=False))
    return {kind: names.index(name) for kind, name in columns.items()}


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


def write_lines(lines: Iterable[str], file: Path) -> None:
    """Write lines of text."""
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def write_qrels(judgements: pl.DataFrame, file: Path) -> None:
    """Write judgements (query, answer, score) as a qrels file."""
    score = pl.col("score")
    whole = pl.when(score == score.round()).then(score.cast(pl.Int64).cast(pl.String))
    rows = judgements.select(
        pl.col("query").alias("query-id"),
        pl.col("answer").alias("corpus-id"),
        whole.otherwise(score.cast(pl.String)).alias("score"),
    )
    rows.write_csv(file, separator="\t", quote_style="never")


def dump(record: Record) -> str:
    """Write a record as a line of JSON."""
    return json.dumps(record, ensure_ascii=False)
