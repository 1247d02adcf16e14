"""The answers that a training step scores against: all fresh, all but mostly stale, or a sample."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from twinrank.ranking import Passages, among
from twinrank.training.team import Team
from twinrank.training.tower_modules import Towers, in_chunks

ALONE = Team()
POOL = 8  # answers that a step looks through for hard ones, for each in the sample


class ExactIndex:
    """Every answer is projected at every step, so no vector is ever older than the tower."""

    kind = "exact"

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

    kind = "stale"

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


@dataclass(frozen=True)
class Candidates:
    """The answers that a step scores its queries against.

    Attributes:
        passages: vectors of what stands for them.
        places: which they are; none if all.
        weights: how many answers each stands for; none if each for itself.
    """

    passages: Passages[Tensor]
    places: Int[np.ndarray, " k"] | None = None
    weights: Float[Tensor, " k"] | None = None


class SampledIndex:
    """A step projects the right answers of its batch and a sample of the others, all fresh.

    The others are drawn twice: a uniform pool, and of it half the sample nearest to the batch, by
    vectors as old as the epoch (the hard negatives of ANCE, Xiong et al. 2021, arXiv 2007.00808),
    and half uniform from what is left. Each stands for as many answers as the odds of its draws
    say: importance sampling as of Bengio and Senecal (2008) and Jean et al. (2015, arXiv
    1412.2007). So the softmax's sum of exp(score) is unbiased, its logarithm low by what vanishes
    as the sample grows, and with all answers drawn the loss is the exact one.

    Args:
        answers: features of their passages.
        sample: how many others a step.
        seed: decides, with the number of a step, what is drawn.
    """

    kind = "sampled"

    def __init__(self, answers: Passages[Tensor], sample: int, seed: int) -> None:
        self.answers = answers
        self.sample = sample
        self.seed = seed
        self.stale: Float[Tensor, "m d"]

    @torch.no_grad()
    def renew(self, towers: Towers, team: Team = ALONE) -> None:
        """Project all answers, to tell what is near by until the next epoch: each its mean."""
        passages, device = self.answers, self.answers.rows.device
        rows = in_chunks(lambda part: team.through(towers.answer, part), passages.rows)
        if passages.owner is not None:
            owner = torch.as_tensor(passages.owner, device=device)
            sums = rows.new_zeros(passages.answers, towers.dim).index_add_(0, owner, rows)
            rows = sums / owner.bincount()[:, None]
        self.stale = rows if towers.offsets is None else rows + towers.offsets

    def candidates(
        self,
        towers: Towers,
        queries: Float[Tensor, "n d"],
        labels: sparse.csr_array,
        step: int,
        team: Team = ALONE,
    ) -> Candidates:
        """What to score a batch against, projected with gradients.

        Args:
            towers: as they are now.
            queries: vectors of the batch.
            labels: its right answers, n x m.
            step: counted from the start of training.
            team: draws what its first process does, whose rounding may differ.
        """
        places, weights = team.told(self.drawn(towers, queries, labels, step))
        chosen = among(self.answers, places)
        vectors = team.through(towers.answer, chosen.rows)
        return Candidates(chosen.of(vectors), places, queries.new_tensor(weights))

    def drawn(
        self, towers: Towers, queries: Float[Tensor, "n d"], labels: sparse.csr_array, step: int
    ) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """The places of candidates, right ones first, and their weights, which add up to m."""
        rng = np.random.default_rng([self.seed, step])
        right = np.unique(labels.nonzero()[1])
        rest = self.answers.answers - len(right)
        pool = rng.choice(rest, min(rest, POOL * self.sample), replace=False)
        pool = _outside(right, pool)
        near = self._near(towers, queries, pool)
        far = pool[~near]
        some = rng.choice(far, min(self.sample - near.sum(), len(far)), replace=False)
        each = rest / max(len(pool), 1)
        weights = (1, each, each * len(far) / max(len(some), 1))
        parts = (right, pool[near], some)
        return np.concatenate(parts), np.repeat(weights, [len(part) for part in parts])

    @torch.no_grad()
    def _near(
        self, towers: Towers, queries: Float[Tensor, "n d"], pool: Int[np.ndarray, " p"]
    ) -> Bool[np.ndarray, " p"]:
        """Those of a pool that are likeliest for any of the queries: half a sample."""
        stale = self.stale[torch.as_tensor(pool, device=self.stale.device)]
        likely = towers.scores(queries, stale).log_softmax(dim=1).amax(dim=0)
        near = np.zeros(len(pool), dtype=bool)
        near[likely.topk(min(self.sample // 2, len(pool))).indices.cpu().numpy()] = True
        return near

    def state(self) -> dict[str, Tensor]:
        """What a later epoch depends on: nothing, for it begins by `renew`."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to go on from."""


Index = ExactIndex | StaleIndex | SampledIndex


def _outside(some: Int[np.ndarray, " c"], ranks: Int[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
    """The numbers at these ranks among all that are not in `some`, which rises."""
    before = some - np.arange(len(some))
    return ranks + np.searchsorted(before, ranks, side="right")


@torch.no_grad()
def _first_vectors(towers: Towers, features: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    """Vectors to start the index with: as a training step makes them, of all answers at once.

    A copy of the towers makes them, and generators are put back, so that training goes on as
    if this had not been.
    """
    with torch.random.fork_rng():
        return copy.deepcopy(towers).train().answer(features)
