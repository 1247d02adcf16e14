"""Answers as one vector or several: an answer's score is the soft maximum over its passages'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float, Int

Rows = TypeVar("Rows")
Others = TypeVar("Others")


@dataclass(frozen=True)
class Passages(Generic[Rows]):
    """What represents m answers: texts, features or vectors, one or several an answer.

    Attributes:
        rows: one a passage (v of them): a list, an array or a tensor.
        owner: the answer of each passage (v), rising; None where each answer is one row.
        answers: m.
    """

    rows: Rows
    owner: Int[np.ndarray, " v"] | None
    answers: int

    def of(self, rows: Others) -> Passages[Others]:
        """Return the same passages with other rows."""
        return Passages(rows, self.owner, self.answers)

    @property
    def owners(self) -> Int[np.ndarray, " v"]:
        """The answer of each passage, also where each answer is one row."""
        return np.arange(self.answers) if self.owner is None else self.owner


def among(passages: Passages[Rows], answers: Int[np.ndarray, " k"]) -> Passages[Rows]:
    """Return the passages of k answers alone, in the order of `answers`."""
    rows: Any = passages.rows  # an array, or a tensor
    if passages.owner is None:
        return Passages(rows[answers], None, len(answers))
    first = np.searchsorted(passages.owner, answers)
    counts = np.searchsorted(passages.owner, answers, side="right") - first
    steps = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    chosen = rows[np.repeat(first, counts) + steps]
    return Passages(chosen, np.repeat(np.arange(len(answers)), counts), len(answers))


def pool_passages(
    scores: Float[np.ndarray, "n v"], owner: Int[np.ndarray, " v"] | None, answers: int
) -> Float[np.ndarray, "n {answers}"]:
    """Return the log-sum-exp of the scores of each answer's passages; each answer has one or more.

    It equals the best passage's score where that stands out, and exceeds it by the logarithm of
    the number of passages where they are alike.
    """
    if owner is None:
        return scores
    starts = np.searchsorted(owner, np.arange(answers))
    highest = np.maximum.reduceat(scores, starts, axis=1)
    differences = highest[:, owner]  # computed in place: the largest tables of a ranking
    np.subtract(scores, differences, out=differences)
    np.exp(differences, out=differences)
    pooled: np.ndarray = highest + np.log(np.add.reduceat(differences, starts, axis=1))
    return pooled
