"""A data set: answers, queries of several types, and the labels that join them."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import polars as pl
from scipy import sparse

from twinrank.arguments import AnyPath, path_of
from twinrank.data import files
from twinrank.data.files import SPLITS
from twinrank.data.passages import answer_texts
from twinrank.data.records import Record, read_json_lines
from twinrank.data.validation import (
    FOLLOWS,
    JUDGEMENTS_SCHEMA,
    Ids,
    Numbered,
    check_answers,
    check_judgements,
    check_queries,
    say_outcomes,
)
from twinrank.errors import DataError, Fault
from twinrank.files import write_file

log = logging.getLogger(__name__)

Check = Callable[[Numbered, Path, list[Fault]], tuple[pl.DataFrame, Ids]]

NO_JUDGEMENTS = pl.DataFrame(schema=JUDGEMENTS_SCHEMA)
NO_LINES = pl.DataFrame(schema={"id": pl.String, "json": pl.String})


@dataclass(frozen=True)
class Queries:
    """Some queries with their labels, in the order of the file.

    Attributes:
        frame: id, type, thread, text; a row a query (n rows).
        labels: n x answers, 1 where an answer is right, columns in the order of the answers.
    """

    frame: pl.DataFrame
    labels: sparse.csr_array

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def texts(self) -> list[str]:
        """The texts (n)."""
        return self.frame["text"].to_list()


@dataclass(frozen=True)
class Source:
    """What one file of a data set said, to be written again with all that was there.

    Attributes:
        rows: as they were read from it.
        lines: id and text of every line, in order; without an id what is no row.
    """

    rows: pl.DataFrame
    lines: pl.DataFrame


@dataclass(frozen=True)
class Dataset:
    """Answers, queries and labels, as `load` reads them from BEIR's layout.

    Attributes:
        name: of its folder.
        answers: id, title, text, url (may be null), sections (a list of title and text).
        queries: id, type, thread, text.
        labels: query, answer, split; the right answers alone.
        judgements: query, answer, score, split and is_known, as they were read; those of zero or
            less, and of ids that are not known, are no labels.
        folder: where it was loaded from, as given.
        sources: the lines of its files.
        left_out: what could not be used, a sentence each.
    """

    name: str
    answers: pl.DataFrame
    queries: pl.LazyFrame
    labels: pl.DataFrame
    judgements: pl.DataFrame = field(default_factory=NO_JUDGEMENTS.clone)
    folder: Path | None = None
    sources: dict[str, Source] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: AnyPath, *, strict: bool = False) -> Dataset:
        """Read and check a folder in BEIR's layout.

        `corpus.jsonl`, `queries.jsonl`, and in `qrels/` any of train.tsv, validation.tsv (or dev,
        val, valid) and test.tsv. A query without `metadata.type` is of the type `query`; one
        without `metadata.thread` is a thread of its own. Numbers as ids are read as text, 7.0 as
        7. What cannot be used, and does not stand in the way of the rest, is left out and logged:
        answers and queries without a text, judgements of ids that are not there, repeated rows.

        Args:
            path: the folder.
            strict: refuse what would be left out.

        Raises:
            DataError: with every fault of every file, by file and line.
        """
        path = _folder(path)
        faults: list[Fault] = []
        answers, answer_ids, answer_lines = _read(path / files.ANSWERS, check_answers, faults)
        queries, query_ids, query_lines = _read(path / files.QUERIES, check_queries, faults)
        thread_of = dict(queries.select("id", "thread").iter_rows())
        threads: dict[str, tuple[Path, int, str]] = {}
        judged = []
        for split, file in files.qrels_files(path, faults).items():
            known = len(faults)
            rows = check_judgements(
                files.read_qrels(file, split, faults),
                file,
                (query_ids, thread_of),
                answer_ids,
                threads,
                faults,
            )
            if not any(score > 0 for _, _, score, _, _ in rows) and len(faults) == known:
                what, mend = "holds no label with a score above zero", "label some queries"
                faults.append(Fault(file, None, what, mend, what))
            judged += rows
        hard = [f for f in faults if not f.outcome or (strict and f.outcome != FOLLOWS)]
        if hard:
            raise DataError(hard)
        left_out = say_outcomes(faults)
        for sentence in left_out:
            log.warning("%s", sentence)
        judgements = pl.DataFrame(judged, schema=JUDGEMENTS_SCHEMA, orient="row")
        labels = judgements.filter((pl.col("score") > 0) & pl.col("is_known"))
        answers, queries = answers.drop("line"), queries.drop("line")
        return cls(
            name=path.resolve().name,
            answers=answers,
            queries=queries.lazy(),
            labels=labels.select("query", "answer", "split"),
            judgements=judgements,
            folder=path,
            sources={
                files.ANSWERS: Source(answers, answer_lines),
                files.QUERIES: Source(queries, query_lines),
            },
            left_out=tuple(left_out),
        )

    @property
    def judged_wrong(self) -> int:
        """How many judgements had a score of zero or less, and are not labels."""
        return self.judgements.filter(pl.col("score") <= 0).height

    def save(self, path: AnyPath) -> None:
        """Write BEIR's layout, with all that was there: unknown fields, scores, rows left out.

        A line whose row did not change is written as it was. Every file is whole or as it was
        before, whenever the writing ends. A data set may be saved where it was loaded from.
        """
        path = path_of(path, "path")
        if path.is_file():
            what = "a file, not a folder"
            raise DataError([Fault(path, None, what, "choose another folder for the data set")])
        queries = self.queries.collect()
        answer_lines = self._lines(files.ANSWERS, self.answers, files.merge_answer)
        query_lines = self._lines(files.QUERIES, queries, files.merge_query)
        write_file(path / files.ANSWERS, partial(files.write_lines, answer_lines))
        write_file(path / files.QUERIES, partial(files.write_lines, query_lines))
        before, written = files.qrels_files(path, []).values(), []
        for (split,), judged in self._judged(queries).group_by("split"):
            file = path / "qrels" / f"{split}.tsv"
            written.append(write_file(file, partial(files.write_qrels, judged)))
        for file in before:
            if file not in written:
                file.unlink()

    def _lines(
        self, name: str, rows: pl.DataFrame, merge: Callable[[Record, dict[str, Any]], Record]
    ) -> Iterator[str]:
        """Give the lines of a file: as they were read, but for rows that changed or are new."""
        source = self.sources.get(name, Source(rows.clear(), NO_LINES))
        now = {row["id"]: row for row in rows.iter_rows(named=True)}
        before = {row["id"]: row for row in source.rows.iter_rows(named=True)}
        for identity, text in source.lines.iter_rows():
            if identity is None or identity in now:
                row = now.pop(identity, None)
                changed = row is not None and row != before[identity]
                yield files.dump(merge(json.loads(text), row or {})) if changed else text
        yield from (files.dump(merge({}, row)) for row in now.values())

    def _judged(self, queries: pl.DataFrame) -> pl.DataFrame:
        """Give all judgements, in the order they were read, with the splits that labels have now.

        What is no label goes where the labels of its thread are.
        """
        pair = ["query", "answer"]
        read = self.judgements.with_row_index("place")
        is_label = pl.col("is_known") & (pl.col("score") > 0)
        right = read.filter(is_label).drop("split", "is_known").join(self.labels, on=pair)
        new = self.labels.join(right, on=pair, how="anti").with_columns(score=pl.lit(1.0))
        threads = queries.select("thread", query="id")
        of_thread = self.labels.join(threads, on="query").select("thread", now="split").unique()
        wrong = read.filter(~is_label).join(threads, on="query", how="left")
        wrong = wrong.join(of_thread, on="thread", how="left")
        wrong = wrong.with_columns(split=pl.coalesce("now", "split")).select(right.columns)
        return pl.concat([right, wrong, new], how="diagonal").sort("place", nulls_last=True)

    def split(self, name: str) -> Queries:
        """The labelled queries of `train`, `validation` or `test`.

        Raises:
            DataError: if there are none.
        """
        labels = self.labels.filter(pl.col("split") == name)
        if labels.is_empty():
            there = self.labels["split"].unique(maintain_order=True).to_list()
            what = f"no labels; this data set has {', '.join(there) or 'no labels at all'}"
            mend = "divide its labels with `twinrank split`, or import some"
            raise DataError([Fault(Path(self.name) / "qrels" / f"{name}.tsv", None, what, mend)])
        chosen = pl.col("id").is_in(labels["query"].unique().implode())
        return self._queries(self.queries.filter(chosen), labels)

    def some(self, ids: pl.Series) -> Queries:
        """The queries of these ids, with all their labels."""
        return self._queries(self.queries.filter(pl.col("id").is_in(ids.implode())), self.labels)

    def unlabelled(self) -> Queries:
        """The queries without a right answer in any split; their labels are all zero."""
        labelled = pl.col("id").is_in(self.labels["query"].unique().implode())
        return self._queries(self.queries.filter(~labelled), self.labels.clear())

    def for_pretraining(self) -> Queries:
        """The queries that pre-training may see, with the labels of `train` alone.

        Those labelled in train and the unlabelled ones, but for all of a thread that
        validation or test ask about.
        """
        train = pl.col("split") == "train"
        held_out = self.labels.filter(~train)["query"].unique()
        asked = self.queries.filter(pl.col("id").is_in(held_out.implode()))
        threads = asked.select(pl.col("thread").unique()).collect()["thread"]
        free = self.queries.filter(~pl.col("thread").is_in(threads.implode()))
        return self._queries(free, self.labels.filter(train))

    def fewer_labels(self, share: float, *, kind: str | None = None, seed: int = 0) -> Dataset:
        """The same data with the labels of a share of the threads in train alone.

        The others' queries stay, unlabelled. A smaller share of one seed is part of a larger.

        Args:
            share: of the threads with a label in train.
            kind: only queries of this type lose their labels; none means of any type.
            seed: another draws other threads.

        Raises:
            ValueError: if the share is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"a share of labels is above 0 and at most 1, not {share}")
        train = self.labels.filter(pl.col("split") == "train")
        asked = self.queries.filter(pl.col("id").is_in(train["query"].unique().implode()))
        threads = asked.select("id", "type", "thread").collect()
        line = threads["thread"].unique().sort()
        order = np.random.default_rng(seed).permutation(len(line))
        gone = line[order[math.ceil(share * len(line)) :]]
        loses = pl.col("thread").is_in(gone.implode())
        if kind is not None:
            loses &= pl.col("type") == kind
        queries = threads.filter(loses)["id"]
        stays = (pl.col("split") != "train") | ~pl.col("query").is_in(queries.implode())
        return replace(self, labels=self.labels.filter(stays), folder=None)

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types there are, in alphabetical order."""
        return tuple(self.queries.select(pl.col("type").unique().sort()).collect()["type"])

    def labelled(self) -> dict[str, dict[str, int]]:
        """How many labelled queries there are, by split and type."""
        types = self.queries.select("id", "type").collect(engine="streaming")
        asked = self.labels.select("query", "split").unique()
        placed = asked.join(types, left_on="query", right_on="id").group_by("split", "type").len()
        counts: dict[tuple[str, str], int] = {(s, t): n for s, t, n in placed.iter_rows()}
        there = [split for split in SPLITS if any(split == s for s, _ in counts)]
        return {s: {t: counts[s, t] for t in self.types if (s, t) in counts} for s in there}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (16 hex digits) of the content, however it came here."""
        content = _Hash()
        labels = self.labels.sort("split", "query", "answer")
        for rows in (self.answers.lazy(), self.queries, labels.lazy()):
            rows.sink_ndjson(cast("IO[bytes]", content))
        return content.sha256.hexdigest()[:16]

    def answer_texts(self) -> list[str]:
        """What an encoder reads of each answer; see `answer_texts`."""
        return answer_texts(self.answers)

    def _queries(self, chosen: pl.LazyFrame, labels: pl.DataFrame) -> Queries:
        frame = chosen.collect(engine="streaming")
        rows = frame.select(query=pl.col("id")).with_row_index("row")
        columns = self.answers.select(answer=pl.col("id")).with_row_index("column")
        placed = labels.join(rows, on="query").join(columns, on="answer")
        places = (placed["row"].to_numpy(), placed["column"].to_numpy())
        ones = np.ones(placed.height, dtype=np.float32)
        matrix = sparse.csr_array((ones, places), shape=(frame.height, self.answers.height))
        matrix.sum_duplicates()
        return Queries(frame, matrix)


