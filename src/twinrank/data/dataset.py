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
from twinrank.data import beir
from twinrank.data.beir import SPLITS
from twinrank.data.records import Record, read_json_lines
from twinrank.data.texts import answer_texts
from twinrank.data.validation import (
    FOLLOWS,
    JUDGEMENTS_SCHEMA,
    Judgement,
    Numbered,
    Rows,
    check_answers,
    check_judgements,
    check_queries,
    describe_outcomes,
)
from twinrank.errors import DataError, Fault
from twinrank.files import write_file

log = logging.getLogger(__name__)


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
        sources: for each file, `json`, the text of every line, with the row that was read from
            it (nulls where there is none), so that `save` loses nothing.
        left_out: what could not be used, a sentence for each kind.
    """

    name: str
    answers: pl.DataFrame
    queries: pl.LazyFrame
    labels: pl.DataFrame
    judgements: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=JUDGEMENTS_SCHEMA))
    folder: Path | None = None
    sources: dict[str, pl.DataFrame] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: AnyPath, *, strict: bool = False) -> Dataset:
        """Read and check a folder in BEIR's layout.

        `corpus.jsonl`, `queries.jsonl`, and in `qrels/` any of train.tsv, validation.tsv (or dev,
        val, valid) and test.tsv. A query without `metadata.type` is of the type `query`; one
        without `metadata.thread` is a thread by itself. Numbers as ids are read as text, 7.0 as
        7. What cannot be used, and does not stand in the way of the rest, is left out and logged:
        answers and queries without a text, judgements of ids that are not there, repeated rows.

        Args:
            path: the folder.
            strict: refuse what would be left out.

        Raises:
            DataError: with every fault of every file, by file and line.
        """
        path = path_of(path, "a data set's folder")
        if path.is_file():
            what, mend = "a file, not a folder", "give the folder of a data set"
            raise DataError([Fault(path, None, what, mend)])
        if not path.is_dir():
            raise DataError([Fault(path, None, "no such folder", "check the path")])
        faults: list[Fault] = []
        sources = {}
        answers, sources[beir.ANSWERS] = _read(path / beir.ANSWERS, check_answers, faults)
        queries, sources[beir.QUERIES] = _read(path / beir.QUERIES, check_queries, faults)
        judgements = _read_judgements(path, queries, answers, faults)
        hard = [f for f in faults if not f.outcome or (strict and f.outcome != FOLLOWS)]
        if hard:
            raise DataError(hard)
        left_out = describe_outcomes(faults)
        for sentence in left_out:
            log.warning("%s", sentence)
        dataset = cls.of_rows(path.resolve().name, answers, queries, judgements)
        return replace(dataset, folder=path, sources=sources, left_out=tuple(left_out))

    @classmethod
    def of_rows(cls, name: str, answers: Rows, queries: Rows, judged: list[Judgement]) -> Dataset:
        """Make a data set of rows that were checked."""
        judgements = pl.DataFrame(judged, schema=JUDGEMENTS_SCHEMA, orient="row")
        labels = judgements.filter((pl.col("score") > 0) & pl.col("is_known"))
        return cls(
            name=name,
            answers=answers.frame.drop("line"),
            queries=queries.frame.drop("line").lazy(),
            labels=labels.select("query", "answer", "split"),
            judgements=judgements,
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
        answer_lines = self._lines(beir.ANSWERS, self.answers, beir.merge_answer)
        query_lines = self._lines(beir.QUERIES, queries, beir.merge_query)
        write_file(path / beir.ANSWERS, partial(beir.write_lines, answer_lines))
        write_file(path / beir.QUERIES, partial(beir.write_lines, query_lines))
        before, written = beir.find_qrels(path, []).values(), []
        for (split,), judged in self._judged(queries).group_by("split"):
            file = path / "qrels" / f"{split}.tsv"
            written.append(write_file(file, partial(beir.write_qrels, judged)))
        for file in before:
            if file not in written:
                file.unlink()

    def _lines(
        self, name: str, rows: pl.DataFrame, merge: Callable[[Record, dict[str, Any]], Record]
    ) -> Iterator[str]:
        """Give the lines of a file: as they were read, but for rows that changed or are new."""
        new = {row["id"]: row for row in rows.iter_rows(named=True)}
        source = self.sources.get(name)
        for before in source.iter_rows(named=True) if source is not None else ():
            text, identity = before.pop("json"), before["id"]
            if identity is None or identity in new:
                row = new.pop(identity, None)
                changed = row is not None and row != before
                yield beir.dump(merge(json.loads(text), row or {})) if changed else text
        yield from (beir.dump(merge({}, row)) for row in new.values())

    def _judged(self, queries: pl.DataFrame) -> pl.DataFrame:
        """Give all judgements, in the order they were read, with the splits that labels have now.

        What is no label goes where the labels of its thread are.
        """
        pair = ["query", "answer"]
        read = self.judgements.with_row_index("row")
        is_label = pl.col("is_known") & (pl.col("score") > 0)
        right = read.filter(is_label).drop("split", "is_known").join(self.labels, on=pair)
        new = self.labels.join(right, on=pair, how="anti").with_columns(score=pl.lit(1.0))
        threads = queries.select("thread", query="id")
        of_thread = self.labels.join(threads, on="query").select("thread", now="split").unique()
        wrong = read.filter(~is_label).join(threads, on="query", how="left")
        wrong = wrong.join(of_thread, on="thread", how="left")
        wrong = wrong.with_columns(split=pl.coalesce("now", "split")).select(right.columns)
        return pl.concat([right, wrong, new], how="diagonal").sort("row", nulls_last=True)

    def split(self, name: str) -> Queries:
        """The labelled queries of `train`, `validation` or `test`.

        Raises:
            DataError: if there are none.
        """
        labels = self.labels.filter(pl.col("split") == name)
        if labels.is_empty():
            known = self.labels["split"].unique(maintain_order=True).to_list()
            what = f"no labels; this data set has {', '.join(known) or 'no labels at all'}"
            mend = "divide its labels with `twinrank split`, or import some"
            raise DataError([Fault(Path(self.name) / "qrels" / f"{name}.tsv", None, what, mend)])
        return self._queries(_is_in("id", labels["query"]), labels)

    def select(self, ids: pl.Series) -> Queries:
        """The queries of these ids, with all their labels."""
        return self._queries(_is_in("id", ids), self.labels)

    def for_pretraining(self) -> Queries:
        """The queries that pre-training may see, with the labels of `train` alone.

        Those labelled in train and the unlabelled ones, but for all of a thread that
        validation or test ask about.
        """
        train = pl.col("split") == "train"
        asked = self.queries.filter(_is_in("id", self.labels.filter(~train)["query"]))
        threads = asked.select("thread").collect()["thread"]
        return self._queries(~_is_in("thread", threads), self.labels.filter(train))

    def fewer_labels(self, share: float, *, kind: str | None = None, seed: int = 0) -> Dataset:
        """The same data with the labels of a share of the threads in train alone.

        The queries of the rest stay, unlabelled. A smaller share of one seed is part of a larger.

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
        asked = self.queries.filter(_is_in("id", train["query"]))
        queries = asked.select("id", "type", "thread").collect()
        threads = queries["thread"].unique().sort()
        order = np.random.default_rng(seed).permutation(len(threads))
        loses = _is_in("thread", threads[order[math.ceil(share * len(threads)) :]])
        if kind is not None:
            loses &= pl.col("type") == kind
        stays = (pl.col("split") != "train") | ~_is_in("query", queries.filter(loses)["id"])
        return replace(self, labels=self.labels.filter(stays), folder=None)

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types there are, in alphabetical order."""
        return tuple(self.queries.select(pl.col("type").unique().sort()).collect()["type"])

    def labelled(self) -> dict[str, dict[str, int]]:
        """How many labelled queries there are, by split and type."""
        types = self.queries.select("type", query="id").collect(engine="streaming")
        asked = self.labels.select("query", "split").unique().join(types, on="query")
        counts = {
            (split, kind): n for split, kind, n in asked.group_by("split", "type").len().rows()
        }
        counted = {s: {t: counts[s, t] for t in self.types if (s, t) in counts} for s in SPLITS}
        return {split: of_types for split, of_types in counted.items() if of_types}

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

    def _queries(self, is_chosen: pl.Expr, labels: pl.DataFrame) -> Queries:
        frame = self.queries.filter(is_chosen).collect(engine="streaming")
        rows = frame.select(query="id").with_row_index("row")
        columns = self.answers.select(answer="id").with_row_index("column")
        cells = labels.join(rows, on="query").join(columns, on="answer")
        where = (cells["row"].to_numpy(), cells["column"].to_numpy())
        ones = np.ones(cells.height, dtype=np.float32)
        matrix = sparse.csr_array((ones, where), shape=(frame.height, self.answers.height))
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


def _is_in(column: str, values: pl.Series) -> pl.Expr:
    return pl.col(column).is_in(values.unique().implode())


def _read(
    file: Path, check: Callable[[Numbered, Path, list[Fault]], Rows], faults: list[Fault]
) -> tuple[Rows, pl.DataFrame]:
    """Read a JSONL file: the rows that can be used, and every line with the row it gave."""
    lines: list[tuple[int, str]] = []
    unread: list[Fault] = []

    def read_records() -> Iterator[tuple[int, Record]]:
        for number, record, text in read_json_lines(file, unread):
            lines.append((number, text.rstrip("\r\n")))
            yield number, record

    before = len(faults)
    rows = check(read_records(), file, faults)
    if not rows.lines and not unread and len(faults) == before:
        unread.append(Fault(file, None, f"holds no {rows.kind}", "write one JSON object a line"))
    rows.is_whole &= not unread
    faults[before:] = sorted([*unread, *faults[before:]], key=lambda fault: fault.line or 0)
    source = pl.DataFrame(lines, schema={"line": pl.Int64, "json": pl.String}, orient="row")
    source = source.join(rows.frame, on="line", how="left", maintain_order="left")
    return rows, source.drop("line")


def _read_judgements(
    path: Path, queries: Rows, answers: Rows, faults: list[Fault]
) -> list[Judgement]:
    """Read all qrels files of a data set."""
    judged: list[Judgement] = []
    threads: dict[str, tuple[Path, int, str]] = {}
    for split, file in beir.find_qrels(path, faults).items():
        known = len(faults)
        records = beir.read_qrels(file, split, faults)
        rows = [*check_judgements(records, file, queries, answers, threads)]
        if not any(score > 0 for _, _, score, _, _ in rows) and len(faults) == known:
            what, mend = "holds no label with a score above zero", "label some queries"
            faults.append(Fault(file, None, what, mend, what))
        judged += rows
    return judged
