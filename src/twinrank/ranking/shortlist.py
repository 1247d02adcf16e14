"""Candidates: the answers that could be among the best, so that those alone are scored in full."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from twinrank.ranking.answer_index import AnswerIndex
from twinrank.ranking.passages import Passages, among

CANDIDATES = 200  # of the index, and as many by all other signals


class Shortlist:
    """Finds each query's candidates: an index's best answers, and the best by all other signals.

    An answer is missed only if it is neither among the 200 nearest nor among the 200 that past
    queries, words and prior speak for most; its score is then below the last of both together.
    That is as exact as the index is, but for sections: the index goes by an answer's best one,
    and log(its sections) may lie between. Candidates are scored as without an index; the mass
    that confidence gives all others is left out.

    Args:
        index: of the vectors of the ranker's answers. Answers it has and the ranker has not, as
            when another process adds some, are passed over.
        ids: of all the ranker's answers, in their order.
    """

    def __init__(self, index: AnswerIndex, ids: Sequence[str]) -> None:
        self.index = index
        self._number_rows(ids)

    def find_rows(
        self,
        queries: Float[np.ndarray, "n d"],
        other_scores: Float[np.ndarray, "n m"] | None,
        k: int,
    ) -> Iterator[Int[np.ndarray, " c"]]:
        """Yield the rows of each query's candidates, rising.

        Args:
            queries: their vectors.
            other_scores: what all signals but the vectors give each answer; None if there are none.
            k: how many answers are wanted; there are no fewer candidates.
        """
        depth = max(k, CANDIDATES)
        for i, hits in enumerate(self.index.search(queries, depth)):
            near = [self._rows[id_] for id_ in hits.answers if id_ in self._rows]
            rows = np.sort(np.array(near, np.int64))
            best = None if other_scores is None else top_k(other_scores[i], depth)
            yield rows if best is None else np.union1d(rows, best)

    def upsert(self, ids: Sequence[str], new: Sequence[str], vectors: Passages[np.ndarray]) -> None:
        """Follow a change of answers.

        Args:
            ids: of all answers, in their order.
            new: of those that are new, or in place of another.
            vectors: of all answers.
        """
        self._number_rows(ids)
        self.index.remove(new)
        self.index.add(new, among(vectors, np.array([self._rows[id_] for id_ in new], np.int64)))

    def remove(self, ids: Sequence[str], removed: Iterable[str]) -> None:
        """Forget answers; `ids` are those that are left, in their order."""
        self.index.remove(removed)
        self._number_rows(ids)

    def _number_rows(self, ids: Sequence[str]) -> None:
        self._rows = {id_: row for row, id_ in enumerate(ids)}


def top_k(scores: Float[np.ndarray, " m"], k: int) -> Int[np.ndarray, " k"]:
    """Return the rows of the k highest scores, highest first; of equal scores the first row."""
    k = min(k, len(scores))
    kth = np.partition(scores, -k)[-k]
    candidates = np.flatnonzero(scores >= kth)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]
