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
        frame: columns as in `Dataset.queries`; a row a query (n rows).
        labels: n x answers, 1 where an answer is right, columns in the order of the answers.
        grades: the same with the score of each judgement, where there are any.
    """

    frame: pl.DataFrame
    labels: sparse.csr_array
    grades: sparse.csr_array | None = None

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
        answers: id, title, text, url (may be null), sections (a list of title and text), metadata.
        queries: id, type, thread, text, metadata.
        labels: query, answer, split; the right answers alone.
        judgements: query, answer, score and split, as they were read; those of zero or less are no
            labels.
        folder: where it was loaded from, as given; none once it differs from what is there.
        left_out: what could not be used, a sentence for each kind.

    A `metadata` is the JSON text of an object: all fields of a record that have no column.
    """

    name: str
    answers: pl.DataFrame
    queries: pl.DataFrame
    labels: pl.DataFrame
    judgements: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=JUDGEMENTS_SCHEMA))
    folder: Path | None = None
    left_out: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: AnyPath, *, strict: bool = False, needs_queries: bool = True) -> Dataset:
        """Read and check a folder in BEIR's layout.

        `corpus.jsonl`, `queries.jsonl` (or packed as `.gz`), and in `qrels/` any of train.tsv,
        validation.tsv (or dev, val, valid) and test.tsv, as BEIR or TREC has them. A query without
        `type` is of the type `query`; one without `thread` is a thread by itself. Numbers as ids
        are read as text, 7.0 as 7. Lines that cannot be used are left out, and each kind of them
        is logged with its count; but not where they are more than the rest of a file.

        Args:
            path: the folder.
            strict: refuse what would be left out.
            needs_queries: a folder without any is refused.

        Raises:
            DataError: with every fault of every file, by file and line.
        """
        path = path_of(path, "a data set's folder")
        if not path.is_dir():
            raise DataError([Fault(path, None, "no such folder", "give the folder of a data set")])
        faults: list[Fault] = []
        answers = _read_rows(beir.find_rows(path, beir.ANSWERS), "answer", faults)
        queries = _read_rows(beir.find_rows(path, beir.QUERIES), "query", faults, needs_queries)
        judged = _read_judgements(path, queries, answers, faults)
        if any(strict or not (fault.outcome or fault.line) for fault in faults):
            raise DataError(fault for fault in faults if strict or not fault.outcome)
        left_out = describe_outcomes(faults)
        for sentence in left_out:
            log.warning("%s", sentence)
        dataset = cls.of_rows(path.resolve().name, answers, queries, judged)
        return replace(dataset, folder=path, left_out=(*left_out, *dataset.left_out))

    @classmethod
    def of_rows(cls, name: str, answers: Rows, queries: Rows, judged: list[Judgement]) -> Dataset:
        """Make a data set of rows that were checked."""
        usable = [j for j in judged if j[0] in queries.usable and j[1] in answers.usable]
        judgements = pl.DataFrame(usable, schema=JUDGEMENTS_SCHEMA, orient="row")
        left_out: tuple[str, ...] = ()
        if gone := len(judged) - len(usable):
            left_out = (f"{name}: judgements of rows that are left out fell away: {gone:,}",)
            log.warning("%s", *left_out)
        return cls(
            name=name,
            answers=answers.frame(),
            queries=queries.frame(),
            labels=judgements.filter(pl.col("score") > 0).select("query", "answer", "split"),
            judgements=judgements,
            left_out=left_out,
        )

    @property
    def judged_wrong(self) -> int:
        """How many judgements had a score of zero or less, and are not labels."""
        return self.judgements.filter(pl.col("score") <= 0).height

    def save(self, path: AnyPath) -> None:
        """Write BEIR's layout, with scores and metadata, but without the rows that were left out.

        Every file is whole or as it was before, whenever the writing ends. A data set may be saved
        where it was loaded from.
        """
        path = path_of(path, "path")
        if path.is_file():
            what = "a file, not a folder"
            raise DataError([Fault(path, None, what, "choose another folder for the data set")])
        if self.left_out:
            log.warning("%s: written without the rows that were left out when it was read", path)
        for name, rows in ((beir.ANSWERS, self.answers), (beir.QUERIES, self.queries)):
            write_file(path / name, partial(beir.write_rows, rows))
            (path / f"{name}.gz").unlink(missing_ok=True)
        self.save_labels(path)

    def save_labels(self, path: Path) -> None:
        """Write the qrels files alone, where answers and queries are there as they were read."""
        before, written = beir.find_qrels(path, []).values(), []
        divided = self._divide_judgements()
        for (split,), judged in divided.group_by("split"):
            file = path / "qrels" / f"{split}.tsv"
            written.append(write_file(file, partial(beir.write_qrels, judged)))
        for file in before:
            if file not in written:
                file.unlink()

    def _divide_judgements(self) -> pl.DataFrame:
        """Return all judgements, in the order they were read, with the splits that labels have now.

        What is no label goes where the labels of its thread are.
        """
        pair = ["query", "answer"]
        is_there = _is_in("query", self.queries["id"]) & _is_in("answer", self.answers["id"])
        read = self.judgements.filter(is_there).with_row_index("row")
        labels = self.labels.join(read.drop("split"), on=pair, how="left")
        threads = self.queries.select("thread", query="id")
        split_of = labels.join(threads, on="query").select("thread", now="split").unique()
        rest = read.filter(pl.col("score") <= 0).join(threads, on="query", how="left")
        rest = rest.join(split_of, on="thread", how="left")
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
        return self._queries(~_is_in("thread", asked["thread"]), self.labels.filter(train))

    def fewer_labels(self, share: float, *, kind: str | None = None, seed: int = 0) -> Dataset:
        """The same data with the labels of a share of the threads in train alone.

        The queries of the rest stay, unlabelled. A smaller share of one seed is part of a larger.

        Args:
            share: of the threads with a label in train, above 0.
            kind: only queries of this type lose their labels; none means of any type.
            seed: another draws other threads.
        """
        train = self.labels.filter(pl.col("split") == "train")
        queries = self.queries.filter(_is_in("id", train["query"]))
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
        return tuple(self.queries["type"].unique().sort())

    def labelled(self) -> dict[str, dict[str, int]]:
        """How many labelled queries there are, by split and type."""
        types = self.queries.select("type", query="id")
        asked = self.labels.select("query", "split").unique().join(types, on="query")
        counts = asked.group_by("split", "type").len().sort("type").rows()
        by_split = {name: {kind: n for s, kind, n in counts if s == name} for name in SPLITS}
        return {name: of_types for name, of_types in by_split.items() if of_types}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (16 hex digits) of what a ranker learns from: all but the metadata."""
        content = hashlib.sha256()
        labels = self.labels.sort("split", "query", "answer")
        for rows in (self.answers, self.queries, labels):
            rows = rows.drop("metadata", strict=False)
            for part in rows.iter_slices(ROWS_HASHED_AT_ONCE):
                content.update(part.write_ndjson().encode())
        return content.hexdigest()[:16]

    def answer_texts(self) -> list[str]:
        """What an encoder reads of each answer; see `answer_texts`."""
        return answer_texts(self.answers)

    def _queries(self, is_chosen: pl.Expr, labels: pl.DataFrame) -> Queries:
        frame = self.queries.filter(is_chosen)
        rows = frame.select(query="id").with_row_index("row")
        columns = self.answers.select(answer="id").with_row_index("column")
        scores = self.judgements.select("query", "answer", "score").unique(["query", "answer"])
        cells = labels.join(rows, on="query").join(columns, on="answer")
        cells = cells.join(scores, on=["query", "answer"], how="left")
        where = (cells["row"].to_numpy(), cells["column"].to_numpy())
        shape = (frame.height, self.answers.height)
        values = (np.ones(cells.height, np.float32), cells["score"].fill_null(1.0).to_numpy())
        matrices = [sparse.csr_array((of_cells, where), shape=shape) for of_cells in values]
        for matrix in matrices:
            matrix.sum_duplicates()
        return Queries(frame, *matrices)


def _is_in(column: str, values: pl.Series) -> pl.Expr:
    return pl.col(column).is_in(values.unique().implode())


def _read_rows(file: Path, kind: str, faults: list[Fault], needed: bool = True) -> Rows:
    """Read a JSONL file of answers or queries; where none is needed, it may be missing or empty."""
    before = len(faults)
    if not needed and not file.exists():
        return Rows(kind, file, faults)
    rows = check_rows(kind, read_records(file, faults), file, faults)
    if needed and not rows.lines and len(faults) == before:
        faults.append(Fault(file, None, f"holds no {kind}", "write one JSON object a line"))
    _refuse_most(file, faults, before, len(rows.usable))
    return rows


def _refuse_most(file: Path, faults: list[Fault], before: int, usable: int) -> None:
    """Refuse a file of which more lines are faulty than can be used: its form is another one."""
    faulty = [fault for fault in faults[before:] if fault.line and not fault.outcome]
    if len(faulty) > usable:
        what = f"more lines are faulty ({len(faulty):,}) than can be used ({usable:,})"
        faults.append(Fault(file, None, what, "mend the lines above"))


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
        _refuse_most(file, faults, known, len(rows))
        judged += rows
    return judged
