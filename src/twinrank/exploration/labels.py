"""Labels that look wrong: the nearest queries and articles vote for other answers.

No model is trained: features alone vote, as in Zhu, Dong and Liu 2022 (arXiv 2110.06283). The two
sides of a thread share their label, so that a query is blind to its own thread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy import sparse

from twinrank.exploration.near import nearest
from twinrank.exploration.sample import Sample

# Chosen on help-centre and on mozilla-support, by how well they find labels swapped on purpose.
VOTERS = 50  # nearest labelled queries of other threads, and as many articles
SOFTNESS = 0.1  # a vote weighs exp(cosine / SOFTNESS)
ARTICLE = 3.0  # times as much, if it is the article's own
FLOOR = 0.002  # share of the votes that any answer is thought to have
DOUBTED = 50  # times as many votes for another answer
PLANTED = 0.05  # share of the threads whose labels are swapped to see whether that is found
FEWEST = 20  # swapped labels that say anything


@dataclass(frozen=True)
class Check:
    """How well swapped labels are found.

    Attributes:
        planted: how many labels were swapped.
        found: the share of them that is doubted then.
        others: the same of the labels that were left alone, some of them wrong too.
    """

    planted: int
    found: float
    others: float


def doubtful_labels(sample: Sample) -> pl.DataFrame:
    """Every label of a sample, the most doubtful first.

    Returns:
        query and answer (row and column), own (the share of the votes that is for the answer),
        rival (the column of the one with most votes among the query's other answers), rivals (its
        share), odds (rivals to own, each plus `FLOOR`) and doubted: the odds are 50 or more.
    """
    judged = _judged(_Voters.of(sample).votes(sample.labels), sample.labels)
    return judged.sort("odds", descending=True, maintain_order=True)


def check_by_planting(sample: Sample, *, seed: int = 0) -> Check | None:
    """Swap the labels of one thread in twenty for another's, and see which are doubted.

    None if that is fewer than 20 labels.
    """
    source = _swapped(sample, np.random.default_rng(seed))
    planted = sparse.csr_array(sample.labels[source])
    judged = _judged(_Voters.of(sample).votes(planted), planted)
    swapped = (source != np.arange(len(sample)))[judged["query"].to_numpy()]
    doubted = judged["doubted"].to_numpy()
    if swapped.sum() < FEWEST:
        return None
    found, others = doubted[swapped].mean(), doubted[~swapped].mean()
    return Check(int(swapped.sum()), float(found), float(others))


def _swapped(sample: Sample, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Whose labels each query has after the swap: its own, or another's with none of them."""
    own, asked = np.arange(len(sample)), np.flatnonzero(sample.labelled)
    thread = sample.codes("thread")
    threads = rng.permutation(np.unique(thread[asked]))
    giver = np.full(thread.max(initial=0) + 1, -1)
    chosen = threads[: int(PLANTED * len(threads))]
    giver[chosen] = rng.choice(asked, len(chosen)) if len(chosen) else []
    source = np.where((giver[thread] >= 0) & sample.labelled, giver[thread], own)
    shared = np.asarray(sample.labels[source].multiply(sample.labels).sum(axis=1)).ravel()
    return np.where(shared > 0, own, source)


@dataclass(frozen=True)
class _Voters:
    """Who votes for each query, and with what weight; zero where a voter may not."""

    labelled: Bool[np.ndarray, " n"]
    queries: Int[np.ndarray, "n k"]
    weights: Float[np.ndarray, "n k"]
    articles: Int[np.ndarray, "n a"]
    article_weights: Float[np.ndarray, "n a"]

    @classmethod
    def of(cls, sample: Sample) -> _Voters:
        rows = np.flatnonzero(sample.labelled)
        thread = sample.codes("thread")
        found, cosines = nearest(
            sample.points, sample.points[rows], VOTERS, apart=(thread, thread[rows])
        )
        articles, near = nearest(sample.points, sample.answer_points, VOTERS)
        return cls(
            sample.labelled,
            rows[found],
            np.exp(cosines / SOFTNESS),
            articles,
            ARTICLE * np.exp(near / SOFTNESS),
        )

    def votes(self, labels: sparse.csr_array) -> sparse.csr_array:
        """Shares of the votes (n x m); a voter with several labels divides its vote."""
        n, m = labels.shape
        counts = np.asarray(labels.sum(axis=1)).ravel()
        each = sparse.diags_array(1 / np.maximum(counts, 1)) @ labels
        given = _table(self.queries, self.weights, n) @ each
        given = given + _table(self.articles, self.article_weights, m)
        total = np.asarray(given.sum(axis=1)).ravel()
        return sparse.csr_array(sparse.diags_array(1 / np.where(total > 0, total, 1)) @ given)


def _table(
    columns: Int[np.ndarray, "n k"], values: Float[np.ndarray, "n k"], width: int
) -> sparse.csr_array:
    """Values at their columns, a row each."""
    n, k = columns.shape
    pointer = np.arange(0, n * k + 1, k) if k else np.zeros(n + 1, np.int64)
    return sparse.csr_array((values.ravel(), columns.ravel(), pointer), shape=(n, width))


def _judged(votes: sparse.csr_array, labels: sparse.csr_array) -> pl.DataFrame:
    """A row a label, in the order of the matrix."""
    row, column = labels.nonzero()
    own = np.asarray(votes[row, column]).ravel() if len(row) else np.zeros(0)
    others = sparse.csr_array(votes - votes.multiply(labels))
    rival = np.zeros(len(row), np.int64)
    rivals = np.zeros(len(row))
    if votes.shape[1]:
        rival = np.asarray(others.argmax(axis=1)).ravel()[row]
        rivals = others.max(axis=1).toarray().ravel()[row]
    odds = (rivals + FLOOR) / (own + FLOOR)
    return pl.DataFrame(
        {
            "query": row.astype(np.int64),
            "answer": column.astype(np.int64),
            "own": own,
            "rival": rival.astype(np.int64),
            "rivals": rivals,
            "odds": odds,
            "doubted": odds >= DOUBTED,
        }
    )
