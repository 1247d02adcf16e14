"""How likely an answer is right, learned on the validation split from the first of each query."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, FiniteFloat
from scipy.special import expit, logsumexp


class Confidence(BaseModel):
    """Platt's (1999) logistic curve over the log-odds that the scores give the first answer."""

    model_config = ConfigDict(frozen=True)

    slope: FiniteFloat
    intercept: FiniteFloat

    def of(self, scores: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
        """The probability, for each query, that its best answer is right."""
        probability: np.ndarray = expit(self.slope * log_odds(scores) + self.intercept)
        return probability

    def of_each(
        self, scores: Float[np.ndarray, " m"], answers: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, " k"]:
        """The probability, for each of some answers to one query, that it is right.

        The curve is learned from first answers. Those behind turn out to be as well calibrated by
        it as by the softmax itself (docs/quality.md).
        """
        row = np.asarray(scores, np.float64)
        odds = row[answers] - logsumexp(row)
        first = answers == row.argmax()
        odds[~first] -= np.log1p(-np.exp(odds[~first]))
        odds[first] = log_odds(row[None])
        probability: np.ndarray = expit(self.slope * odds + self.intercept)
        return probability


def log_odds(scores: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """Log p / (1 - p) of the best answer under the softmax of each row of scores."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=1)
    if ordered.shape[1] < 2:
        return np.zeros(len(ordered))
    odds: np.ndarray = ordered[:, -1] - logsumexp(ordered[:, :-1], axis=1)
    return odds
