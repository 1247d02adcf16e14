"""What is fitted on validation once towers are trained: weights of channels, confidence."""

from __future__ import annotations

import numpy as np

from twinrank.data import Dataset, Queries
from twinrank.evaluation import measure
from twinrank.ranking import (
    PARTS,
    Bm25,
    Channel,
    Confidence,
    Dense,
    Fused,
    PastQueries,
    has_evidence,
    log_odds,
)
from twinrank.recipe import Recipe
from twinrank.training.calibration import fit_confidence, fit_scale, fit_weights


def fused(dense: Dense, dataset: Dataset, recipe: Recipe) -> Fused:
    """Towers, memory and words, with the weights that fit the validation split best."""
    validation = dataset.split("validation")
    words = scaled_words(dataset, recipe, validation) if recipe.words else None
    past = None
    if recipe.memory:
        train = dataset.split("train")
        newcomers = np.zeros(dataset.answers.height, dtype=bool)
        past = PastQueries(train.texts, train.labels, newcomers, train.frame["id"].to_list())
    channel = Fused(dense, past=past, words=words, recipe=recipe, weights=PARTS)
    channel.weights = fit_weights(channel.unweighed(validation.texts), validation.labels, PARTS)
    return channel


def scaled_words(dataset: Dataset, recipe: Recipe, validation: Queries | None) -> Bm25:
    """BM25 whose scores are on the scale of log-probabilities, if there is a validation split."""
    words = Bm25(dataset.answer_texts(), language=recipe.language)
    if validation:
        words.scale = fit_scale(words.scores(validation.texts), validation.labels)
    return words


def confidence_of(channel: Channel, validation: Queries) -> Confidence:
    """How likely a first answer is right, by how far the scores set it apart.

    Queries without evidence have no part in it: their confidence is 0.
    """
    odds, known = [], []

    def score(part: slice) -> np.ndarray:
        scores = channel.scores(validation.texts[part])
        odds.append(log_odds(scores))
        known.append(has_evidence(scores))
        return scores

    right = measure(score, validation)["accuracy@1"].to_numpy() > 0
    some = np.concatenate(known)
    slope, intercept = fit_confidence(np.concatenate(odds)[some], right[some])
    return Confidence(slope=slope, intercept=intercept)
