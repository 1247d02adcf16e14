"""Fitting towers on stored features to rank: cross-entropy over all answers, or a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from twinrank.data import Queries
from twinrank.ranking import Passages, total
from twinrank.recipe import TrainingSettings
from twinrank.training.arithmetic import keep_freed_memory, products_in
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.choice import index_of
from twinrank.training.index import Candidates, ExactIndex, Index, SampledIndex, StaleIndex
from twinrank.training.loop import (
    OnEpoch,
    Record,
    Validate,
    of_towers,
    run_epochs,
    since_best,
    stepper_of,
)
from twinrank.training.losses import cross_entropy
from twinrank.training.pretraining import Sightings
from twinrank.training.team import Team
from twinrank.training.tower_modules import Past, Towers, in_chunks


@dataclass(frozen=True)
class Examples:
    """Training queries.

    Attributes:
        features: n x d.
        labels: their right answers, n x m.
        threads: a number for each query's thread: a memory is blind to it.
        types: the type of each query.
    """

    features: Float[np.ndarray, "n d"]
    labels: sparse.csr_array
    threads: Int[np.ndarray, " n"]
    types: Sequence[str]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"], queries: Queries) -> Examples:
        """Labelled queries with their features."""
        _, threads = np.unique(queries.frame["thread"].to_numpy(), return_inverse=True)
        return cls(features, queries.labels, threads, queries.frame["type"].to_list())

    def past(self, towers: Towers) -> Past:
        """The queries as those of the past, in towers as they are now."""
        device = towers.log_scale.device
        with torch.no_grad():
            vectors = in_chunks(towers.query, torch.as_tensor(self.features, device=device))
        votes = (
            torch.as_tensor(of.astype(np.int64), device=device) for of in self.labels.nonzero()
        )
        return Past(vectors, *votes)


def fit_towers(
    towers: Towers,
    train: Examples,
    answers: Passages[np.ndarray],
    settings: TrainingSettings,
    validate: Validate,
    *,
    joint: Sightings | None = None,
    seed: int = 0,
    team: Team | None = None,
    saved: Checkpoint | None = None,
    on_epoch: OnEpoch = lambda checkpoint: None,
) -> list[Record]:
    """Train towers in place until validation stops getting better; keep the best epoch's.

    Args:
        towers: trained in place, on the device they are on, and left in eval mode. If they
            have a memory, it is of the training queries, with vectors as old as the epoch.
        train: queries with at least one right answer each.
        answers: features of every answer's passages, answers in the order of labels' columns.
        settings: see `TrainingSettings`.
        validate: called before training and after each epoch, on towers in eval mode; must
            give the validation `loss`, or the `map@10` of `types`, to decide by, and may give
            more to record.
        joint: pairs whose Barlow Twins loss every step adds to the ranking loss, times their
            weight.
        seed: decides the order of queries, dropout, pairs, the order of a stale index, and what
            a sampled one draws.
        team: several processes, called alike, that share the rows of each step; their gradients
            add up to that of one, within float error. The first one alone is asked to validate.
        saved: where an earlier call stood; going on from there gives what never stopping
            would have given, bit for bit on CPU.
        on_epoch: called with where training stands, before it (unless going on) and after
            each epoch; the last of its history is the epoch's record.

    Returns:
        A record an epoch, from before training (epoch 0) on.
    """
    keep_freed_memory()
    team = team or Team()
    device = towers.log_scale.device
    features = torch.as_tensor(train.features, device=device)
    threads = torch.as_tensor(train.threads, device=device)
    names, kinds = np.unique(np.asarray(train.types), return_inverse=True)
    type_of = torch.as_tensor(kinds, device=device)
    stepper = stepper_of(towers, settings, team)
    within = answers.of(torch.as_tensor(answers.rows, device=device))
    kind = saved.history[0]["index"] if saved else index_of(settings, within, len(features))
    index = _index(team.told(kind), within, settings, seed)
    steps = math.ceil(len(features) / settings.batch_size)

    def candidates(vectors: Tensor, labels: sparse.csr_array, step: int) -> Candidates:
        """What a batch is scored against."""
        if isinstance(index, SampledIndex):
            return index.candidates(towers, vectors, labels, step, team)
        return Candidates(answers.of(index.refresh(towers, step, team)))

    def ranking_losses(rows: Tensor, step: int, past: Past | None) -> Tensor:
        """The loss of each query of a batch."""
        labels = train.labels[rows.numpy()]
        vectors = team.through(towers.query, features[rows])
        against = candidates(vectors, labels, step)
        voting = threads
        if against.places is not None:
            labels = labels[:, against.places]
            if past:
                past, voters = past.among(against.places, answers.answers)
                voting = threads[voters]
        right = torch.as_tensor(labels.toarray() > 0, device=device)
        blind = threads[rows, None] == voting if past else None
        passages = towers.shifted(against.passages, against.places)
        scores = total(towers.parts(vectors, passages, past, blind))
        return cross_entropy(scores, right, weights=against.weights)

    def one_pass(epoch: int) -> Record:
        """One pass over the queries; losses are means over them, overall and by type."""
        past = train.past(towers.eval()) if towers.memory else None
        towers.train()
        lost = torch.zeros(len(names), device=device)
        barlow = torch.zeros((), device=device)
        extra = joint.losses_for_ever(towers, seed, epoch) if joint else None
        # Batches of nearly equal size: a last batch of one query would break BatchNorm.
        batches = torch.randperm(len(features)).tensor_split(steps)
        with products_in(settings.precision, device):
            if isinstance(index, SampledIndex):
                index.renew(towers.eval(), team)
                towers.train()
            for i, rows in enumerate(batches):
                losses = ranking_losses(rows, (epoch - 1) * steps + i, past)
                lost = lost.index_add(0, type_of[rows], losses.detach())
                loss = losses.mean()
                if joint and extra:
                    beside = next(extra)
                    # Each of a team has the whole of it, and their gradients are added up.
                    loss = loss + joint.settings.weight * beside / team.size
                    barlow = barlow + beside.detach() / steps
                stepper.step(loss)
        of_types = (lost.cpu() / torch.as_tensor(np.bincount(kinds))).tolist()
        told: Record = {"train_loss": float(lost.sum()) / len(features)}
        told["train_types"] = dict(zip(names.tolist(), of_types, strict=True))
        return team.told(told | ({"barlow_loss": float(barlow)} if joint else {}))

    measured = of_towers(towers, validate)

    def validated() -> Mapping[str, Any]:
        return team.told(measured() if team.number == 0 else {})

    return run_epochs(
        towers,
        stepper,
        one_pass,
        validated,
        finished=lambda history: _finished(history, settings),
        keep=lambda history: since_best(history, settings.keep) == 0,
        index=index,
        seed=seed,
        saved=saved,
        on_epoch=on_epoch,
    )


def _index(kind: str, answers: Passages[Tensor], settings: TrainingSettings, seed: int) -> Index:
    if kind == "sampled":
        return SampledIndex(answers, settings.answer_sample, seed)
    if kind == "stale":
        return StaleIndex(answers.rows, settings.answer_batch, seed)
    return ExactIndex(answers.rows)


def _finished(history: list[Record], settings: TrainingSettings) -> bool:
    since = since_best(history, settings.keep)
    return len(history) > settings.epochs or since >= settings.patience
