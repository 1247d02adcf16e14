"""The answers that a training step scores against: all, all but most of them stale, or a sample."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import psutil
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from twinrank.ranking import Passages, among
from twinrank.recipe import TrainingSettings
from twinrank.training.checkpoint import State
from twinrank.training.distributed import from_main
from twinrank.training.tower_modules import Towers, in_chunks

POOL_FACTOR = 8  # answers that a step looks through for hard ones, for each in the sample
MIN_SPEEDUP = 2.0  # of a sampled epoch over an exact one, whose loss has no noise
# Measured, in passages that a step projects and learns from:
COST_OF_RENEWAL = 0.6  # a passage that is only projected, as all are where a sampled epoch begins
COST_OF_SEARCH = 0.13  # an answer of the pool that is looked through for hard ones
# Numbers of four bytes that an exact step has in memory for each feature of each passage, and for
# each query of the batch and each passage:
NUMBERS_IN_MEMORY = 7

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidates:
    """The answers that a step scores its queries against."""

    passages: Passages[Tensor]  # their vectors
    answers: Int[np.ndarray, " k"] | None = None  # which answers (k of m); None if all
    weights: Float[Tensor, " k"] | None = None  # how many each stands for; None if for itself


class ExactIndex:
    """Every answer is projected at every step, so that no vector is older than the tower."""

    kind: ClassVar[str] = "exact"

    def __init__(self, answers: Passages[Tensor]) -> None:
        self.answers = answers

    def begin_epoch(self, towers: Towers) -> None:
        """Make ready for the steps of an epoch."""

    def candidates(
        self, towers: Towers, queries: Float[Tensor, "n d"], labels: sparse.csr_array, step: int
    ) -> Candidates:
        """Return the answers to score a batch against, by its vectors and labels (n x m)."""
        del queries, labels  # all answers are candidates
        return Candidates(self.answers.of(self.refresh(towers, step)))

    def refresh(self, towers: Towers, step: int) -> Float[Tensor, "v d"]:
        """Return the vectors of all passages at a step."""
        del step
        return towers.project(towers.answer, self.answers.rows)

    def state(self) -> State:
        """Return the tensors that a later epoch depends on."""
        return {}

    def load_state(self, state: State) -> None:
        """Go on from a state."""


class StaleIndex(ExactIndex):
    """The handover's: a step projects one batch of passages, and the rest keep older vectors.

    Gradients flow through the fresh batch alone. Batches walk through one seeded permutation
    of the passages, so that no vector is older than ceil(passages / batch) steps.
    """

    kind = "stale"

    def __init__(self, answers: Passages[Tensor], batch: int, seed: int) -> None:
        super().__init__(answers)
        count, device = len(answers.rows), answers.rows.device
        self.batch = min(batch, count)
        generator = torch.Generator().manual_seed(seed)
        self.order = torch.randperm(count, generator=generator).to(device)
        self.vectors: Tensor | None = None

    def refresh(self, towers: Towers, step: int) -> Float[Tensor, "v d"]:
        """Return the vectors at a step: its batch is fresh and has gradients, the rest constant."""
        features = self.answers.rows
        if self.vectors is None:
            self.vectors = from_main(lambda: _project_first(towers, features))
        positions = torch.arange(self.batch, device=self.order.device) + step * self.batch
        rows = self.order[positions % len(self.order)].sort().values
        fresh = towers.project(towers.answer, features[rows])
        vectors = self.vectors.index_copy(0, rows, fresh)
        self.vectors = vectors.detach()
        return vectors

    def state(self) -> State:
        """Return the vectors; nothing before the first step."""
        return {} if self.vectors is None else {"vectors": self.vectors}

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        vectors = state.get("vectors")
        self.vectors = None if vectors is None else vectors.to(self.order.device)


class SampledIndex(ExactIndex):
    """A step projects the right answers of its batch and a sample of the others, all fresh.

    The others are drawn twice: a uniform pool, and of it half the sample nearest to the batch, by
    vectors as old as the epoch (the hard negatives of ANCE, Xiong et al. 2021, arXiv 2007.00808),
    and half uniform from what is left. Each stands for as many answers as the odds of its draws
    say: importance sampling as of Bengio and Senecal (2008) and Jean et al. (2015, arXiv
    1412.2007). So the softmax's sum of exp(score) is unbiased, its logarithm low by what vanishes
    as the sample grows, and with all answers drawn the loss is the exact one.
    """

    kind = "sampled"

    def __init__(self, answers: Passages[Tensor], sample: int, seed: int) -> None:
        super().__init__(answers)
        self.sample = sample
        self.seed = seed
        self.stale: Float[Tensor, "m d"]

    @torch.no_grad()
    def begin_epoch(self, towers: Towers) -> None:
        """Project all answers, each to the mean of its passages, to find near ones by."""
        towers.eval()
        passages, device = self.answers, self.answers.rows.device
        rows = in_chunks(lambda part: towers.project(towers.answer, part), passages.rows)
        if passages.owner is not None:
            owner = torch.as_tensor(passages.owner, device=device)
            sums = rows.new_zeros(passages.answers, towers.dim).index_add_(0, owner, rows)
            rows = sums / owner.bincount()[:, None]
        self.stale = rows if towers.offsets is None else rows + towers.offsets
        towers.train()

    def candidates(
        self, towers: Towers, queries: Float[Tensor, "n d"], labels: sparse.csr_array, step: int
    ) -> Candidates:
        """Draw the answers to score a batch against."""
        # The main process draws: another may round otherwise, and draw others.
        answers, weights = from_main(lambda: self.draw(towers, queries, labels, step))
        chosen = among(self.answers, answers)
        vectors = towers.project(towers.answer, chosen.rows)
        return Candidates(chosen.of(vectors), answers, queries.new_tensor(weights))

    def draw(
        self, towers: Towers, queries: Float[Tensor, "n d"], labels: sparse.csr_array, step: int
    ) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Draw candidates, right ones first, with their weights, which add up to m."""
        rng = np.random.default_rng([self.seed, step])
        right = np.unique(labels.nonzero()[1])
        others = np.delete(np.arange(self.answers.answers), right)
        pool = rng.choice(len(others), min(len(others), POOL_FACTOR * self.sample), replace=False)
        pool = others[pool]
        is_hard = self._find_hard(towers, queries, pool)
        easy = pool[~is_hard]
        uniform = rng.choice(easy, min(self.sample - is_hard.sum(), len(easy)), replace=False)
        weight = len(others) / max(len(pool), 1)
        weights = (1, weight, weight * len(easy) / max(len(uniform), 1))
        answers = (right, pool[is_hard], uniform)
        return np.concatenate(answers), np.repeat(weights, [len(part) for part in answers])

    @torch.no_grad()
    def _find_hard(
        self, towers: Towers, queries: Float[Tensor, "n d"], pool: Int[np.ndarray, " p"]
    ) -> Bool[np.ndarray, " p"]:
        """Find the answers of a pool that are likeliest for any query: half a sample."""
        stale = self.stale[torch.as_tensor(pool, device=self.stale.device)]
        scores = towers.scale * (queries @ stale.T)
        likelihoods = scores.log_softmax(dim=1).amax(dim=0)
        is_hard = np.zeros(len(pool), dtype=bool)
        count = min(self.sample // 2, len(pool))
        is_hard[likelihoods.topk(count).indices.cpu().numpy()] = True
        return is_hard


def build_index(
    kind: str, answers: Passages[Tensor], settings: TrainingSettings, seed: int
) -> ExactIndex:
    """Build the index of a kind: `exact`, `stale` or `sampled`."""
    if kind == "sampled":
        return SampledIndex(answers, settings.answer_sample, seed)
    if kind == "stale":
        return StaleIndex(answers, settings.answer_batch, seed)
    return ExactIndex(answers)


def choose_index(settings: TrainingSettings, answers: Passages[Tensor], queries: int) -> str:
    """Choose the kind that settings ask for; for `auto` the exact one, unless a sample costs less.

    A sample does where its epoch is `MIN_SPEEDUP` times as fast, or where an exact step would need
    more memory than there is now. `queries` is their number in an epoch.
    """
    if settings.index != "auto":
        return settings.index
    rows = answers.rows
    speedup = saved_by_sampling(settings, answers.answers, len(rows), queries)
    needed_bytes = 4 * NUMBERS_IN_MEMORY * len(rows) * (rows.shape[1] + settings.batch_size)
    if speedup < MIN_SPEEDUP and needed_bytes < _free_bytes(rows.device):
        return "exact"
    message = "%d answers: steps score against a sample; all would take %.1f GB, %.1f times as long"
    log.info(message, answers.answers, needed_bytes / 1e9, speedup)
    return "sampled"


def saved_by_sampling(
    settings: TrainingSettings, answers: int, passages: int, queries: int
) -> float:
    """Estimate how many times as long an exact epoch takes as a sampled one."""
    share = min(1.0, (settings.batch_size + settings.answer_sample) / answers)
    steps = math.ceil(queries / settings.batch_size)
    pool = min(answers, POOL_FACTOR * settings.answer_sample)
    sampled = share * passages + COST_OF_SEARCH * pool + COST_OF_RENEWAL * passages / steps
    return passages / sampled


def _free_bytes(device: torch.device) -> int:
    """Return the memory that a training may still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@torch.no_grad()
def _project_first(towers: Towers, features: Float[Tensor, "v d"]) -> Float[Tensor, "v d"]:
    """Project all passages as a training step does, without a trace in towers and generators."""
    with torch.random.fork_rng():
        return copy.deepcopy(towers).train().answer(features)