class _Hash(io.RawIOBase):
    """A file that keeps only the digest of what is written: queries are hashed in passing."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 (any buffer)
        self.sha256.update(data)
        return len(data)


def _folder(path: AnyPath) -> Path:
    path = path_of(path, "a data set's folder")
    if path.is_file():
        what, mend = "a file, not a folder", "give the folder of a data set"
        raise DataError([Fault(path, None, what, mend)])
    if not path.is_dir():
        raise DataError([Fault(path, None, "no such folder", "check the path")])
    return path


def _read(file: Path, check: Check, faults: list[Fault]) -> tuple[pl.DataFrame, Ids, pl.DataFrame]:
    """Read the rows of a JSONL file, their ids, and its lines."""
    lines: list[tuple[int, str]] = []
    unread: list[Fault] = []

    def records() -> Iterator[tuple[int, Record]]:
        for number, record, text in read_json_lines(file, unread):
            lines.append((number, text.rstrip("\r\n")))
            yield number, record

    before = len(faults)
    rows, ids = check(records(), file, faults)
    if not ids.lines and not unread and len(faults) == before:
        unread.append(Fault(file, None, f"holds no {ids.kind}", "write one JSON object a line"))
    ids.is_whole &= not unread
    faults[before:] = sorted([*unread, *faults[before:]], key=lambda fault: fault.line or 0)
    source = pl.DataFrame(lines, schema={"line": pl.Int64, "json": pl.String}, orient="row")
    source = source.join(rows.select("line", "id"), on="line", how="left", maintain_order="left")
    return rows, ids, source.select("id", "json")
