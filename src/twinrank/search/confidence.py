"""How likely the first answer is right, learned on the validation split."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from scipy.special import expit, logsumexp


class Confidence(BaseModel):
    """Platt's (1999) logistic curve over the log-odds that the scores give the first answer."""

    model_config = ConfigDict(frozen=True)

    slope: float
    intercept: float

    def of(self, scores: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
        """The probability, for each query, that its best answer is right."""
        probability: np.ndarray = expit(self.slope * log_odds(scores) + self.intercept)
        return probability


def log_odds(scores: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """Log p / (1 - p) of the best answer under the softmax of each row of scores."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=1)
    if ordered.shape[1] < 2:
        return np.zeros(len(ordered))
    odds: np.ndarray = ordered[:, -1] - logsumexp(ordered[:, :-1], axis=1)
    return odds
