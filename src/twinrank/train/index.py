"""The answers' vectors that a training step scores against: all fresh, or mostly stale."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from twinrank.model.towers import Towers
from twinrank.train.team import Team

ALONE = Team()


class ExactIndex:
    """Every answer is projected at every step, so no vector is ever older than the tower."""

    def __init__(self, features: Float[Tensor, "m d"]) -> None:
        self.features = features

    def refresh(
        self,
        towers: Towers,
        step: int,  # noqa: ARG002
        team: Team = ALONE,
    ) -> Float[Tensor, "m d"]:
        """The vectors to score against at a step, all with gradients."""
        return team.through(towers.answer, self.features)

    def state(self) -> dict[str, Tensor]:
        """What a later step depends on: nothing."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to go on from."""


class StaleIndex:
    """The handover's: a step projects one batch of answers, and the rest keep older vectors.

    Gradients flow through the fresh batch alone. Batches walk through one seeded permutation
    of the answers, so that no vector is older than ceil(m / batch) steps.
    """

    def __init__(self, features: Float[Tensor, "m d"], batch: int, seed: int) -> None:
        self.features = features
        self.batch = min(batch, len(features))
        generator = torch.Generator().manual_seed(seed)
        self.order = torch.randperm(len(features), generator=generator).to(features.device)
        self.vectors: Tensor | None = None

    def refresh(self, towers: Towers, step: int, team: Team = ALONE) -> Float[Tensor, "m d"]:
        """The vectors to score against at a step (counted from the start of training).

        This step's batch is fresh and has gradients; the others are constants.
        """
        if self.vectors is None:
            self.vectors = _first_vectors(towers, self.features)
        places = torch.arange(self.batch, device=self.order.device) + step * self.batch
        rows = self.order[places % len(self.order)].sort().values
        fresh = team.through(towers.answer, self.features[rows])
        vectors = self.vectors.index_copy(0, rows, fresh)
        self.vectors = vectors.detach()
        return vectors

    def state(self) -> dict[str, Tensor]:
        """What a later step depends on: the vectors, or nothing before the first step."""
        return {} if self.vectors is None else {"vectors": self.vectors}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        vectors = state.get("vectors")
        self.vectors = None if vectors is None else vectors.to(self.features.device)


Index = ExactIndex | StaleIndex


@torch.no_grad()
def _first_vectors(towers: Towers, features: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    """Vectors to start the index with: as a training step makes them, of all answers at once.

    A copy of the towers makes them, and generators are put back, so that training goes on as
    if this had not been.
    """
    with torch.random.fork_rng():
        return copy.deepcopy(towers).train().answer(features)
