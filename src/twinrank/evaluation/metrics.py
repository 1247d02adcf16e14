"""Ranking metrics per query, from the ranks of its right answers.

Ties are broken by corpus order: of two answers with one score, the earlier in the data set
ranks first, here and in `Ranker.rank` alike.

A score that is not finite never counts for a ranker: of a right answer it is a miss, and NaN of
another ranks ahead of every right answer, as +inf does.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.special import logsumexp

ACCURACY_AT = (1, 3, 10)
MAP_AT = (3, 10)
MISSED = np.iinfo(np.int64).max  # the rank of a right answer whose score is not finite
METRICS = (*(f"accuracy@{k}" for k in ACCURACY_AT), *(f"map@{k}" for k in MAP_AT), "loss")
RECALL_AT = (10, 100)
PUBLISHED_METRICS = ("ndcg@10", *(f"recall@{k}" for k in RECALL_AT), "mrr@10")  # as BEIR, MTEB


def ranks_of_right(
    scores: Float[np.ndarray, "n m"], labels: sparse.csr_array
) -> Int[np.ndarray, " labels"]:
    """Rank (1 = best) every right answer, in the order of `labels.indices`.

    The rank of answer j is one plus the number of answers with a higher score, or an equal
    score and an earlier column, or NaN; `MISSED` if its own score is not finite.
    """
    owner = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    rivals = scores[owner]
    right = rivals[np.arange(labels.nnz), labels.indices][:, None]
    earlier = np.arange(scores.shape[1]) < labels.indices[:, None]
    worse = (rivals < right) | ((rivals == right) & ~earlier)  # NaN is never worse
    ranks = scores.shape[1] + 1 - np.sum(worse, axis=1)
    return np.where(np.isfinite(right[:, 0]), ranks, MISSED)


def accuracy_at(
    k: int, ranks: Int[np.ndarray, " labels"], bounds: Int[np.ndarray, " n_plus_1"]
) -> Float[np.ndarray, " n"]:
    """Give 1 where any right answer is among the first k (Success@k, hit rate@k), else 0."""
    return np.maximum.reduceat((ranks <= k).astype(np.float64), bounds[:-1])


def average_precision_at(
    k: int, ranks: Int[np.ndarray, " labels"], bounds: Int[np.ndarray, " n_plus_1"]
) -> Float[np.ndarray, " n"]:
    """Compute AP@k: sum of precision at each right answer's rank <= k, over ALL right answers.

    The denominator is the number of right answers, also where it exceeds k, as trec_eval's
    `map_cut` and ranx have it. With one right answer it is 1/rank where rank <= k.
    """
    owner = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.lexsort((ranks, owner))  # a query's right answers, best first
    nth = np.arange(len(ranks)) - bounds[owner] + 1
    sorted_ranks = ranks[order]
    precision = np.where(sorted_ranks <= k, nth / sorted_ranks, 0.0)
    averages: np.ndarray = np.add.reduceat(precision, bounds[:-1]) / np.diff(bounds)
    return averages


def recall_at(
    k: int, ranks: Int[np.ndarray, " labels"], bounds: Int[np.ndarray, " n_plus_1"]
) -> Float[np.ndarray, " n"]:
    """Give the share of the right answers that are among the first k."""
    recall: np.ndarray = np.add.reduceat((ranks <= k).astype(np.float64), bounds[:-1])
    return recall / np.diff(bounds)


def reciprocal_rank_at(
    k: int, ranks: Int[np.ndarray, " labels"], bounds: Int[np.ndarray, " n_plus_1"]
) -> Float[np.ndarray, " n"]:
    """Give 1 / rank of the first right answer if it is among the first k, else 0 (MRR@k)."""
    best = np.minimum.reduceat(ranks, bounds[:-1])
    return np.where(best <= k, 1 / best, 0.0)


def ndcg_at(
    k: int,
    ranks: Int[np.ndarray, " labels"],
    bounds: Int[np.ndarray, " n_plus_1"],
    grades: Float[np.ndarray, " labels"],
) -> Float[np.ndarray, " n"]:
    """Compute nDCG@k: grade / log2(rank + 1) summed over the first k, over the best such sum.

    The gain is the grade itself, as trec_eval's `ndcg_cut` has it (Järvelin and Kekäläinen 2002).
    """
    owner = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.lexsort((-grades, owner))  # a query's right answers, highest grade first
    nth = np.arange(len(ranks)) - bounds[owner] + 1
    best = np.where(nth <= k, grades[order] / np.log2(nth + 1.0), 0.0)
    gains = np.where(ranks <= k, grades / np.log2(ranks + 1.0), 0.0)
    ndcg: np.ndarray = np.add.reduceat(gains, bounds[:-1]) / np.add.reduceat(best, bounds[:-1])
    return ndcg


def losses(scores: Float[np.ndarray, "n m"], labels: sparse.csr_array) -> Float[np.ndarray, " n"]:
    """Compute the cross-entropy per query: -log of the softmax mass on its right answers (nats).

    Infinite where scores are not finite and leave it undefined.
    """
    owner = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    begins = labels.indptr[:-1].astype(np.int64)
    right = scores[owner, labels.indices]
    highest = np.maximum.reduceat(right, begins)
    with np.errstate(invalid="ignore"):
        on_right = highest + np.log(np.add.reduceat(np.exp(right - highest[owner]), begins))
        loss: np.ndarray = logsumexp(scores, axis=1) - on_right
    return np.where(np.isnan(loss), np.inf, loss)


def per_query(
    scores: Float[np.ndarray, "n m"], labels: sparse.csr_array
) -> dict[str, Float[np.ndarray, " n"]]:
    """Compute every metric for every query; each has at least one right answer.

    Labels hold grades, which nDCG alone tells apart.
    """
    scores = np.asarray(scores, dtype=np.float64)
    figures = figures_of_ranks(ranks_of_right(scores, labels), labels)
    return {**figures, "loss": losses(scores, labels)}


def figures_of_ranks(
    ranks: Int[np.ndarray, " labels"], labels: sparse.csr_array
) -> dict[str, Float[np.ndarray, " n"]]:
    """Compute every metric but the loss from the ranks of right answers, as `ranks_of_right`."""
    bounds, grades = labels.indptr.astype(np.int64), labels.data.astype(np.float64)
    return {
        **{f"accuracy@{k}": accuracy_at(k, ranks, bounds) for k in ACCURACY_AT},
        **{f"map@{k}": average_precision_at(k, ranks, bounds) for k in MAP_AT},
        "ndcg@10": ndcg_at(10, ranks, bounds, grades),
        **{f"recall@{k}": recall_at(k, ranks, bounds) for k in RECALL_AT},
        "mrr@10": reciprocal_rank_at(10, ranks, bounds),
    }
