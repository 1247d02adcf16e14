"""A data set: answers, queries of several types, and the labels that join them."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import polars as pl
from scipy import sparse

from twinrank.data import files
from twinrank.data.check import check
from twinrank.data.passages import answer_texts
from twinrank.errors import DataError, Fault

SPLITS = ("train", "validation", "test")


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
        queries: id, type, thread, text; lazy, so that texts are read only where needed.
        labels: query, answer, split; the right answers alone.
        judged_wrong: how many judgements had a score of zero or less, and are not labels.
        folder: where it was loaded from, as given.
    """

    name: str
    answers: pl.DataFrame
    queries: pl.LazyFrame
    labels: pl.DataFrame
    judged_wrong: int = 0
    folder: Path | None = None

    @classmethod
    def load(cls, path: Path) -> Dataset:
        """Read and check a folder in BEIR's layout.

        `corpus.jsonl`, `queries.jsonl`, and in `qrels/` any of train.tsv, validation.tsv
        (or dev.tsv) and test.tsv. A query without `metadata.type` is of the type `query`; one
        without `metadata.thread` is a thread of its own. Numbers as ids are read as text.

        Raises:
            DataError: with every fault of every file, by file and line.
        """
        path = Path(path)
        check(path)
        qrels = {name: files.read_qrels(file) for name, file in files.qrels_files(path).items()}
        parts = [rows.with_columns(split=pl.lit(name)) for name, rows in qrels.items()]
        judged = pl.concat([pl.DataFrame(schema=files.JUDGED), *parts])
        labels = judged.filter(pl.col("score") > 0).drop("score")
        return cls(
            name=path.resolve().name,
            answers=files.read_answers(path / files.ANSWERS),
            queries=files.scan_queries(path / files.QUERIES),
            labels=labels,
            judged_wrong=judged.height - labels.height,
            folder=path,
        )

    def save(self, path: Path) -> None:
        """Write BEIR's layout; what is not an attribute of `Dataset` (other metadata) is not kept.

        Every file is written beside and then renamed, so that a kill leaves whole files. A data
        set may be saved where it was loaded from.
        """
        path = Path(path)
        (path / "qrels").mkdir(parents=True, exist_ok=True)
        beside = {path / name: path / f"{name}.tmp" for name in (files.ANSWERS, files.QUERIES)}
        files.write_answers(self.answers, beside[path / files.ANSWERS])
        files.write_queries(self.queries, beside[path / files.QUERIES])
        for split in SPLITS:
            rows = self.labels.filter(pl.col("split") == split)
            file = path / "qrels" / f"{split}.tsv"
            if not rows.is_empty():
                beside[file] = file.with_suffix(".tmp")
                files.write_qrels(rows, beside[file])
        for old in files.qrels_files(path).values():
            if old not in beside:
                old.unlink()
        for file, written in beside.items():
            written.replace(file)

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
