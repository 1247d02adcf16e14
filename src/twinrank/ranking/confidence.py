"""How likely an answer is right, learned on the validation split from the first of each query."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, FiniteFloat
from scipy.special import expit, logsumexp


class Confidence(BaseModel):
    """Platt's (1999) logistic curve over the log-odds that the scores give the first answer."""

    model_config = ConfigDict(frozen=True)

    slope: FiniteFloat
    intercept: FiniteFloat

    def of(self, scores: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
        """Return the probability that each query's best answer is right; 0 without evidence."""
        sure = expit(self.slope * log_odds(scores) + self.intercept)
        return np.where(has_evidence(scores), sure, 0.0)

    def of_each(
        self, scores: Float[np.ndarray, " m"], answers: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, " k"]:
        """Return the probability that each of some answers to one query is right.

        The curve is of first answers. Those behind share what the first leaves, as the softmax has
        it, none getting more than the first: all answers come to 1 at most, and to 0 without
        evidence. How true that is: docs/measurements/quality.md.
        """
        row = np.asarray(scores, np.float64)
        first, best = self.of(row[None])[0], int(row.argmax())
        behind = np.delete(row, best)
        if not first or not len(behind):
            return np.where(answers == best, first, 0.0)
        shares = np.exp(np.minimum(row[answers] - logsumexp(behind), 0))
        behind_first: np.ndarray = np.minimum(first, (1 - first) * shares)
        return np.where(answers == best, first, behind_first)


def has_evidence(scores: Float[np.ndarray, "n m"]) -> Bool[np.ndarray, " n"]:
    """Return whether anything speaks for the best answer of each query.

    Nothing does where all answers score alike, or the only answer scores 0.
    """
    table = np.asarray(scores)
    differs = (table != table[:, :1]).any(axis=1)
    evidence: np.ndarray = differs | ((table.shape[1] == 1) & table.any(axis=1))
    return evidence


def log_odds(scores: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """Return log(p / (1 - p)) of the best answer under the softmax of each row of scores."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=1)
    if ordered.shape[1] < 2:
        return np.zeros(len(ordered))
    odds: np.ndarray = ordered[:, -1] - logsumexp(ordered[:, :-1], axis=1)
    return odds
