"""Labelled queries of the past, the signals they give, and what newcomers get instead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy import sparse

from twinrank.ranking.signals import QueryBatch, Signal
from twinrank.ranking.towers import FrozenTowers
from twinrank.recipe import MemorySettings


@dataclass(frozen=True)
class PastQueries:
    """Labelled queries, and which answers came too late to be among their labels.

    Attributes:
        texts: of the queries (p); empty in a ranker that was shared without them.
        ids: of the queries; None where the data had none.
        vectors: of the queries (p x d).
        labels: p x m, 1 where an answer is right.
        newcomers: the answers (m) that were added after training.
    """

    texts: Sequence[str]
    ids: Sequence[str | None]
    vectors: Float[np.ndarray, "p d"]
    labels: sparse.csr_array
    newcomers: Bool[np.ndarray, " m"]

    @cached_property
    def prior(self) -> Float[np.ndarray, " m"]:
        """log(1 + labels) of each answer; a newcomer's is the average answer's."""
        counts = np.asarray(self.labels.sum(axis=0), np.float32).ravel()
        average = float(counts[~self.newcomers].mean()) if not self.newcomers.all() else 0.0
        prior: np.ndarray = np.log1p(np.where(self.newcomers, np.float32(average), counts))
        return prior

    def solved_by(self, answer: int) -> list[str]:
        """Return the texts of the queries that are labelled with an answer, if they are known."""
        texts = (self.texts[query] for query in self.labels[:, [answer]].nonzero()[0])
        return [text for text in texts if text]

    @property
    def has_texts(self) -> bool:
        """Whether the texts of the queries are known."""
        return any(self.texts)

    def without_texts(self) -> PastQueries:
        """Return the same without what people wrote; vectors and labels stay."""
        count = len(self.texts)
        return replace(self, texts=[""] * count, ids=[None] * count)

    def upsert(self, rows: Int[np.ndarray, " k"]) -> PastQueries:
        """Return the same with answers at some rows; those behind all others are newcomers."""
        count = len(self.newcomers)
        new = int((rows >= count).sum())
        parts = (self.labels.data, self.labels.indices, self.labels.indptr)
        return replace(
            self,
            labels=sparse.csr_array(parts, shape=(self.labels.shape[0], count + new)),
            newcomers=np.append(self.newcomers, np.ones(new, bool)),
        )

    def select(self, mask: Bool[np.ndarray, " m"]) -> PastQueries:
        """Return the same without some answers; queries stay, some without a label."""
        return replace(self, labels=self.labels[:, mask], newcomers=self.newcomers[mask])

    def relabel(
        self,
        answer: int,
        texts: Sequence[str],
        embed: Callable[[Sequence[str]], Float[np.ndarray, "n d"]],
        *,
        newcomer: bool,
    ) -> PastQueries:
        """Label queries with an answer, by its row, that was removed and came back.

        Texts that are not here are added, with the vectors that `embed` gives them.
        """
        rows_of: dict[str, list[int]] = {}
        for row, text in enumerate(self.texts):
            rows_of.setdefault(text, []).append(row)
        rows: list[int] = []
        new: list[str] = []
        for text in texts:
            if rows_of.get(text):
                rows.append(rows_of[text].pop(0))
            else:
                rows.append(len(self.texts) + len(new))
                new.append(text)
        queries, answers = self.labels.nonzero()
        queries = np.append(queries, np.array(rows, np.int64))
        answers = np.append(answers, np.full(len(rows), answer))
        labels = label_matrix(queries, answers, (len(self.texts) + len(new), len(self.newcomers)))
        newcomers = self.newcomers.copy()
        newcomers[answer] = newcomer
        past = replace(self, labels=labels, newcomers=newcomers)
        if not new:
            return past
        return replace(
            past,
            texts=[*self.texts, *new],
            ids=[*self.ids, *[None] * len(new)],
            vectors=np.concatenate([self.vectors, embed(new)]),
        )


def label_matrix(
    queries: Int[np.ndarray, " labels"], answers: Int[np.ndarray, " labels"], shape: tuple[int, int]
) -> sparse.csr_array:
    """Return the matrix (p x m) that has 1 at each label's query and answer."""
    return sparse.csr_array((np.ones(len(queries), np.float32), (queries, answers)), shape=shape)


@dataclass(frozen=True)
class SignalOfPast(ABC):
    """The part that signals of past queries share: they follow a change of answers."""

    past: PastQueries

    @property
    def width(self) -> int:
        """See `Signal.width`."""
        return sum(self.past.labels.shape)  # texts may be left out

    @abstractmethod
    def scores(self, queries: QueryBatch) -> Float[np.ndarray, "n m"]:
        """See `Signal.scores`."""

    def upsert(self, answers: pl.DataFrame, rows: Int[np.ndarray, " k"]) -> SignalOfPast:  # noqa: ARG002
        """See `Signal.upsert`; what takes another's place keeps its past queries."""
        return self.with_past(self.past.upsert(rows))

    def select(self, mask: Bool[np.ndarray, " m"]) -> SignalOfPast:
        """See `Signal.select`."""
        return self.with_past(self.past.select(mask))

    def with_past(self, past: PastQueries) -> SignalOfPast:
        """Return the signal of other past queries."""
        return replace(self, past=past)

    def without_texts(self) -> SignalOfPast:
        """Return the signal without what people wrote; it scores as before."""
        return replace(self, past=self.past.without_texts())


@dataclass(frozen=True)
class PriorSignal(SignalOfPast):
    """How often an answer was right in the past; see `PastQueries.prior`."""

    def scores(self, queries: QueryBatch) -> Float[np.ndarray, "n m"]:
        """See `Signal.scores`."""
        return np.broadcast_to(self.past.prior, (len(queries), len(self.past.prior)))


@dataclass(frozen=True)
class PastSignal(SignalOfPast):
    """The votes of the past queries near to a query; see `FrozenTowers.vote`.

    Attributes:
        towers: with a memory.
        newcomer: what an answer that was added after training gets instead.
    """

    towers: FrozenTowers
    newcomer: float

    def scores(self, queries: QueryBatch) -> Float[np.ndarray, "n m"]:
        """See `Signal.scores`."""
        votes = self.towers.vote(queries.vectors, self.past.vectors, self.past.labels)
        return np.where(self.past.newcomers, np.float32(self.newcomer), votes)


def past_signals(
    past: PastQueries, towers: FrozenTowers, memory: MemorySettings
) -> dict[str, Signal]:
    """Return the signals that past queries give by their vectors and their labels."""
    return {"past": PastSignal(past, towers, memory.newcomer), "prior": PriorSignal(past)}
