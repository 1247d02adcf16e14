"""Labelled queries of the past: the support desk's memory, as a ranker keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse

from twinrank.errors import RankerError
from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.memory import Past

NEAREST = 20  # past queries whose words count


@dataclass(frozen=True)
class PastQueries:
    """Labelled queries, and which answers came too late to be among their labels.

    Attributes:
        texts: of the queries (p).
        labels: p x m, 1 where an answer is right.
        newcomers: the answers (m) that were added after training.
        ids: of the queries (p), as the data have them; none where a ranker was written without.
    """

    texts: list[str]
    labels: sparse.csr_array
    newcomers: Bool[np.ndarray, " m"]
    ids: Sequence[str | None] = ()

    @classmethod
    def of(
        cls,
        texts: list[str],
        votes: Past,
        newcomers: Bool[np.ndarray, " m"],
        ids: Sequence[str | None] = (),
    ) -> PastQueries:
        """Queries with the labels that are their votes."""
        cells = (votes.voters.cpu().numpy(), votes.answers.cpu().numpy())
        ones = np.ones(len(votes.voters), np.float32)
        labels = sparse.csr_array((ones, cells), shape=(len(texts), len(newcomers)))
        return cls(texts, labels, newcomers, ids)

    @property
    def votes(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each label, the query and the answer."""
        voters, answers = self.labels.nonzero()
        return voters.astype(np.int64), answers.astype(np.int64)

    def labelled(self, answer: int) -> list[str]:
        """The texts of the queries that are labelled with an answer."""
        return [self.texts[query] for query in self.labels[:, [answer]].nonzero()[0]]

    def prior(self) -> Float[np.ndarray, " m"]:
        """log(1 + labels) of each answer; a newcomer's is the average answer's."""
        counts = np.asarray(self.labels.sum(axis=0), np.float32).ravel()
        average = float(counts[~self.newcomers].mean()) if not self.newcomers.all() else 0.0
        prior: np.ndarray = np.log1p(np.where(self.newcomers, np.float32(average), counts))
        return prior

    def by_words(self, products: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n m"]:
        """log(1 + the BM25 scores of the nearest past queries), summed by their answers."""
        k = min(NEAREST, products.shape[1])
        nearest = np.argpartition(-products, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(products, nearest, axis=1)
        rows = np.repeat(np.arange(len(products)), k)
        kept = sparse.csr_array((values.ravel(), (rows, nearest.ravel())), shape=products.shape)
        sums: np.ndarray = np.log1p((kept @ self.labels).toarray().astype(np.float32))
        return sums

    def words(self, language: str) -> Bm25 | None:
        """Give BM25 over the queries' words; none where all that had words were erased."""
        try:
            return Bm25(self.texts, language=language)
        except RankerError:
            return None

    def add(self, answers: int) -> PastQueries:
        """The same with so many newcomers behind the answers."""
        wider = self.labels.copy()
        wider.resize(self.labels.shape[0], self.labels.shape[1] + answers)
        return replace(
            self, labels=wider, newcomers=np.append(self.newcomers, np.ones(answers, bool))
        )

    def keep(self, rows: Bool[np.ndarray, " m"]) -> PastQueries:
        """The same without the answers whose row is false; queries stay, some without a label."""
        return replace(self, labels=self.labels[:, rows], newcomers=self.newcomers[rows])
