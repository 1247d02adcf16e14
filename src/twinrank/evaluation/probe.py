"""How well a straight cut through a space tells the type of a query: a logistic regression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import rankdata

FOLDS = 5
LOSS_WEIGHT = 0.01  # of the sum of losses, beside half the squared length of the weights
MAX_STEPS = 1000

Points = Float[np.ndarray, "n d"]
Codes = Int[np.ndarray, " n"]  # from 0 on


def type_auc(points: Points, kinds: Codes, threads: Sequence[str], *, seed: int) -> float | None:
    """Mean area under the ROC curve over five folds that keep threads whole.

    With more than two types, the mean over types of one against the rest. None if there is one
    type, a type has fewer than five threads, or a fold lacks a type.
    """
    thread = np.unique(threads, return_inverse=True)[1]
    threads_per_kind = np.bincount(np.unique(np.stack([kinds, thread]), axis=1)[0])
    count = len(threads_per_kind)
    if count < 2 or threads_per_kind.min() < FOLDS:
        return None
    fold = assign_folds(kinds, thread, seed)
    areas = []
    for test in (fold == f for f in range(FOLDS)):
        if any(len(np.unique(kinds[part])) < count for part in (test, ~test)):
            return None
        train = points[~test]
        constant = (train == train[0]).all(axis=0)
        scaled = (points - train.mean(axis=0)) / np.where(constant, 1, train.std(axis=0))
        scores = fit_logistic(scaled[~test], kinds[~test], scaled[test])
        targets = range(1, 2) if count == 2 else range(count)
        areas.append([area_under_roc(scores[:, k], kinds[test] == k) for k in targets])
    return float(np.mean(areas))


def assign_folds(kinds: Codes, threads: Codes, seed: int) -> Codes:
    """Deal whole threads to folds so that each fold has about the same share of every type.

    As scikit-learn's StratifiedGroupKFold does it: threads in random order, those of the most
    uneven types first, each to the fold where the types are spread most evenly then, and of
    equally good folds to the smallest.
    """
    order = np.arange(threads.max() + 1)
    np.random.RandomState(seed).shuffle(order)
    counts = np.zeros((len(order), kinds.max() + 1))
    np.add.at(counts, (threads, kinds), 1)
    totals, fold_counts = counts.sum(axis=0), np.zeros((FOLDS, counts.shape[1]))
    fold_of = np.zeros(len(order), np.int64)
    for thread in order[np.argsort(-counts[order].std(axis=1), kind="stable")]:
        best, least, fewest = 0, np.inf, np.inf
        for fold in range(FOLDS):
            proposed = fold_counts.copy()
            proposed[fold] += counts[thread]
            unevenness = (proposed / totals).std(axis=0).mean()
            queries = fold_counts[fold].sum()
            if unevenness < least or (np.isclose(unevenness, least) and queries < fewest):
                best, least, fewest = fold, unevenness, queries
        fold_counts[best] += counts[thread]
        fold_of[thread] = best
    return np.asarray(fold_of[threads])


def fit_logistic(
    points: Points, kinds: Codes, others: Float[np.ndarray, "v d"]
) -> Float[np.ndarray, "v kinds"]:
    """Fit a (multinomial) logistic regression to points, and give log probabilities of others."""
    count, (n, d) = int(kinds.max()) + 1, points.shape
    columns = 1 if count == 2 else count  # the first of two types is the rest of the second
    targets = np.eye(count)[kinds][:, -columns:]

    def log_probabilities(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        scores = rows @ weights[:-1] + weights[-1]
        scores = np.hstack([np.zeros((len(rows), count - columns)), scores])
        return np.asarray(scores - logsumexp(scores, axis=1, keepdims=True))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(d + 1, columns)
        logs = log_probabilities(points, weights)
        errors = (np.exp(logs[:, -columns:]) - targets) / n
        penalised = np.vstack([weights[:-1], np.zeros((1, columns))]) / (LOSS_WEIGHT * n)
        slope = np.vstack([points.T @ errors, errors.sum(axis=0)]) + penalised
        value = -logs[np.arange(n), kinds].mean() + (penalised * weights).sum() / 2
        return float(value), slope.ravel()

    start = np.zeros((d + 1) * columns)
    options = {"maxiter": MAX_STEPS, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
    fitted = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return log_probabilities(others, fitted.x.reshape(d + 1, columns))


def area_under_roc(scores: Float[np.ndarray, " v"], positive: np.ndarray) -> float:
    """Share of pairs of a positive and a negative that are in order, a tie counting half."""
    n = int(positive.sum())
    wins = rankdata(scores)[positive].sum() - n * (n + 1) / 2
    return float(wins / (n * (len(scores) - n)))
