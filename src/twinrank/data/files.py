"""The files of BEIR's layout, read and written by Polars."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import BinaryIO

import polars as pl

ANSWERS, QUERIES = "corpus.jsonl", "queries.jsonl"
SECTIONS = pl.List(pl.Struct({"title": pl.String, "text": pl.String}))
ANSWER_FIELDS: dict[str, pl.DataType | type[pl.DataType]] = {
    "_id": pl.String,
    "title": pl.String,
    "text": pl.String,
    "metadata": pl.Struct({"url": pl.String, "sections": SECTIONS}),
}
QUERY_FIELDS: dict[str, pl.DataType | type[pl.DataType]] = {
    "_id": pl.String,
    "text": pl.String,
    "metadata": pl.Struct({"type": pl.String, "thread": pl.String}),
}
QREL_FIELDS = {"query-id": pl.String, "corpus-id": pl.String, "score": pl.Int64}
JUDGED = {"query": pl.String, "answer": pl.String, "score": pl.Int64, "split": pl.String}


def qrels_files(path: Path) -> dict[str, Path]:
    """The qrels files of a data set by split; BEIR's dev.tsv holds the validation split."""
    names = {"train": ("train",), "validation": ("validation", "dev"), "test": ("test",)}
    found = {
        split: [path / "qrels" / f"{name}.tsv" for name in spellings]
        for split, spellings in names.items()
    }
    there = {split: [file for file in some if file.is_file()] for split, some in found.items()}
    return {split: some[0] for split, some in there.items() if some}


def twice_the_validation(path: Path) -> bool:
    """True if both validation.tsv and dev.tsv are there: which one counts?"""
    return all((path / "qrels" / f"{name}.tsv").is_file() for name in ("validation", "dev"))


def read_answers(file: Path | BinaryIO) -> pl.DataFrame:
    """Answers (id, title, text, url, sections) of a `corpus.jsonl`, by its path or open."""
    metadata = pl.col("metadata").struct
    section = pl.element().struct
    filled = pl.struct(section.field("title").fill_null(""), section.field("text").fill_null(""))
    sections = pl.coalesce(metadata.field("sections"), pl.lit([], dtype=SECTIONS))
    source = _plain(file) if isinstance(file, Path) else file
    return pl.read_ndjson(source, schema=ANSWER_FIELDS).select(
        pl.col("_id").alias("id"),
        pl.col("title").fill_null(""),
        pl.col("text").fill_null(""),
        metadata.field("url"),
        sections.list.eval(filled).alias("sections"),
    )


def scan_queries(file: Path) -> pl.LazyFrame:
    """Queries (id, type, thread, text) of a `queries.jsonl`, read when they are asked for."""
    metadata = pl.col("metadata").struct
    return pl.scan_ndjson(_plain(file), schema=QUERY_FIELDS).select(
        pl.col("_id").alias("id"),
        metadata.field("type").fill_null("query"),
        pl.coalesce(metadata.field("thread"), pl.col("_id")).alias("thread"),
        "text",
    )


def read_qrels(file: Path) -> pl.DataFrame:
    """Judgements (query, answer, score) of a qrels file."""
    rows = pl.read_csv(_plain(file), separator="\t", schema=QREL_FIELDS, quote_char=None)
    return rows.rename({"query-id": "query", "corpus-id": "answer"})


def _plain(file: Path) -> str:
    """A path in which Polars sees no pattern, though it holds a star or a bracket."""
    return glob.escape(str(file))


def write_answers(answers: pl.DataFrame, file: Path) -> None:
    """Write answers as a `corpus.jsonl`."""
    answers.select(
        pl.col("id").alias("_id"), "title", "text", metadata=pl.struct("url", "sections")
    ).write_ndjson(file)


def write_queries(queries: pl.LazyFrame, file: Path) -> None:
    """Write queries as a `queries.jsonl`, in bounded memory."""
    queries.select(
        pl.col("id").alias("_id"), "text", metadata=pl.struct("type", "thread")
    ).sink_ndjson(file)


def write_qrels(labels: pl.DataFrame, file: Path) -> None:
    """Write labels (query, answer) as a qrels file, each with a score of 1."""
    rows = labels.select("query", "answer", score=pl.lit(1))
    rows = rows.rename({"query": "query-id", "answer": "corpus-id"})
    rows.write_csv(file, separator="\t", quote_style="never")
