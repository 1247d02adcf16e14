"""Towers in torch: the heads that map features into the space where scores are dot products."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from twinrank.ranking import FrozenTowers, Passages
from twinrank.ranking.towers import ROWS_A_CHUNK, SHORTEST, Kind
from twinrank.recipe import Recipe

INITIAL_SCALE = 20.0  # sentence-transformers' default inverse temperature for cosines
INITIAL_SHARPNESS, INITIAL_FLOOR = 10.0, 0.04  # of a memory; near what training finds


@dataclass(frozen=True)
class Share:
    """The rows of a batch that this process passes through a tower; others pass the rest.

    Attributes:
        rows: which they are.
        whole: how many rows the batch has.
        summed: adds up everyone's tensor, with gradients; all processes have to call it.
    """

    rows: slice
    whole: int
    summed: Callable[[Tensor], Tensor]


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Let the layers know that what they are given is a share."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


class Dropout(nn.Dropout):
    """Dropout whose mask costs a byte an entry where that is drawn on a CPU.

    torch draws masks there one number at a time: a tenth of a training step, in a residual tower
    a fifth. The probability is met to the nearest 1/256, and the rest scaled by just that.
    Of a share, the mask is drawn for the whole batch, so that everyone's generator stays alike.
    """

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Zero entries at random while training."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        share = _SHARE.get()
        rows, whole = (share.rows, share.whole) if share else (slice(None), len(x))
        count = whole * x.shape[1]
        words = torch.randint(-(2**63), 2**63 - 1, (-(-count // 8),))
        draws = words.view(torch.uint8)[:count].view(whole, -1)[rows]
        dropped = min(round(256 * self.p), 255)
        return x * (draws >= dropped).to(x.dtype).mul_(256 / (256 - dropped))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation whose statistics are those of the whole batch, also for a share of it."""

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Standardise each column over the batch while training, else by the running statistics."""
        share = _SHARE.get()
        if share is None or not self.training:
            return super().forward(x)
        n = share.whole
        mean = share.summed(x.sum(dim=0)) / n
        variance = share.summed((x - mean).square().sum(dim=0)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


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
        self.kind: Kind = kind
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


def in_chunks(
    tower: Callable[[Tensor], Tensor], features: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """What a tower in use makes of any number of rows, in bounded memory beside the result."""
    return torch.cat([tower(part) for part in features.split(ROWS_A_CHUNK)])


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


def towers_of(recipe: Recipe, dim: int) -> Towers:
    """Return fresh towers as a recipe's ranker has them, for features `dim` wide."""
    if recipe.towers is None:
        return Towers("none", dim)
    base = recipe.pretraining is not None and recipe.pretraining.use == "freeze"
    settings = recipe.towers
    return Towers(
        settings.kind,
        dim,
        dual=settings.dual,
        dropout=settings.dropout,
        base=base,
        memory=recipe.memory is not None,
    )


def freeze(towers: Towers) -> FrozenTowers:
    """Return the towers as a ranker uses them: copies of all weights, without offsets."""
    tensors = {
        name: tensor.cpu().numpy().copy()
        for name, tensor in towers.state_dict().items()
        if name != "offsets" and not name.startswith("projector.")
    }
    dual, base = towers.answer_tower is not None, towers.base is not None
    return FrozenTowers(tensors, towers.kind, dual=dual, base=base)


def _frozen(tower: nn.Module) -> nn.Module:
    return tower.eval().requires_grad_(False)


def _tower(kind: Kind, dim: int, dropout: float) -> nn.Module:
    if kind == "projection":
        return Projection(dim, dropout)
    return Residual(dim, dropout) if kind == "residual" else Unit()
