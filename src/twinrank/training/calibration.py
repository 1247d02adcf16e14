"""Fits on validation: scales of scores, weights of words and vectors, confidence."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float
from scipy import optimize, sparse
from scipy.special import expit

from twinrank.data import Dataset, Queries
from twinrank.errors import DivergedError
from twinrank.evaluation import measure
from twinrank.ranking import (
    INITIAL_WEIGHTS,
    Bm25,
    Confidence,
    Scoring,
    Signal,
    has_evidence,
    log_odds,
)
from twinrank.ranking.past_queries import past_signals
from twinrank.ranking.word_classifier import MAX_ROWS, WordClassifier
from twinrank.recipe import Recipe
from twinrank.training.losses import cross_entropy

log = logging.getLogger(__name__)

WEIGHT_PENALTY = 0.01  # nats a query that a weight one away from where it starts costs


def build_words(dataset: Dataset, recipe: Recipe, validation: Queries | None) -> Bm25:
    """Build BM25, its scores on the scale of log-probabilities if there is a validation split."""
    words = Bm25(dataset.answer_texts(), language=recipe.language)
    if validation:
        scores = words.score_texts(validation.texts).astype(np.float64)
        words.scale = fit_scale(lambda scale: scale * scores, validation.labels)
    return words


def fuse_signals(scoring: Scoring, dataset: Dataset, recipe: Recipe) -> Scoring:
    """Add the signals of words, and fit the weights of all signals on validation."""
    validation = dataset.split("validation")
    signals = {**scoring.signals, **_signals_of_past(scoring, dataset, recipe, ["train"])}
    if recipe.words:
        signals["words"] = build_words(dataset, recipe, validation)
    every = Scoring(signals, INITIAL_WEIGHTS)
    scores = every.signal_scores(every.encode(validation.texts), weighted=False)
    return Scoring(signals, fit_weights(scores, validation.labels, INITIAL_WEIGHTS))


def refit_signals(scoring: Scoring, chosen: Scoring, dataset: Dataset, recipe: Recipe) -> Scoring:
    """Add to towers that were trained again the signals of what they learned from.

    The weights are those chosen on validation; past queries are of train and validation.
    """
    past = _signals_of_past(scoring, dataset, recipe, ["train", "validation"])
    return Scoring({**chosen.signals, **scoring.signals, **past}, chosen.weights)


def _signals_of_past(
    scoring: Scoring, dataset: Dataset, recipe: Recipe, splits: Sequence[str]
) -> dict[str, Signal]:
    """Build the signals of past queries, those that the towers learned from, with their texts."""
    if scoring.past is None or scoring.dense is None or recipe.memory is None:
        return {}
    asked = [dataset.split(split).frame for split in splits]
    texts, ids = (pl.concat(asked)[name].to_list() for name in ("text", "id"))
    past = replace(scoring.past, texts=texts, ids=ids)
    signals = past_signals(past, scoring.dense.towers, recipe.memory)
    of_answers = dataset.answer_texts()
    labelled = dataset.labels.filter(pl.col("split") != "test")["query"].n_unique()
    if not recipe.words:
        return signals
    if len(of_answers) + labelled > MAX_ROWS:
        message = "no classifier of words: %s answers and %s queries are more than %s"
        log.warning(message, f"{len(of_answers):,}", f"{labelled:,}", f"{MAX_ROWS:,}")
        return signals
    signals["classifier"] = WordClassifier.fit(past, of_answers, recipe.language)
    return signals


def calibrate_confidence(scoring: Scoring, validation: Queries) -> Confidence:
    """Fit how likely a first answer is right, by how far its score is above the others.

    Queries without evidence have no part in it: their confidence is 0.
    """
    odds, evidence = [], []

    def score(rows: slice) -> np.ndarray:
        scores = scoring.scores(scoring.encode(validation.texts[rows]))
        odds.append(log_odds(scores))
        evidence.append(has_evidence(scores))
        return scores

    right = measure(score, validation)["accuracy@1"].to_numpy() > 0
    known = np.concatenate(evidence)
    slope, intercept = fit_confidence(np.concatenate(odds)[known], right[known])
    return Confidence(slope=slope, intercept=intercept)


def fit_scale(
    score: Callable[[float], Float[np.ndarray, "n m"]], labels: sparse.csr_array
) -> float:
    """Fit the positive scale of scores with the lowest mean cross-entropy (Guo et al. 2017).

    It lets the loss of BM25 and of the bare encoder be read beside that of trained towers. It
    changes no rank, unless an answer's score is pooled from several passages. Fit it on the
    validation split.

    Args:
        score: gives the scores at a scale.
        labels: n x m, one or more a query.

    Raises:
        DivergedError: if a score is not finite; so do the other fits.
    """
    right = torch.as_tensor(labels.toarray() > 0)

    def measure_loss(log_scale: float) -> float:
        scores = score(math.exp(log_scale))
        _check_finite(scores)
        return float(cross_entropy(torch.as_tensor(scores, dtype=torch.float64), right).mean())

    result = optimize.minimize_scalar(measure_loss, bounds=(-7.0, 7.0), method="bounded")
    return math.exp(result.x)


def fit_weights(
    parts: Mapping[str, Float[np.ndarray, "n m"]],
    labels: sparse.csr_array,
    start: Mapping[str, float],
) -> dict[str, float]:
    """Fit the weights, none negative, whose sum of parts has the lowest mean cross-entropy.

    Args:
        parts: the scores of each signal, n x m.
        labels: n x m, one or more a query.
        start: a weight for each; moving away costs `WEIGHT_PENALTY` times the square, so that
            few queries move it little.
    """
    names = list(parts)
    _check_finite(*parts.values())
    table = torch.stack([torch.as_tensor(np.asarray(parts[name], np.float64)) for name in names])
    right = torch.as_tensor(labels.toarray() > 0)
    origin = torch.tensor([start[name] for name in names], dtype=torch.float64)

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.tensor(values, requires_grad=True)
        loss = cross_entropy(torch.einsum("c,cnm->nm", weights, table), right).mean()
        loss = loss + WEIGHT_PENALTY * (weights - origin).square().sum()
        (slope,) = torch.autograd.grad(loss, weights)
        return float(loss.detach()), slope.numpy()

    result = optimize.minimize(
        cost, origin.numpy(), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(names)
    )
    return dict(zip(names, map(float, result.x), strict=True))


def fit_confidence(
    log_odds: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> tuple[float, float]:
    """Fit slope and intercept of Platt's curve, P(right) = 1 / (1 + exp(-(slope x + intercept))).

    As in his paper (1999), targets are drawn in from 0 and 1 by Laplace's rule, so that it
    stays finite where all are right, or all wrong. Without a query it is that of the log-odds.
    """
    _check_finite(log_odds)
    x = np.clip(log_odds, -20, 20)
    yes, no = int(right.sum()), int((~right).sum())
    target = np.where(right, (yes + 1) / (yes + 2), 1 / (no + 2))

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        z = values[0] * x + values[1]
        error = (expit(z) - target) / max(1, len(x))
        loss = float((np.logaddexp(0, z) - target * z).sum() / max(1, len(x)))
        return loss, np.array([(error * x).sum(), error.sum()])

    result = optimize.minimize(cost, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B")
    return float(result.x[0]), float(result.x[1])


def _check_finite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise DivergedError(
            "scores of the validation split are not finite, so that nothing can be fitted to them; "
            "train anew with a lower learning_rate"
        )
