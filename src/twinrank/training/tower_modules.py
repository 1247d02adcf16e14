"""Towers in torch: the heads that map features into the space where scores are dot products."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from twinrank.ranking import FrozenTowers, Passages
from twinrank.ranking.towers import ROWS_A_CHUNK, Kind
from twinrank.recipe import Recipe
from twinrank.training.distributed import gather_rows, local_rows

INITIAL_SCALE = 20.0  # sentence-transformers' default inverse temperature for cosines
INITIAL_SHARPNESS, INITIAL_FLOOR = 10.0, 0.04  # of a memory; near what training finds


class Dropout(nn.Dropout):
    """Dropout whose mask is drawn eight entries at a time on a CPU.

    torch draws one number an entry there, a quarter of a step of `even`. The probability is met to
    the nearest 1/256, and the rest scaled by just that.
    """

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Zero entries at random while training."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        words = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 8),))
        draws = words.view(torch.uint8)[: x.numel()].view(x.shape)
        dropped = min(round(256 * self.p), 255)
        return x * (draws >= dropped).to(x.dtype).mul_(256 / (256 - dropped))


class Projection(nn.Sequential):
    """The handover's head: Linear, BatchNorm, ReLU, Dropout, Linear, BatchNorm; all d wide."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(dim, dim),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            Dropout(dropout),
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
            Dropout(dropout), nn.Linear(dim, dim), nn.GELU(), Dropout(dropout), last
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Correct unit features and scale them back to unit length."""
        x = functional.normalize(features, dim=-1)
        # sqrt(d) gives the MLP inputs of variance one, as its initialisation expects.
        return functional.normalize(x + self.mlp(x * x.shape[-1] ** 0.5), dim=-1)


class Unit(nn.Module):
    """The untrained encoder's tower: unit vectors, so that a dot product is a cosine."""

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Scale each row to unit length."""
        return functional.normalize(features, dim=-1)


class Projector(nn.Sequential):
    """Three layers that Barlow Twins puts on a tower while pre-training, as in arXiv 2103.03230.

    They are thrown away afterwards; `width` is 8192 in the paper.
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
        memory: whether labelled queries of the past vote too; takes unit vectors.
    """

    def __init__(
        self,
        kind: Kind,
        dim: int,
        *,
        dual: bool = False,
        dropout: float = 0.0,
        memory: bool = False,
    ) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.dim = dim
        self.base: nn.Module | None = None  # frozen, between features and towers
        self.query_tower = _build_tower(kind, dim, dropout)
        self.answer_tower = _build_tower(kind, dim, dropout) if dual else None
        scale = 1.0 if kind == "projection" else INITIAL_SCALE
        is_learned = kind != "projection"
        self.log_scale = nn.Parameter(torch.tensor(scale).log(), requires_grad=is_learned)
        self.projector: Projector | None = None
        self.memory = Memory() if memory else None
        self.offsets: nn.Parameter | None = None

    @classmethod
    def for_recipe(cls, recipe: Recipe, dim: int) -> Towers:
        """Make the untrained towers of a recipe, for features `dim` wide."""
        if recipe.towers is None:
            return cls("none", dim)
        settings = recipe.towers.model_dump(exclude={"offsets"})
        return cls(dim=dim, memory=recipe.memory is not None, **settings)

    def add_offsets(self, answers: int) -> None:
        """Give each answer of training an offset, zero at first.

        They belong to answers, and not to towers: a ranker keeps them with the answers' vectors.
        """
        self.offsets = nn.Parameter(self.log_scale.detach().new_zeros(answers, self.dim))

    def add_projector(self, width: int | None) -> None:
        """Put a new projector on the vectors of pre-training; without a width, none."""
        self.projector = Projector(self.dim, width) if width else None

    def stand_on(self, pretrained: Towers) -> None:
        """Put the query tower of others under these, frozen."""
        self.base = copy.deepcopy(pretrained.query_tower).eval().requires_grad_(False)

    def start_from(self, pretrained: Towers) -> None:
        """Take over the weights of another's query tower, on both sides."""
        state = pretrained.query_tower.state_dict()
        self.query_tower.load_state_dict(state)
        if self.answer_tower is not None:
            self.answer_tower.load_state_dict(state)

    def query(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return vectors of queries."""
        vectors: Tensor = self.query_tower(features if self.base is None else self.base(features))
        return vectors

    def answer(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return vectors of answers, by the tower of the queries if there is no other."""
        tower = self.query_tower if self.answer_tower is None else self.answer_tower
        vectors: Tensor = tower(features if self.base is None else self.base(features))
        return vectors

    def project(
        self, tower: Callable[[Tensor], Tensor], features: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n d"]:
        """Return what `query` or `answer` gives, each of several processes passing its part.

        Projections standardise over the rows that they are given: every process passes them all.
        """
        if self.kind == "projection":
            return tower(features)
        n = len(features)
        return gather_rows(tower(features[local_rows(n)]), n)

    def add_offsets_to(
        self, passages: Passages[Tensor], answers: Int[np.ndarray, " k"] | None = None
    ) -> Passages[Tensor]:
        """Return vectors of passages of all answers, or of these, each moved by its offset."""
        if self.offsets is None:
            return passages
        offsets: Tensor = self.offsets
        for rows in (answers, passages.owner):
            if rows is not None:
                offsets = offsets[torch.as_tensor(rows, device=offsets.device)]
        return passages.of(passages.rows + offsets)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The inverse temperature, positive."""
        return self.log_scale.exp()

    def scores(
        self,
        queries: Float[Tensor, "n d"],
        passages: Passages[Tensor],
        past: Past | None = None,
        blind: Bool[Tensor, "n p"] | None = None,
    ) -> Float[Tensor, "n m"]:
        """Return scores by vectors of queries and passages, and by the votes of the past.

        Past queries vote if these towers have a memory; `blind` says which a query does not see.
        """
        owner = passages.owner
        owners = None if owner is None else torch.as_tensor(owner, device=queries.device)
        products = self.scale * (queries @ passages.rows.T)
        scores = pool_over_passages(products, owners, passages.answers)
        if self.memory is not None and past is not None:
            votes: Tensor = self.memory(queries, past, passages.answers, blind)
            scores = scores + votes
        return scores

    def train(self, mode: bool = True) -> Towers:
        """Switch to training, or to use; the base is always in use."""
        super().train(mode)
        if self.base is not None:
            self.base.eval()
        return self

    def freeze(self) -> FrozenTowers:
        """Return the towers as a ranker uses them: copies of all weights, without offsets."""
        tensors = {
            name: tensor.cpu().numpy().copy()
            for name, tensor in self.state_dict().items()
            if name != "offsets" and not name.startswith("projector.")
        }
        dual, base = self.answer_tower is not None, self.base is not None
        return FrozenTowers(tensors, self.kind, dual=dual, base=base)


@dataclass(frozen=True)
class Past:
    """Labelled queries to vote: vectors (p x d), and v votes, each a query's for an answer."""

    vectors: Float[Tensor, "p d"]
    voters: Int[Tensor, " v"]
    answers: Int[Tensor, " v"]

    def among(self, chosen: Int[np.ndarray, " k"], answers: int) -> tuple[Past, Int[Tensor, " p"]]:
        """Return the votes for k of all answers, in the order of `chosen`, and who gave each."""
        device = self.answers.device
        position = self.answers.new_full((answers,), -1)
        position[torch.as_tensor(chosen, device=device)] = torch.arange(len(chosen), device=device)
        target = position[self.answers]
        voters = self.voters[target >= 0]
        rows = torch.arange(len(voters), device=device)
        return Past(self.vectors[voters], rows, target[target >= 0]), voters


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
        """Return the votes for each answer, by unit vectors; see `Towers.scores`."""
        near = (self.log_sharpness.exp() * (queries @ past.vectors.T - 1)).exp()
        if blind is not None:
            near = near.masked_fill(blind, 0.0)
        votes = near.new_zeros(len(queries), answers)
        votes = votes.index_add(1, past.answers, near[:, past.voters])
        return self.weight * (votes / self.log_floor.exp()).log1p()


def in_chunks(
    tower: Callable[[Tensor], Tensor], features: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """Return what a tower in use makes of any number of rows, in bounded memory."""
    return torch.cat([tower(part) for part in features.split(ROWS_A_CHUNK)])


def pool_over_passages(
    scores: Float[Tensor, "n v"], owner: Int[Tensor, " v"] | None, answers: int
) -> Float[Tensor, "n {answers}"]:
    """Return log sum exp of the scores of each answer's passages; every answer has one or more.

    It is the best passage's score where that stands out, and exceeds it by the logarithm of
    the number of passages where they are alike.
    """
    if owner is None:
        return scores
    owners = owner.expand(len(scores), -1)
    highest = scores.new_full((len(scores), answers), -torch.inf)
    highest = highest.scatter_reduce(1, owners, scores.detach(), "amax")
    above = (scores - highest[:, owner]).exp()
    return highest + scores.new_zeros(len(scores), answers).index_add(1, owner, above).log()


def _build_tower(kind: Kind, dim: int, dropout: float) -> nn.Module:
    if kind == "projection":
        return Projection(dim, dropout)
    return Residual(dim, dropout) if kind == "residual" else Unit()
