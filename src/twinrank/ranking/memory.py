"""What labelled queries of the past say about a new one: a kernel vote for their answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

INITIAL_SHARPNESS, INITIAL_FLOOR = 10.0, 0.04  # near what training finds


@dataclass(frozen=True)
class Past:
    """Labelled queries to vote: vectors (p x d), and v votes, each a query's for an answer."""

    vectors: Float[Tensor, "p d"]
    voters: Int[Tensor, " v"]
    answers: Int[Tensor, " v"]

    def among(self, places: Int[np.ndarray, " k"], answers: int) -> tuple[Past, Int[Tensor, " p"]]:
        """The votes for k of all answers, now in the order of their places, and who gave each."""
        moved = self.answers.new_full((answers,), -1)
        moved[torch.as_tensor(places, device=moved.device)] = torch.arange(
            len(places), device=moved.device
        )
        place = moved[self.answers]
        voters = self.voters[place >= 0]
        numbers = torch.arange(len(voters), device=moved.device)
        return Past(self.vectors[voters], numbers, place[place >= 0]), voters


class Memory(nn.Module):
    """weight * log(1 + sum_p exp(sharpness * (cos(q, p) - 1)) / floor), p over an answer's votes.

    The kernel is the neighbourhood component analysis of Goldberger et al. (2004) with a floor:
    an answer without a past has zero, and one vote far away changes nothing. Trained with the
    towers, each query blind to its own thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(INITIAL_SHARPNESS).log())
        self.log_floor = nn.Parameter(torch.tensor(INITIAL_FLOOR).log())
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(
        self,
        queries: Float[Tensor, "n d"],
        past: Past,
        answers: int,
        blind: Bool[Tensor, "n p"] | None = None,
    ) -> Float[Tensor, "n {answers}"]:
        """Scores of queries, by unit vectors.

        Args:
            queries: their vectors.
            past: who votes.
            answers: how many there are.
            blind: which of the past each query does not see.
        """
        near = (self.log_sharpness.exp() * (queries @ past.vectors.T - 1)).exp()
        if blind is not None:
            near = near.masked_fill(blind, 0.0)
        votes = near.new_zeros(len(queries), answers)
        votes = votes.index_add(1, past.answers, near[:, past.voters])
        return self.weight * (votes / self.log_floor.exp()).log1p()
