"""What is fitted on validation once towers are trained: weights of channels, confidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from twinrank.data import Dataset, Queries
from twinrank.evaluation import measure
from twinrank.ranking import (
    INITIAL_WEIGHTS,
    Bm25,
    Confidence,
    Scoring,
    has_evidence,
    log_odds,
    past_signals,
)
from twinrank.recipe import Recipe
from twinrank.training.calibration import fit_confidence, fit_scale, fit_weights


def fused(scoring: Scoring, dataset: Dataset, recipe: Recipe) -> Scoring:
    """Add the signals of words and of past queries' texts, and fit all weights on validation.

    Args:
        scoring: what the towers give.
        dataset: that they were trained on.
        recipe: names the signals.
    """
    validation = dataset.split("validation")
    signals = dict(scoring.signals)
    if scoring.dense and scoring.past:
        train = dataset.split("train")
        past = replace(scoring.past, texts=train.texts, ids=train.frame["id"].to_list())
        signals |= past_signals(past, scoring.dense, recipe)
    if recipe.words:
        signals["words"] = scaled_words(dataset, recipe, validation)
    every = Scoring(signals, INITIAL_WEIGHTS)
    scores = every.signal_scores(every.encode(validation.texts), weighted=False)
    return Scoring(signals, fit_weights(scores, validation.labels, INITIAL_WEIGHTS))


def scaled_words(dataset: Dataset, recipe: Recipe, validation: Queries | None) -> Bm25:
    """BM25 whose scores are on the scale of log-probabilities, if there is a validation split."""
    words = Bm25(dataset.answer_texts(), language=recipe.language)
    if validation:
        words.scale = fit_scale(words.score_texts(validation.texts), validation.labels)
    return words


def confidence_of(scoring: Scoring, validation: Queries) -> Confidence:
    """How likely a first answer is right, by how far the scores set it apart.

    Queries without evidence have no part in it: their confidence is 0.
    """
    odds, known = [], []

    def score(part: slice) -> np.ndarray:
        scores = scoring.scores(scoring.encode(validation.texts[part]))
        odds.append(log_odds(scores))
        known.append(has_evidence(scores))
        return scores

    right = measure(score, validation)["accuracy@1"].to_numpy() > 0
    some = np.concatenate(known)
    slope, intercept = fit_confidence(np.concatenate(odds)[some], right[some])
    return Confidence(slope=slope, intercept=intercept)
