"""A data set: answers, queries of several types, and the labels that join them."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from twinrank.arguments import AnyPath, path_of
from twinrank.data import beir
from twinrank.data.beir import SPLITS
from twinrank.data.records import read_records
from twinrank.data.texts import answer_texts
from twinrank.data.validation import (
    JUDGEMENTS_SCHEMA,
    Judgement,
    Rows,
    check_judgements,
    check_rows,
    describe_outcomes,
)
from twinrank.errors import DataError, Fault
from twinrank.files import write_file

log = logging.getLogger(__name__)

ROWS_HASHED_AT_ONCE = 20_000


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
        judgements: query, answer, score and split, as they were read; those of zero or less, and
            of ids that are not known, are no labels.
        folder: where it was loaded from, as given; none once it differs from what is there.
        source: where it was loaded from: there `save` finds all that is not read here.
        left_out: what could not be used, a sentence for each kind.
    """

    name: str
    answers: pl.DataFrame
    queries: pl.LazyFrame
    labels: pl.DataFrame
    judgements: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=JUDGEMENTS_SCHEMA))
    folder: Path | None = None
    source: Path | None = None
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
        if not path.is_dir():
            raise DataError([Fault(path, None, "no such folder", "give the folder of a data set")])
        faults: list[Fault] = []
        answers = _read_rows(path / beir.ANSWERS, "answer", faults)
        queries = _read_rows(path / beir.QUERIES, "query", faults)
        judged = _read_judgements(path, queries, answers, faults)
        if refused := [fault for fault in faults if strict or not fault.outcome]:
            raise DataError(refused)
        left_out = describe_outcomes(faults)
        for sentence in left_out:
            log.warning("%s", sentence)
        dataset = cls.of_rows(path.resolve().name, answers, queries, judged)
        return replace(dataset, folder=path, source=path, left_out=tuple(left_out))

    @classmethod
    def of_rows(cls, name: str, answers: Rows, queries: Rows, judged: list[Judgement]) -> Dataset:
        """Make a data set of rows that were checked."""
        judgements = pl.DataFrame(judged, schema=JUDGEMENTS_SCHEMA, orient="row")
        labels = _find_labels(judgements, queries.frame(), answers.frame())
        return cls(
            name=name,
            answers=answers.frame(),
            queries=queries.frame().lazy(),
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
        for name, kind, rows in (
            (beir.ANSWERS, "answer", self.answers),
            (beir.QUERIES, "query", queries),
        ):
            source = self.source / name if self.source else None
            write_file(path / name, partial(beir.write_rows, source, kind, rows))
        before, written = beir.find_qrels(path, []).values(), []
        for (split,), judged in self._divide_judgements(queries).group_by("split"):
            file = path / "qrels" / f"{split}.tsv"
            written.append(write_file(file, partial(beir.write_qrels, judged)))
        for file in before:
            if file not in written:
                file.unlink()

    def _divide_judgements(self, queries: pl.DataFrame) -> pl.DataFrame:
        """Give all judgements, in the order they were read, with the splits that labels have now.

        What is no label goes where the labels of its thread are.
        """
        pair = ["query", "answer"]
        read = self.judgements.with_row_index("row")
        labels = self.labels.join(read.drop("split"), on=pair, how="left")
        threads = queries.select("thread", query="id")
        split_of = labels.join(threads, on="query").select("thread", now="split").unique()
        rest = read.join(_find_labels(read, queries, self.answers), on="row", how="anti")
        rest = rest.join(threads, on="query", how="left").join(split_of, on="thread", how="left")
        rest = rest.with_columns(split=pl.coalesce("now", "split"))
        everything = pl.concat([labels.select(read.columns), rest.select(read.columns)])
        return everything.with_columns(pl.col("score").fill_null(1.0)).sort("row", nulls_last=True)

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
            share: of the threads with a label in train, above 0.
            kind: only queries of this type lose their labels; none means of any type.
            seed: another draws other threads.
        """
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
        counts = asked.group_by("split", "type").len().sort("type").rows()
        by_split = {name: {kind: n for s, kind, n in counts if s == name} for name in SPLITS}
        return {name: of_types for name, of_types in by_split.items() if of_types}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (16 hex digits) of the content, however it came here."""
        content = hashlib.sha256()
        labels = self.labels.sort("split", "query", "answer")
        for rows in (self.answers, self.queries.collect(), labels):
            for part in rows.iter_slices(ROWS_HASHED_AT_ONCE):
                content.update(part.write_ndjson().encode())
        return content.hexdigest()[:16]

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


def _is_in(column: str, values: pl.Series) -> pl.Expr:
    return pl.col(column).is_in(values.unique().implode())


def _find_labels(
    judgements: pl.DataFrame, queries: pl.DataFrame, answers: pl.DataFrame
) -> pl.DataFrame:
    """Find the judgements that are labels: of a score above zero, and of rows that are there."""
    is_known = _is_in("query", queries["id"]) & _is_in("answer", answers["id"])
    return judgements.filter((pl.col("score") > 0) & is_known)


def _read_rows(file: Path, kind: str, faults: list[Fault]) -> Rows:
    """Read a JSONL file of answers or queries."""
    before = len(faults)
    rows = check_rows(kind, read_records(file, faults), file, faults)
    if not rows.lines and len(faults) == before:
        faults.append(Fault(file, None, f"holds no {kind}", "write one JSON object a line"))
    return rows


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
        if not any(score > 0 for _, _, score, _ in rows) and len(faults) == known:
            what, mend = "holds no label with a score above zero", "label some queries"
            faults.append(Fault(file, None, what, mend, what))
        judged += rows
    return judged
