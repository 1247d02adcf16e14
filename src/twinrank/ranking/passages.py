"""Answers as one vector or several: an answer's score is the soft maximum over its passages'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Rows = TypeVar("Rows")
Others = TypeVar("Others")
Array = TypeVar("Array", np.ndarray, Tensor)

ROWS_A_CHUNK = 65_536


@dataclass(frozen=True)
class Passages(Generic[Rows]):
    """What stands for m answers: texts, features or vectors.

    Attributes:
        rows: of each passage (v of them).
        owner: the answer of each passage (v), rising; none where each answer is one row.
        answers: m.
    """

    rows: Rows
    owner: Int[np.ndarray, " v"] | None
    answers: int

    def of(self, rows: Others) -> Passages[Others]:
        """The same passages, given by other rows."""
        return Passages(rows, self.owner, self.answers)


def in_chunks(
    tower: Callable[[Tensor], Tensor], features: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """What a tower in use makes of any number of rows, in bounded memory beside the result."""
    return torch.cat([tower(part) for part in features.split(ROWS_A_CHUNK)])


def among(passages: Passages[Array], places: Int[np.ndarray, " k"]) -> Passages[Array]:
    """The passages of k answers alone, in the order of their places."""
    if passages.owner is None:
        return Passages(passages.rows[places], None, len(places))
    first = np.searchsorted(passages.owner, places)
    counts = np.searchsorted(passages.owner, places, side="right") - first
    steps = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    rows = passages.rows[np.repeat(first, counts) + steps]
    return Passages(rows, np.repeat(np.arange(len(places)), counts), len(places))


def over_passages(
    scores: Float[Tensor, "n v"], owner: Int[Tensor, " v"] | None, answers: int
) -> Float[Tensor, "n {answers}"]:
    """Log sum exp of the scores of each answer's passages; every answer has one or more.

    Equal to the best passage's score where that stands out, and above it by the logarithm of
    the number of passages where they are alike.
    """
    if owner is None:
        return scores
    places = owner.expand(len(scores), -1)
    highest = scores.new_full((len(scores), answers), -torch.inf)
    highest = highest.scatter_reduce(1, places, scores.detach(), "amax")
    above = (scores - highest[:, owner]).exp()
    return highest + scores.new_zeros(len(scores), answers).index_add(1, owner, above).log()
