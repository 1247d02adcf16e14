"""Fitting towers on stored features to rank: cross-entropy over all answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse

from twinrank.model.towers import Towers
from twinrank.recipe import TrainingSettings
from twinrank.train.checkpoint import Checkpoint
from twinrank.train.index import ExactIndex, StaleIndex
from twinrank.train.loop import OnEpoch, Record, Stepper, Validate, run_epochs
from twinrank.train.objectives import cross_entropy
from twinrank.train.pretrain import Sightings


@dataclass(frozen=True)
class Examples:
    """Training queries: features (n x d) and their right answers (n x m, one row a query)."""

    features: Float[np.ndarray, "n d"]
    labels: sparse.csr_array


def fit_towers(
    towers: Towers,
    train: Examples,
    answers: Float[np.ndarray, "m d"],
    settings: TrainingSettings,
    validate: Validate,
    *,
    joint: Sightings | None = None,
    seed: int = 0,
    saved: Checkpoint | None = None,
    on_epoch: OnEpoch = lambda checkpoint: None,
) -> list[Record]:
    """Train towers in place until the validation loss stops falling; keep the best epoch's.

    Args:
        towers: trained in place, on the device they are on, and left in eval mode.
        train: queries with at least one right answer each.
        answers: features of every answer, in the order of the labels' columns.
        settings: see `TrainingSettings`.
        validate: called before training and after each epoch, on towers in eval mode; must
            give the validation `loss`, which decides, and may give more to record.
        joint: pairs whose Barlow Twins loss every step adds to the ranking loss, times their
            weight.
        seed: decides the order of queries, dropout, pairs and the order of a stale index.
        saved: where an earlier call stood; going on from there gives what never stopping
            would have given, bit for bit on CPU.
        on_epoch: called with where training stands, before it (unless going on) and after
            each epoch; the last of its history is the epoch's record.

    Returns:
        A record an epoch, from before training (epoch 0) on.
    """
    device = towers.log_scale.device
    features = torch.as_tensor(train.features, device=device)
    answer_features = torch.as_tensor(answers, device=device)
    stepper = Stepper(towers, settings)
    stale = settings.index == "stale"
    index = (
        StaleIndex(answer_features, settings.answer_batch, seed)
        if stale
        else ExactIndex(answer_features)
    )
    steps = math.ceil(len(features) / settings.batch_size)

    def one_pass(epoch: int) -> Record:
        """One pass over the queries; the loss is the mean of its steps'."""
        ranking, barlow = torch.zeros((2,), device=device)
        extra = joint.losses_for_ever(towers, seed, epoch) if joint else None
        # Batches of nearly equal size: a last batch of one query would break BatchNorm.
        for i, rows in enumerate(torch.randperm(len(features)).tensor_split(steps)):
            right = torch.as_tensor(train.labels[rows.numpy()].toarray() > 0, device=device)
            vectors = towers.query(features[rows])
            scores = towers.scores(vectors, index.refresh(towers, (epoch - 1) * steps + i))
            loss = total = cross_entropy(scores, right).mean()
            if joint and extra:
                beside = next(extra)
                total = loss + joint.settings.weight * beside
                barlow = barlow + beside.detach() / steps
            stepper.step(total)
            ranking = ranking + loss.detach() * len(rows)
        told = {"train_loss": float(ranking) / len(features)}
        return told | ({"barlow_loss": float(barlow)} if joint else {})

    return run_epochs(
        towers,
        stepper,
        one_pass,
        validate,
        finished=lambda history: _finished(history, settings),
        keep=lambda history: _since_best(history) == 0,
        index=index,
        seed=seed,
        saved=saved,
        on_epoch=on_epoch,
    )


def _finished(history: list[Record], settings: TrainingSettings) -> bool:
    return len(history) > settings.epochs or _since_best(history) >= settings.patience


def _since_best(history: list[Record]) -> int:
    """Epochs since the lowest validation loss.

    Epoch 0 does not compete: untrained projections score all answers alike, at a loss that the
    first epochs, confident and often wrong, exceed while they rank far better.
    """
    losses = [record["loss"] for record in history[1:]]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
