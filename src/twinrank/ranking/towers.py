"""Towers: the trained heads that map features into the space where scores are dot products."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from twinrank.ranking.layers import BatchNorm, Dropout
from twinrank.ranking.memory import Memory, Past
from twinrank.ranking.passages import Passages, over_passages

Kind = Literal["projection", "residual", "none"]
Array = TypeVar("Array", np.ndarray, Tensor)

SHORTEST = 1e-12  # below it a vector is not made longer; functional.normalize has the same
INITIAL_SCALE = 20.0  # sentence-transformers' default inverse temperature for cosines


class _UnitSum(Function):
    """unit(x + y) by rows: `functional.normalize`, with a third of its passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:  # noqa: ANN401
        unit = x + y
        norms = unit.norm(dim=-1, keepdim=True).clamp_min_(SHORTEST)
        unit.div_(norms)
        ctx.save_for_backward(unit, norms)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor]:  # noqa: ANN401
        unit, norms = ctx.saved_tensors
        along = torch.linalg.vecdot(slope, unit).unsqueeze(-1)
        across = torch.addcmul(slope, unit, along, value=-1).div_(norms)
        return across if ctx.needs_input_grad[0] else None, across


class Projection(nn.Sequential):
    """The handover's head: Linear, BatchNorm, ReLU, Dropout, Linear, BatchNorm; all d wide."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(dim, dim),
            BatchNorm(dim),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(dim, dim),
            BatchNorm(dim),
        )


class Residual(nn.Module):
    """unit(x + MLP(x)), where x is the unit feature and the MLP's last layer starts at zero.

    Training therefore starts from the untrained encoder, and learns only what to correct.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        last = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            Dropout(dropout), nn.Linear(dim, dim), nn.GELU(), Dropout(dropout), last
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Correct unit features and scale them back to unit length."""
        x = functional.normalize(features, dim=-1)
        # sqrt(d) gives the MLP inputs of variance one, as its initialisation expects.
        correction = self.mlp(x * x.shape[-1] ** 0.5)
        corrected: Tensor = _UnitSum.apply(x, correction)  # type: ignore[no-untyped-call]
        return corrected


class Unit(nn.Module):
    """The untrained encoder's tower: unit vectors, so that a dot product is a cosine."""

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Scale each row to unit length."""
        return functional.normalize(features, dim=-1)


class Projector(nn.Sequential):
    """What Barlow Twins puts on top of a tower while pre-training, and throws away afterwards.

    Three layers, as in the paper (arXiv 2103.03230); `width` is 8192 there.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(
            nn.Linear(dim, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
        )


class Towers(nn.Module):
    """A tower for queries and one for answers (the same one if single), and a temperature.

    A score is `scale * <query vector, answer vector>`; `scale` is learned where vectors have
    unit length (residual towers, the untrained encoder) and is one for projections, whose
    lengths say it already.

    Args:
        kind: of both towers.
        dim: width of features and vectors.
        dual: whether answers have a tower of their own.
        dropout: while training.
        base: whether a frozen tower, of the same kind, stands between features and towers.
        memory: whether labelled queries of the past are to vote beside them; takes unit vectors.
    """

    def __init__(
        self,
        kind: Kind,
        dim: int,
        *,
        dual: bool = False,
        dropout: float = 0.0,
        base: bool = False,
        memory: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.base = _frozen(_tower(kind, dim, dropout)) if base else None
        self.query_tower = _tower(kind, dim, dropout)
        self.answer_tower = _tower(kind, dim, dropout) if dual else None
        start = 1.0 if kind == "projection" else INITIAL_SCALE
        learned = kind != "projection"
        self.log_scale = nn.Parameter(torch.tensor(start).log(), requires_grad=learned)
        self.projector: Projector | None = None
        self.memory = Memory() if memory else None
        self.offsets: nn.Parameter | None = None

    def take_offsets(self, answers: int | None) -> None:
        """Give as many answers an offset each, zero at first, or forget those there are.

        They belong to answers, and not to towers: a ranker keeps them with the answers' vectors.
        """
        zeros = None if answers is None else self.log_scale.new_zeros(answers, self.dim)
        self.offsets = None if zeros is None else nn.Parameter(zeros.detach())

    def take_projector(self, width: int | None) -> None:
        """Put a new projector on the vectors of pre-training, or throw it away."""
        self.projector = Projector(self.dim, width) if width else None

    def stand_on(self, pretrained: Towers) -> None:
        """Put the query tower of others under these, frozen."""
        self.base = _frozen(copy.deepcopy(pretrained.query_tower))

    def start_from(self, pretrained: Towers, *, answers: bool) -> None:
        """Take over the weights of another's query tower, on the answers' side only if asked."""
        state = pretrained.query_tower.state_dict()
        self.query_tower.load_state_dict(state)
        if answers and self.answer_tower is not None:
            self.answer_tower.load_state_dict(state)

    def train(self, mode: bool = True) -> Towers:
        """Switch to training, or to use; the base is always in use."""
        super().train(mode)
        if self.base is not None:
            self.base.eval()
        return self

    def query(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Vectors of queries."""
        vectors: Tensor = self.query_tower(self._on_base(features))
        return vectors

    def answer(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Vectors of answers, by the tower of the queries if there is no other."""
        tower = self.query_tower if self.answer_tower is None else self.answer_tower
        vectors: Tensor = tower(self._on_base(features))
        return vectors

    def shifted(
        self, passages: Passages[Tensor], places: Int[np.ndarray, " k"] | None = None
    ) -> Passages[Tensor]:
        """Vectors of passages, each moved by its answer's offset, if these towers have any.

        Args:
            passages: of all answers, or of some.
            places: which those are.
        """
        if self.offsets is None:
            return passages
        offsets: Tensor = self.offsets
        for of in (places, passages.owner):
            if of is not None:
                offsets = offsets[torch.as_tensor(of, device=offsets.device)]
        return passages.of(passages.rows + offsets)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The inverse temperature, positive."""
        return self.log_scale.exp()

    def scores(
        self, queries: Float[Tensor, "n d"], answers: Float[Tensor, "m d"]
    ) -> Float[Tensor, "n m"]:
        """Scores of query *vectors* against answer *vectors* (both already through a tower)."""
        return self.scale * (queries @ answers.T)

    def parts(
        self,
        queries: Float[Tensor, "n d"],
        passages: Passages[Tensor],
        past: Past | None = None,
        blind: Bool[Tensor, "n p"] | None = None,
    ) -> dict[str, Float[Tensor, "n m"]]:
        """What makes up the score of each answer: `dense`, and the votes of the `past`.

        Args:
            queries: their vectors.
            passages: vectors of what stands for the answers.
            past: who votes, if these towers have a memory.
            blind: which of the past each query does not see.
        """
        owner = passages.owner
        places = None if owner is None else torch.as_tensor(owner, device=queries.device)
        products = self.scores(queries, passages.rows)
        parts = {"dense": over_passages(products, places, passages.answers)}
        if self.memory is not None and past is not None:
            parts["past"] = self.memory(queries, past, passages.answers, blind)
        return parts

    def _on_base(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        based: Tensor = features if self.base is None else self.base(features)
        return based


def total(parts: Mapping[str, Array]) -> Array:
    """The sum of parts (n x m each): the scores."""
    return reduce(add, parts.values())


def _frozen(tower: nn.Module) -> nn.Module:
    return tower.eval().requires_grad_(False)


def _tower(kind: Kind, dim: int, dropout: float) -> nn.Module:
    if kind == "projection":
        return Projection(dim, dropout)
    return Residual(dim, dropout) if kind == "residual" else Unit()
