"""The weighted sum of signals, over all answers or over candidates, and how sure its best is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TypeVar, cast

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, FiniteFloat
from scipy.special import expit, logsumexp

from twinrank.ranking.answer_index import Shortlist
from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.past_queries import PastQueries, PastSignal, SignalOfPast
from twinrank.ranking.signals import DenseSignal, QueryBatch, Signal
from twinrank.ranking.word_classifier import WordClassifier

CELLS_A_CHUNK = 16_000_000  # numbers that all signals together take while queries are scored
# What is trained together starts at one, and is held near it; what joins later at zero.
INITIAL_WEIGHTS = {"dense": 1.0, "past": 1.0, "prior": 0.0, "classifier": 0.0, "words": 0.0}

Table = TypeVar("Table")  # of scores: an array, or a tensor
SignalScores = dict[str, Float[np.ndarray, "n m"]]


@dataclass(frozen=True)
class Scoring:
    """Signals and their weights. It never changes: a change of answers makes another one.

    Attributes:
        signals: by name, in the order of `INITIAL_WEIGHTS`; all score the same answers.
        weights: of each signal, by name.
    """

    signals: Mapping[str, Signal]
    weights: Mapping[str, float]

    @property
    def dense(self) -> DenseSignal | None:
        """The signal that has vectors; None where words alone rank."""
        return cast("DenseSignal | None", self.signals.get("dense"))

    @property
    def past(self) -> PastQueries | None:
        """The past queries, if they are a signal."""
        signal = cast("PastSignal | None", self.signals.get("past"))
        return signal.past if signal else None

    @property
    def classifier(self) -> WordClassifier | None:
        """The signal of past queries' words, if there is one."""
        return cast("WordClassifier | None", self.signals.get("classifier"))

    @property
    def words(self) -> Bm25 | None:
        """The signal of the answers' words, if there is one."""
        return cast("Bm25 | None", self.signals.get("words"))

    def encode(self, texts: Sequence[str]) -> QueryBatch:
        """Encode queries, once for all signals."""
        if self.dense is None:
            return QueryBatch(texts, np.empty((len(texts), 0), np.float32))
        return QueryBatch(texts, self.dense.embed_queries(texts))

    def scores(self, queries: QueryBatch) -> Float[np.ndarray, "n m"]:
        """Score every answer for every query."""
        return np.concatenate([total(self._weighted(part)) for part in self._chunks(queries)])

    def signal_scores(self, queries: QueryBatch, *, weighted: bool = True) -> SignalScores:
        """Return what each signal gives every answer; weighted, they add up to the scores."""
        score = self._weighted if weighted else self._unweighted
        parts = [score(part) for part in self._chunks(queries)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.signals}

    def score_texts(
        self,
        query: QueryBatch,
        texts: Sequence[str],
        vectors: Float[np.ndarray, "t d"],
        fits: Bool[np.ndarray, " m"],
    ) -> Float[np.ndarray, " t"]:
        """Return how likely t texts answer one query, each beside the answers that fit (0 to 1).

        One half is as likely as all these answers together. A text has no past queries: vectors
        and words alone compare it with answers, and so they alone count here.
        """
        scores, of_answers = np.zeros(len(texts)), np.zeros(len(fits))
        if self.dense:
            weight = self.weights["dense"]
            scores = scores + weight * self.dense.towers.scale * (vectors @ query.vectors[0])
            of_answers = of_answers + weight * self.dense.scores(query)[0]
        if self.words:
            weight = self.weights["words"]
            scores = scores + weight * self.words.score_documents(query.texts[0], texts)
            of_answers = of_answers + weight * self.words.scores(query)[0]
        chances: np.ndarray = expit(scores - (logsumexp(of_answers[fits]) if fits.any() else 0))
        return chances

    def score_candidates(
        self,
        queries: QueryBatch,
        k: int,
        shortlist: Shortlist | None = None,
        fits: Bool[np.ndarray, " m"] | None = None,
        pinned: Sequence[int | None] = (),
    ) -> Iterator[tuple[Int[np.ndarray, " c"], dict[str, Float[np.ndarray, " c"]]]]:
        """Yield the rows of each query's candidates, rising, and each signal's weighted scores.

        There are k or more; without a shortlist all answers are candidates. `fits` says which
        answers may be; None: all.
        `pinned` is the row of an answer that is a candidate of each query anyway, if there is one.
        """
        more = iter(pinned)
        searched = self.dense if shortlist else None
        for part in self._chunks(queries):
            tables = self._weighted(part, without="dense" if searched else "")
            if searched is None or shortlist is None:
                fitting = slice(None) if fits is None else fits
                rows = np.arange(next(iter(tables.values())).shape[1])[fitting]
                for i in range(len(part)):
                    yield rows, {name: table[i, fitting] for name, table in tables.items()}
                continue
            other_scores = total(tables) if tables else None
            for i, rows in enumerate(shortlist.find_rows(part.vectors, other_scores, k, fits)):
                if (row := next(more, None)) is not None:
                    rows = np.union1d(rows, [row])
                near = searched.scores(part[i : i + 1], rows)[0]
                scores = {"dense": np.float32(self.weights["dense"]) * near}
                yield rows, scores | {name: table[i, rows] for name, table in tables.items()}

    def upsert(self, answers: pl.DataFrame, rows: Int[np.ndarray, " k"]) -> Scoring:
        """Return the scoring with k answers at their rows: in place of others, or behind all.

        What takes another's place keeps its offset and its past queries; what is new has none.
        """
        signals = {name: signal.upsert(answers, rows) for name, signal in self.signals.items()}
        return replace(self, signals=signals)

    def select(self, mask: Bool[np.ndarray, " m"]) -> Scoring:
        """Return the scoring without the answers whose entry is false."""
        return replace(self, signals={n: signal.select(mask) for n, signal in self.signals.items()})

    def with_offset(self, offset: Sequence[float]) -> Scoring:
        """Return the scoring with the offset of an answer that is going to be behind all others."""
        if self.dense is None or self.dense.offsets is None:
            return self
        offsets = np.vstack([self.dense.offsets, np.array(offset, np.float32)])
        dense = replace(self.dense, offsets=offsets)
        return replace(self, signals={**self.signals, "dense": dense})

    def without_texts(self) -> Scoring:
        """Return the scoring without the texts of past queries; it scores as before."""
        signals = {
            name: cast("Signal", signal.without_texts())
            if isinstance(signal, SignalOfPast)
            else signal
            for name, signal in self.signals.items()
        }
        return replace(self, signals=signals)

    def relabel(self, answer: int, queries: Sequence[str], *, newcomer: bool) -> Scoring:
        """Return the scoring with past queries of an answer that came back, by its row."""
        if self.past is None or self.dense is None:
            return self
        past = self.past.relabel(answer, queries, self.dense.embed_queries, newcomer=newcomer)
        signals: dict[str, Signal] = dict(self.signals)
        for name, signal in self.signals.items():
            if isinstance(signal, SignalOfPast):
                signals[name] = cast("Signal", signal.with_past(past))
        return replace(self, signals=signals)

    def _unweighted(self, queries: QueryBatch, without: str = "") -> SignalScores:
        signals = self.signals.items()
        return {name: signal.scores(queries) for name, signal in signals if name != without}

    def _weighted(self, queries: QueryBatch, without: str = "") -> SignalScores:
        scores = self._unweighted(queries, without)
        return {name: np.float32(self.weights[name]) * table for name, table in scores.items()}

    def _chunks(self, queries: QueryBatch) -> Iterator[QueryBatch]:
        """Yield some queries at a time, in bounded memory; an empty batch if there are none."""
        height = max(1, CELLS_A_CHUNK // sum(signal.width for signal in self.signals.values()))
        for start in range(0, max(1, len(queries)), height):
            yield queries[start : start + height]


def total(scores: Mapping[str, Table]) -> Table:
    """Return the sum of signals' scores."""
    return reduce(add, scores.values())


class Confidence(BaseModel):
    """Platt's (1999) logistic curve over the log-odds that the scores give the first answer."""

    model_config = ConfigDict(frozen=True)

    slope: FiniteFloat
    intercept: FiniteFloat

    def of(self, scores: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
        """Return the probability that each query's best answer is right; 0 without evidence."""
        sure = expit(self.slope * log_odds(scores) + self.intercept)
        return np.where(has_evidence(scores), sure, 0.0)

    def of_each(
        self, scores: Float[np.ndarray, " m"], answers: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, " k"]:
        """Return the probability that each of some answers to one query is right.

        The curve is of first answers. Those behind share what the first leaves, as the softmax has
        it, none getting more than the first: all answers come to 1 at most, and to 0 without
        evidence. How true that is: docs/measurements/quality.md.
        """
        row = np.asarray(scores, np.float64)
        first, best = self.of(row[None])[0], int(row.argmax())
        behind = np.delete(row, best)
        if not first or not len(behind):
            return np.where(answers == best, first, 0.0)
        shares = np.exp(np.minimum(row[answers] - logsumexp(behind), 0))
        behind_first: np.ndarray = np.minimum(first, (1 - first) * shares)
        return np.where(answers == best, first, behind_first)


def has_evidence(scores: Float[np.ndarray, "n m"]) -> Bool[np.ndarray, " n"]:
    """Return whether anything speaks for the best answer of each query.

    Nothing does where all answers score alike, or the only answer scores 0.
    """
    table = np.asarray(scores)
    differs = (table != table[:, :1]).any(axis=1)
    evidence: np.ndarray = differs | ((table.shape[1] == 1) & table.any(axis=1))
    return evidence


def log_odds(scores: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """Return log(p / (1 - p)) of the best answer under the softmax of each row of scores."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=1)
    if ordered.shape[1] < 2:
        return np.zeros(len(ordered))
    odds: np.ndarray = ordered[:, -1] - logsumexp(ordered[:, :-1], axis=1)
    return odds
