"""The files of a data set in BEIR's layout: their names, and how they are read and written."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from twinrank.data import trec
from twinrank.data.records import Record, read_records
from twinrank.data.validation import NO_METADATA, SECTIONS
from twinrank.errors import DataError, Fault
from twinrank.files import UNFINISHED, new_folder

log = logging.getLogger(__name__)

ANSWERS, QUERIES = "corpus.jsonl", "queries.jsonl"
SPLITS = ("train", "validation", "test")
SPELLINGS = {"dev": "validation", "val": "validation", "valid": "validation"}
ANSWER_FIELDS: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("_id", "title", "text"), pl.String),
    "metadata": pl.Struct({"url": pl.String, "sections": SECTIONS, "fields": pl.String}),
}
METADATA_COLUMNS = ("type", "thread", "url", "sections")
QREL_SUFFIXES = ("", ".tsv", ".csv", ".jsonl", ".txt", ".qrels", ".trec")
PARTS = (ANSWERS, QUERIES, f"{ANSWERS}.gz", f"{QUERIES}.gz", "qrels", UNFINISHED)
LABEL_FILES = (*(f"{split}.tsv" for split in SPLITS), UNFINISHED)
NO_SPLIT = "not read: no split is called so"
QREL_HEADER = "begin the file with query-id, corpus-id and score, tabs between"
QREL_COLUMNS = {  # the columns of qrels, and what else they are called
    "query": ("query-id", "query", "qid"),
    "answer": ("corpus-id", "answer", "docid", "doc-id", "pid"),
    "score": ("score", "relevance", "rel", "grade", "label"),
}


def find_rows(path: Path, name: str) -> Path:
    """Return a data set's file of answers or queries, or the packed one in its place."""
    file, packed = path / name, path / f"{name}.gz"
    return packed if packed.is_file() and not file.exists() else file


def check_place(out: Path, *, fresh: bool) -> None:
    """Refuse a place that is taken; `fresh` takes one where a data set is, and nothing else.

    Raises:
        DataError: for it.
    """
    mend = "choose another folder"
    if out.is_file() or (not fresh and find_rows(out, ANSWERS).exists()):
        mend += ", or import anew in its place with --fresh" if out.is_dir() else ""
        raise DataError([Fault(out, None, "there is a file or a data set already", mend)])
    if not fresh or not out.exists():
        return
    files: dict[str, tuple[str, ...]] = {
        f"{file.relative_to(out)}": PARTS for file in out.iterdir()
    }
    files |= {f"{file.relative_to(out)}": LABEL_FILES for file in out.glob("qrels/*")}
    foreign = [f for f, known in files.items() if not any(fnmatch(Path(f).name, k) for k in known)]
    if foreign:
        what = f"{sorted(foreign)[0]} is no part of a data set that import writes"
        mend = f"--fresh replaces nothing else: move it away, or {mend}"
        raise DataError([Fault(out, None, what, mend)])


@contextmanager
def place_to_write(out: Path, *, fresh: bool) -> Iterator[Path]:
    """Give a folder to write a data set to, which is at `out` once it is whole.

    A kill leaves what was there before, or, between two renames, that and the new one under names
    that begin with a dot. Only in a folder that is there already, and without `fresh`, files are
    written one by one.
    """
    if out.exists() and not fresh:
        yield out
        return
    out, former = out.resolve(), None
    try:
        with new_folder(out) as folder:
            yield folder
            if out.exists():
                shutil.copymode(out, folder)
                former = out.rename(folder.with_suffix(".former"))
    finally:
        if former and out.exists():
            shutil.rmtree(former)
        elif former:
            former.rename(out)


