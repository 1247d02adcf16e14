"""Towers: the trained heads that map features into the space where scores are dot products."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Kind = Literal["projection", "residual", "none"]

INITIAL_SCALE = 20.0  # sentence-transformers' default inverse temperature for cosines


class Projection(nn.Sequential):
    """The handover's head: Linear, BatchNorm, ReLU, Dropout, Linear, BatchNorm; all d wide."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(dim, dim),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dim, dim),
            nn.BatchNorm1d(dim),
        )


class Residual(nn.Module):
    """unit(x + MLP(x)), where x is the unit feature and the MLP's last layer starts at zero.

    Training therefore starts from the untrained encoder, and learns only what to correct.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        last = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), last
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Correct unit features and scale them back to unit length."""
        x = functional.normalize(features, dim=-1)
        # sqrt(d) gives the MLP inputs of variance one, as its initialisation expects.
        correction = self.mlp(x * x.shape[-1] ** 0.5)
        return functional.normalize(x + correction, dim=-1)


class Unit(nn.Module):
    """The untrained encoder's tower: unit vectors, so that a dot product is a cosine."""

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Scale each row to unit length."""
        return functional.normalize(features, dim=-1)


class Towers(nn.Module):
    """A tower for queries and one for answers (the same one if single), and a temperature.

    A score is `scale * <query vector, answer vector>`; `scale` is learned where vectors have
    unit length (residual towers, the untrained encoder) and is one for projections, whose
    lengths say it already.
    """

    def __init__(
        self,
        kind: Kind,
        dim: int,
        *,
        dual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.query_tower = _tower(kind, dim, dropout)
        self.answer_tower = _tower(kind, dim, dropout) if dual else None
        start = 1.0 if kind == "projection" else INITIAL_SCALE
        learned = kind != "projection"
        self.log_scale = nn.Parameter(torch.tensor(start).log(), requires_grad=learned)

    def query(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Vectors of queries."""
        vectors: Tensor = self.query_tower(features)
        return vectors

    def answer(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Vectors of answers, by the tower of the queries if there is no other."""
        tower = self.query_tower if self.answer_tower is None else self.answer_tower
        vectors: Tensor = tower(features)
        return vectors

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The inverse temperature, positive."""
        return self.log_scale.exp()

    def scores(
        self, queries: Float[Tensor, "n d"], answers: Float[Tensor, "m d"]
    ) -> Float[Tensor, "n m"]:
        """Scores of query *vectors* against answer *vectors* (both already through a tower)."""
        return self.scale * (queries @ answers.T)


def _tower(kind: Kind, dim: int, dropout: float) -> nn.Module:
    if kind == "projection":
        return Projection(dim, dropout)
    return Residual(dim, dropout) if kind == "residual" else Unit()
