"""Tuning the encoder itself: cross-entropy over the whole index of answers, mostly stale."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from twinrank.data import Queries
from twinrank.encoding.trainable import Trainable
from twinrank.ranking import Passages, total
from twinrank.recipe import TuningSettings
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.loop import OnEpoch, Record, Stepper, run_epochs, since_best
from twinrank.training.losses import cross_entropy
from twinrank.training.team import Team
from twinrank.training.tower_modules import Past, Towers

WARM_UP = 0.1  # share of all steps, as sentence-transformers advises
SCALAR_RATE = 2e-3  # of temperature and memory, which move by their own size, not a weight's

Ids = list[np.ndarray]


@dataclass(frozen=True)
class Tokens:
    """What tuning reads, as token ids.

    Attributes:
        passages: of m answers.
        queries: n training queries.
        labels: their right answers, n x m.
        threads: a number for each query's thread: a memory is blind to it.
    """

    passages: Passages[Ids]
    queries: Ids
    labels: sparse.csr_array
    threads: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, passages: Passages[Ids], ids: Ids, queries: Queries) -> Tokens:
        """Labelled queries with their ids."""
        _, threads = np.unique(queries.frame["thread"].to_numpy(), return_inverse=True)
        return cls(passages, ids, queries.labels, threads)


class Tuned(nn.Module):
    """An encoder in training, its temperature, and the memory of past queries.

    Its scores are those of untrained towers on the encoder's features, with a memory or without.
    """

    def __init__(self, encoder: Trainable, *, memory: bool) -> None:
        super().__init__()
        self.encoder = encoder
        device = next(encoder.parameters()).device
        self.towers = Towers("none", encoder.dim, memory=memory).to(device)

    def vectors(self, ids: Sequence[np.ndarray]) -> Float[Tensor, "n d"]:
        """Unit vectors with gradients."""
        return self.towers.query(self.encoder(ids))

    def constants(self, ids: Sequence[np.ndarray], team: Team) -> Float[Tensor, "n d"]:
        """Unit vectors without, each process encoding its share."""
        features = torch.as_tensor(self.encoder.features(ids[team.share(len(ids))]))
        own = self.towers.query(features.to(self.towers.log_scale.device))
        return team.joined(own, len(ids))


class WholeIndex:
    """Vectors of all passages and past queries: refreshed on a schedule, some at every step."""

    def __init__(self, tuned: Tuned, tokens: Tokens, team: Team) -> None:
        self._tuned, self._tokens, self._team = tuned, tokens, team
        device = tuned.towers.log_scale.device
        self._votes = [torch.as_tensor(of.astype(np.int64)) for of in tokens.labels.nonzero()]
        self._votes = [votes.to(device) for votes in self._votes]
        self._fresh = False
        self.passages: Float[Tensor, "v d"]
        self.queries: Float[Tensor, "n d"]

    def refresh(self) -> None:
        """Encode everything, unless no step was made since that was done last."""
        if self._fresh:
            return
        # Validation asks in inference mode, whose tensors a later step could not learn from.
        with torch.inference_mode(False), torch.no_grad():
            self.passages = self._tuned.constants(self._tokens.passages.rows, self._team)
            self.queries = self._tuned.constants(self._tokens.queries, self._team)
        self._fresh = True

    def scores(
        self,
        vectors: Float[Tensor, "b d"],
        passages: Float[Tensor, "v d"] | None = None,
        threads: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b m"]:
        """Scores of every answer.

        Args:
            vectors: of queries.
            passages: to score against; those held here if there are no others.
            threads: of the queries, to which the memory is blind.
        """
        rows = self.passages if passages is None else passages
        past = Past(self.queries, *self._votes) if self._tuned.towers.memory else None
        blind = None
        if past and threads is not None:
            blind = threads[:, None] == torch.as_tensor(self._tokens.threads).to(threads.device)
        whole = self._tokens.passages.of(rows)
        return total(self._tuned.towers.parts(vectors, whole, past, blind))

    def write(self, queries: Tensor, vectors: Tensor, passages: Tensor) -> None:
        """Take in what a step encoded anew."""
        self.queries = self.queries.index_copy(0, queries, vectors.detach())
        self.passages = passages.detach()
        self._fresh = False


def tune(
    tuned: Tuned,
    tokens: Tokens,
    settings: TuningSettings,
    validate: Callable[[WholeIndex], Mapping[str, Any]],
    *,
    team: Team | None = None,
    seed: int = 0,
    saved: Checkpoint | None = None,
    on_epoch: OnEpoch = lambda checkpoint: None,
    on_step: Callable[[], None] = lambda: None,
) -> list[Record]:
    """Train an encoder in place, and leave it as the best round made it.

    A step encodes a batch of queries and scores them against every answer: the vectors of
    passages are constants from the last refresh, but for the `fresh` ones at which the loss
    pulls most, which are encoded again, now with gradients. Stale ones are moved by the mean
    shift of the fresh, so that nothing is gained by shifting all texts alike: without that the
    loss falls, and ranking is lost. What a step encoded is written back. Rounds end where the
    whole index is refreshed: every `refresh_every` queries, and at the end of each epoch.

    Args:
        tuned: encoder, temperature, memory.
        tokens: what is read.
        settings: see `TuningSettings`.
        validate: called before training and after each round, with a fresh index; must give
            the validation `loss`, or the `map@10` of `types`, to decide by.
        team: several processes that share each step's texts; their gradients add up to that of
            one, within float error.
        seed: decides the order of queries.
        saved: where an earlier call stood; going on from there gives what never stopping
            would have given, bit for bit on CPU.
        on_epoch: called with where training stands, before it and after each round.
        on_step: called after each step.

    Returns:
        A record a round, from before training on; `epoch` counts rounds.
    """
    team = team or Team.launched()
    device = tuned.towers.log_scale.device
    threads = torch.as_tensor(tokens.threads, device=device)
    course = Course(len(tokens.queries), settings)
    index = WholeIndex(tuned, tokens, team)
    weights = [weight for weight in tuned.encoder.parameters() if weight.requires_grad]
    stepper = Stepper(
        weights,
        tuned.towers.parameters(),
        settings,
        scalar_rate=SCALAR_RATE,
        shared=lambda: team.sum_gradients(weights),
    )

    def step_loss(rows: Tensor) -> Float[Tensor, ""]:
        right = torch.as_tensor(tokens.labels[rows.numpy()].toarray() > 0, device=device)
        own = [tokens.queries[row] for row in rows[team.share(len(rows))].tolist()]
        queries = team.joined(tuned.vectors(own), len(rows))
        there = rows.to(device)

        def loss_with(passages: Tensor, queries: Tensor) -> Tensor:
            scores = index.scores(queries, passages, threads[there])
            return cross_entropy(scores, right).mean()

        stale = index.passages.clone().requires_grad_()
        (pull,) = torch.autograd.grad(loss_with(stale, queries.detach()), stale)
        most = pull.norm(dim=1).topk(min(settings.fresh, len(pull))).indices
        own = [tokens.passages.rows[row] for row in most[team.share(len(most))].tolist()]
        fresh = team.joined(tuned.vectors(own), len(most))
        # Else the loss falls fastest by moving all that is encoded away from all that is stale.
        drift = (fresh - index.passages[most]).mean(dim=0)
        passages = (index.passages + drift).index_copy(0, most, fresh)
        loss = loss_with(passages, queries)
        index.write(there, queries, passages)
        return loss

    def one_pass(epoch: int) -> Record:
        index.refresh()
        lost = 0.0
        batches = course.batches(epoch, seed)
        for i, rows in enumerate(batches):
            loss = step_loss(rows)
            stepper.step(loss, share=course.rate((epoch - 1) * course.steps + i))
            lost += loss.item() * len(rows)
            on_step()
        return {"train_loss": lost / sum(map(len, batches))}

    def validated() -> Mapping[str, Any]:
        index.refresh()
        return {"scale": tuned.towers.scale.item(), **validate(index)}

    return run_epochs(
        tuned,
        stepper,
        one_pass,
        validated,
        finished=lambda history: len(history) > course.rounds,
        keep=lambda history: since_best(history, settings.keep) == 0,
        index=None,
        seed=seed,
        saved=saved,
        on_epoch=on_epoch,
    )


class Course:
    """Rounds, steps and learning rates of a tuning on n queries.

    Attributes:
        rounds: in all.
        steps: a round, at most.
    """

    def __init__(self, n: int, settings: TuningSettings) -> None:
        self._n, self._batch = n, settings.batch_size
        self._a_pass = math.ceil(n / settings.refresh_every)
        self.rounds = settings.epochs * self._a_pass
        self.steps = math.ceil(math.ceil(n / self._a_pass) / settings.batch_size)

    def batches(self, number: int, seed: int) -> list[Int[Tensor, " b"]]:
        """The batches of a round (from 1 on), nearly equal; a pass sees each query once."""
        a_pass, part = divmod(number - 1, self._a_pass)
        generator = torch.Generator().manual_seed(1_000_003 * seed + a_pass)
        rows = torch.randperm(self._n, generator=generator).tensor_split(self._a_pass)[part]
        return list(rows.tensor_split(math.ceil(len(rows) / self._batch)))

    def rate(self, step: int) -> float:
        """Share of the highest learning rate: up over the first tenth, then down to zero."""
        steps = self.rounds * self.steps
        warm_up = max(1, round(WARM_UP * steps))
        return min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up))
