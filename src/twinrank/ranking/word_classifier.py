"""The signal of a linear classifier: for which answers the words of a query speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from zlib import crc32

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy import linalg, sparse
from scipy.sparse.linalg import cg

from twinrank.data import answer_texts
from twinrank.ranking.bm25 import tokenise
from twinrank.ranking.past_queries import PastQueries, SignalOfPast
from twinrank.ranking.signals import QueryBatch

BUCKETS = 2**18  # of hashed words
RIDGE = 0.3
SCALE = 20.0  # of what lies between 0 and 1, as of cosines
MAX_ONE_BY_ONE = 10  # answers that are fitted by conjugate gradients; more take one solution
MAX_ROWS = 10_000  # to fit takes their square in memory, and their cube in time


@dataclass(frozen=True)
class WordSpace:
    """TF-IDF vectors of stemmed words, each hashed to one of b buckets.

    It holds no words, but who guesses one can test for it. A word of one text alone has no part.

    Attributes:
        language: of the words; see `tokenise`.
        idf: of each bucket; 0 if fewer than two texts have it.
    """

    language: str
    idf: Float[np.ndarray, " b"]

    @classmethod
    def of(cls, texts: Sequence[str], language: str) -> WordSpace:
        """Count in how many texts each word stands."""
        frequency = np.bincount(_count_words(texts, language).indices, minlength=BUCKETS)
        idf = np.log((1 + len(texts)) / (1 + frequency)) + 1
        return cls(language, np.where(frequency > 1, idf, 0).astype(np.float32))

    def without_rare(self, texts: Sequence[str]) -> WordSpace:
        """Return the space without the words that fewer than two of these texts have."""
        frequency = np.bincount(_count_words(texts, self.language).indices, minlength=BUCKETS)
        return replace(self, idf=np.where(frequency > 1, self.idf, 0))

    def vectors(self, texts: Sequence[str]) -> sparse.csr_array:
        """Return the vectors (n x b) of n texts, of length one or, without a known word, zero."""
        table = _count_words(texts, self.language)
        table.data = (1 + np.log(table.data)) * self.idf[table.indices]
        lengths = np.sqrt(table.multiply(table).sum(axis=1))
        table.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(table.indptr))
        return table


@dataclass(frozen=True)
class WordClassifier(SignalOfPast):
    """Ridge regression from words to answers, in its dual form (Saunders et al. 1998).

    It learns from the past queries, and from the text of each answer as a query for itself. The
    score of an answer is `SCALE` times the sum of the weights that these texts have for it, each
    times its product with the query. An answer that comes later is fitted by itself.

    Attributes:
        space: of the words.
        rows: vectors of the past queries, then of the answers ((p + m) x b).
        weights: of each row for each answer ((p + m) x m).
        spread: root of the sum of squares of each bucket over the past queries (b), where their
            texts are unknown: then a row for each bucket that has any takes the queries' place.
    """

    space: WordSpace
    rows: sparse.csr_array
    weights: Float[np.ndarray, "r m"]
    spread: Float[np.ndarray, " b"] | None = None

    @classmethod
    def fit(cls, past: PastQueries, answers: Sequence[str], language: str) -> WordClassifier:
        """Fit it to past queries and to the texts of all answers; at most `MAX_ROWS`."""
        space = WordSpace.of([*past.texts, *answers], language)
        rows = space.vectors([*past.texts, *answers])
        return cls(past, space, rows, _solve(rows, _targets(past)))

    @classmethod
    def fitted(
        cls,
        past: PastQueries,
        answers: Sequence[str],
        space: WordSpace,
        weights: Float[np.ndarray, "r m"],
        spread: Float[np.ndarray, " b"] | None = None,
    ) -> WordClassifier:
        """Make it again of what was fitted."""
        if spread is None:
            return cls(past, space, space.vectors([*past.texts, *answers]), weights)
        rows = sparse.vstack([_spread_rows(spread), space.vectors(answers)], "csr")
        return cls(past, space, rows, weights, spread)

    @property
    def queries(self) -> int:
        """How many rows stand before those of the answers."""
        count: int = len(self.weights) - self.weights.shape[1]
        return count

    def without_texts(self) -> WordClassifier:
        """See `SignalOfPast.without_texts`.

        What the queries' words say for each answer is summed up, by word. An answer that comes
        later is fitted as if no two words stood together in a query.
        """
        past = self.past.without_texts()
        if self.spread is not None:
            return replace(self, past=past)
        count = self.queries
        queries, answers = self.rows[:count], self.rows[count:]
        spread = np.sqrt(np.asarray(queries.multiply(queries).sum(axis=0), np.float32).ravel())
        rows = _spread_rows(spread)
        sums = (queries.T.tocsr()[np.flatnonzero(spread)] @ self.weights[:count]) / rows.data[
            :, None
        ]
        return replace(
            self,
            past=past,
            rows=sparse.vstack([rows, answers], "csr"),
            weights=np.concatenate([sums, self.weights[count:]]),
            spread=spread,
        )

    @property
    def width(self) -> int:
        """See `Signal.width`."""
        return sum(self.weights.shape)

    @cached_property
    def _columns(self) -> sparse.csr_array:
        return self.rows.T.tocsr()

    def scores(self, queries: QueryBatch) -> Float[np.ndarray, "n m"]:
        """See `Signal.scores`."""
        near = (self.space.vectors(queries.texts) @ self._columns).toarray()
        near *= np.float32(SCALE)
        scores: np.ndarray = near @ self.weights
        return scores

    def explain(self, text: str, answers: Sequence[int]) -> list[dict[str, float]]:
        """Return how much each word of a query adds to the scores of answers, the most first.

        Words are as they stand in the query, in lower case; of those with one stem the first has
        it all. Answers are given by row.
        """
        language, vector = self.space.language, self.space.vectors([text])
        near = SCALE * vector.data[:, None] * self._columns[vector.indices].toarray()
        worth = near @ self.weights[:, answers]
        row_of = {bucket: row for row, bucket in enumerate(vector.indices.tolist())}
        words = [*dict.fromkeys(tokenise([text], language, stem=False)[0])]
        sums = np.zeros((len(words), len(answers)))
        for i, stems in enumerate(tokenise(words, language)):  # each word by itself
            buckets = [row_of.pop(bucket) for bucket in map(_bucket, stems) if bucket in row_of]
            sums[i] = worth[buckets].sum(axis=0)
        ranked = np.argsort(-sums, axis=0, kind="stable")
        return [
            {words[i]: float(sums[i, answer]) for i in ranked[:, answer]}
            for answer in range(len(answers))
        ]

    def upsert(self, answers: pl.DataFrame, rows: Int[np.ndarray, " k"]) -> WordClassifier:
        """See `Signal.upsert`; what takes another's place keeps its weights."""
        past, before = self.past.upsert(rows), len(self.past.newcomers)
        count, queries = len(past.newcomers), self.queries
        order = np.arange(queries + count)
        order[queries + rows] = queries + before + np.arange(len(rows))
        table = sparse.vstack([self.rows, self.space.vectors(answer_texts(answers))], "csr")[order]
        added = count - before
        weights = np.pad(self.weights, ((0, added), (0, added)))
        wider = replace(self, past=past, rows=table, weights=weights)
        return wider._fit_columns(range(before, count))

    def select(self, mask: Bool[np.ndarray, " m"]) -> WordClassifier:
        """See `Signal.select`."""
        stays = np.append(np.ones(self.queries, bool), mask)
        weights = self.weights[stays][:, mask]
        return replace(self, past=self.past.select(mask), rows=self.rows[stays], weights=weights)

    def with_past(self, past: PastQueries) -> WordClassifier:
        """See `SignalOfPast.with_past`; answers whose labels differ are fitted anew."""
        if self.spread is not None:
            return replace(self, past=past)
        before = len(self.past.texts)
        texts = self.space.vectors(past.texts[before:])
        rows = sparse.vstack([self.rows[:before], texts, self.rows[before:]], "csr")
        weights = np.insert(self.weights, [before] * texts.shape[0], 0, axis=0)
        counts = (labels.sum(axis=0) for labels in (self.past.labels, past.labels))
        changed = np.flatnonzero(np.not_equal(*counts))
        return replace(self, past=past, rows=rows, weights=weights)._fit_columns(changed)

    def _fit_columns(self, answers: Sequence[int] | Int[np.ndarray, " c"]) -> WordClassifier:
        """Fit the weights for some answers, as all texts are now; the others stay."""
        if not len(answers):
            return self
        targets, weights = self._targets(), self.weights.copy()
        if len(answers) > MAX_ONE_BY_ONE:
            weights[:, answers] = _solve(self.rows, targets[:, answers])
            return replace(self, weights=weights)
        size = len(weights)

        def product(v: Float[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
            result: np.ndarray = self.rows @ (self._columns @ v) + RIDGE * v
            return result

        kernel = sparse.linalg.LinearOperator((size, size), matvec=product, dtype=np.float64)
        for answer in answers:
            weights[:, answer], _ = cg(kernel, targets[:, answer], rtol=1e-5, maxiter=200)
        return replace(self, weights=weights)

    def _targets(self) -> Float[np.ndarray, "r m"]:
        """Return what is to be learned; of queries without texts, nothing."""
        if self.spread is None:
            return _targets(self.past)
        count = self.weights.shape[1]
        return np.eye(len(self.weights), count, -self.queries, dtype=np.float32)


def _spread_rows(spread: Float[np.ndarray, " b"]) -> sparse.csr_array:
    """Return a row for each bucket that has any spread: the spread there, and zero elsewhere."""
    buckets = np.flatnonzero(spread)
    places = (np.arange(len(buckets)), buckets)
    return sparse.csr_array((spread[buckets], places), shape=(len(buckets), len(spread)))


def _solve(rows: sparse.csr_array, targets: Float[np.ndarray, "r k"]) -> Float[np.ndarray, "r k"]:
    """Solve for the weights of all rows, for k answers at once."""
    kernel = (rows @ rows.T).toarray()
    kernel[np.diag_indices_from(kernel)] += RIDGE
    weights: np.ndarray = linalg.solve(kernel, targets, assume_a="pos", overwrite_a=True)
    return weights


def _targets(past: PastQueries) -> Float[np.ndarray, "r m"]:
    """Return what is to be learned: a row's right answers share 1."""
    labels = past.labels.toarray()
    labels /= np.maximum(labels.sum(axis=1, keepdims=True), 1)
    return np.concatenate([labels, np.eye(labels.shape[1], dtype=labels.dtype)])


def _count_words(texts: Sequence[str], language: str) -> sparse.csr_array:
    words = tokenise(texts, language)
    ends = np.cumsum([0, *map(len, words)])
    buckets = np.fromiter((_bucket(word) for row in words for word in row), np.int64, ends[-1])
    ones = np.ones(len(buckets), np.float32)
    table = sparse.csr_array((ones, buckets, ends), shape=(len(texts), BUCKETS))
    table.sum_duplicates()
    return table


def _bucket(word: str) -> int:
    return crc32(word.encode()) % BUCKETS