def find_qrels(path: Path, faults: list[Fault]) -> dict[str, Path]:
    """Find the qrels files of a data set by split, and name those that are not read."""
    files: dict[str, Path] = {}
    for file in sorted([*path.glob("qrels/*"), *path.glob("qrels*")]):
        if not file.is_file() or file.name.startswith((".", "README")):
            continue
        words = re.split("[-_.]", file.name.lower())
        splits = {SPELLINGS.get(word, word) for word in words} & {*SPLITS}
        if len(splits) == 1 and file.suffix.lower() in QREL_SUFFIXES:
            split = splits.pop()
            if split in files:
                what = f"{files[split].name} is {split} too"
                faults.append(Fault(file, None, what, "delete one of the two"))
            files[split] = file
        else:
            mend = f"call it qrels/SPLIT.tsv, SPLIT one of {', '.join(SPLITS)}"
            faults.append(Fault(file, None, NO_SPLIT, mend, f"{NO_SPLIT}; {mend}"))
    return {split: files[split] for split in SPLITS if split in files}


def read_qrels(file: Path, split: str, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Read the judgements of a qrels file: query, answer, score and split, each with its line.

    The file has a header, as BEIR's, or none: then the columns are query, 0, answer and score, as
    TREC's are, or query, answer and score.
    """
    if width := trec.count_columns(file):
        if width != trec.QREL_WIDTH:
            outcome = "no header; read as query, answer and score"
            faults.append(Fault(file, None, "no header", QREL_HEADER, outcome))
        for line, record in trec.read_judgements(file, faults, width=width):
            yield line, record | {"split": split}
        return
    columns: dict[str, str] = {}
    for line, record in read_records(file, faults):
        if not columns:
            names = {name.strip().lower().replace("_", "-"): name for name in record}
            for kind, spellings in QREL_COLUMNS.items():
                columns[kind] = next((names[name] for name in spellings if name in names), "")
            if not all(columns.values()):
                what = f"no header: the first line is {', '.join(record)[:80]!r}"
                faults.append(Fault(file, None, what, QREL_HEADER))
                return
            if unread := [name for name in record if name not in columns.values()]:
                log.warning("%s: columns not read, and not saved: %s", file, ", ".join(unread))
        yield line, {kind: record[name] for kind, name in columns.items()} | {"split": split}


def read_answers(file: BinaryIO) -> pl.DataFrame:
    """Read answers as `write_answers` wrote them, with the columns of `Dataset.answers`."""
    metadata = pl.col("metadata").struct
    section = pl.element().struct
    filled = pl.struct(section.field("title").fill_null(""), section.field("text").fill_null(""))
    sections = pl.coalesce(metadata.field("sections"), pl.lit([], dtype=SECTIONS))
    return pl.read_ndjson(file, schema=ANSWER_FIELDS).select(
        pl.col("_id").alias("id"),
        pl.col("title", "text").fill_null(""),
        metadata.field("url"),
        sections.list.eval(filled).alias("sections"),
        metadata.field("fields").fill_null(NO_METADATA).alias("metadata"),
    )


def write_answers(answers: pl.DataFrame, file: Path) -> None:
    """Write a ranker's answers, so that they are read fast: `metadata` stays a text in `fields`."""
    metadata = pl.struct("url", "sections", fields="metadata")
    answers.select(pl.col("id").alias("_id"), "title", "text", metadata=metadata).write_ndjson(file)


def write_rows(rows: pl.DataFrame, file: Path) -> None:
    """Write answers or queries (the columns of a `Dataset`) as JSONL, a record a row."""
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows.iter_rows(named=True):
            stream.write(json.dumps(_as_record(row), ensure_ascii=False) + "\n")


def _as_record(row: dict[str, Any]) -> Record:
    """Return a row as BEIR has it, without the metadata that it would have by default."""
    record: Record = {"_id": row["id"]}
    record |= {name: row[name] for name in ("title", "text") if name in row}
    metadata = {name: row[name] for name in METADATA_COLUMNS if row.get(name)}
    if metadata.get("thread") == row["id"]:
        del metadata["thread"]
    return {**record, "metadata": metadata | json.loads(row["metadata"])}


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
