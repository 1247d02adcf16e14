"""Signals: each scores answers for queries. A ranker adds up several, each with a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from twinrank.data.texts import Readable
from twinrank.ranking.reader import Passages, Reader, among, pool_passages
from twinrank.ranking.towers import FrozenTowers


@dataclass(frozen=True)
class QueryBatch:
    """The texts of n queries and their vectors (n x d; n x 0 without an encoder)."""

    texts: Sequence[str]
    vectors: Float[np.ndarray, "n d"]

    def __len__(self) -> int:
        """Return n."""
        return len(self.vectors)

    def __getitem__(self, part: slice) -> QueryBatch:
        """Return some of the queries."""
        return QueryBatch(self.texts[part], self.vectors[part])


@runtime_checkable
class Signal(Protocol):
    """Scores m answers for queries. It never changes: a change of answers makes another one."""

    @property
    def width(self) -> int:
        """How many numbers a query takes while it is scored."""

    def scores(self, queries: QueryBatch) -> Float[np.ndarray, "n m"]:
        """Score every answer for every query."""

    def upsert(self, answers: pl.DataFrame, rows: Int[np.ndarray, " k"]) -> Signal:
        """Return the signal with k answers at their rows: in place of others, or behind all."""

    def select(self, mask: Bool[np.ndarray, " m"]) -> Signal:
        """Return the signal without the answers whose entry is false."""


@dataclass(frozen=True)
class DenseSignal:
    """Dot products of the vectors of queries and of answers' passages, times the towers' scale.

    Attributes:
        reader: makes features of texts.
        towers: make vectors of features.
        vectors: of the answers' passages (v x d), with offsets.
        offsets: of each answer (m x d), if training learned any.
    """

    reader: Reader
    towers: FrozenTowers
    vectors: Passages[np.ndarray]
    offsets: Float[np.ndarray, "m d"] | None = None

    @classmethod
    def from_features(
        cls,
        reader: Reader,
        towers: FrozenTowers,
        features: Passages[np.ndarray],
        offsets: Float[np.ndarray, "m d"] | None = None,
    ) -> DenseSignal:
        """Make the signal of the features of answers' passages."""
        vectors = towers.project_answers(features.rows)
        if offsets is not None:
            vectors = vectors + offsets[features.owners]
        return cls(reader, towers, features.of(vectors), offsets)

    @property
    def width(self) -> int:
        """See `Signal.width`."""
        return 2 * len(self.vectors.rows)

    def centres(self) -> Float[np.ndarray, "m d"]:
        """Return the mean of each answer's passages."""
        rows, owner = self.vectors.rows, self.vectors.owner
        if owner is None:
            return rows
        starts = np.searchsorted(owner, np.arange(self.vectors.answers))
        means: np.ndarray = np.add.reduceat(rows, starts) / np.bincount(owner)[:, None]
        return means.astype(rows.dtype)

    def embed_queries(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Return the vectors of queries."""
        return self.towers.project_queries(self.reader(texts))

    def embed_passages(self, texts: Sequence[str]) -> Float[np.ndarray, "v d"]:
        """Return the vectors of passages of answers, without an offset."""
        return self.towers.project_answers(self.reader.features(self.reader.documents(texts)))

    def embed_documents(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Return a vector of each of some texts, read as answers are, without an offset."""
        select = self.reader.selection
        return self.embed_passages(select([Readable.plain(t) for t in texts]) if select else texts)

    def scores(
        self, queries: QueryBatch, rows: Int[np.ndarray, " k"] | None = None
    ) -> Float[np.ndarray, "n k"]:
        """Score every answer, or the k answers at some rows, for every query."""
        passages = self.vectors if rows is None else among(self.vectors, rows)
        products = queries.vectors @ passages.rows.T
        products *= self.towers.scale
        return pool_passages(products, passages.owner, passages.answers)

    def upsert(self, answers: pl.DataFrame, rows: Int[np.ndarray, " k"]) -> DenseSignal:
        """See `Signal.upsert`; what takes another's place keeps its offset."""
        count = max(self.vectors.answers, int(rows.max(initial=-1)) + 1)
        passages = self.reader.answers(answers)
        vectors, owners = self.towers.project_answers(passages.rows), rows[passages.owners]
        offsets = self.offsets
        if offsets is not None:
            offsets = np.pad(offsets, ((0, count - len(offsets)), (0, 0)))
            vectors = vectors + offsets[owners]
        stays = ~np.isin(self.vectors.owners, rows)
        owner = np.concatenate([self.vectors.owners[stays], owners])
        order = np.argsort(owner, kind="stable")
        table = np.concatenate([self.vectors.rows[stays], vectors])[order]
        sections = None if self.vectors.owner is None else owner[order]
        return replace(self, vectors=Passages(table, sections, count), offsets=offsets)

    def select(self, mask: Bool[np.ndarray, " m"]) -> DenseSignal:
        """See `Signal.select`."""
        offsets = None if self.offsets is None else self.offsets[mask]
        return replace(self, vectors=among(self.vectors, np.flatnonzero(mask)), offsets=offsets)
