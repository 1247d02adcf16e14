"""Fitting towers on stored features: the training loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from twinrank.model.towers import Towers
from twinrank.recipe import TrainingSettings
from twinrank.train.checkpoint import Checkpoint, State, optimizer_state, restore_optimizer
from twinrank.train.index import ExactIndex, Index, StaleIndex
from twinrank.train.objectives import cross_entropy

Record = dict[str, Any]
Validate = Callable[[Towers], Mapping[str, Any]]


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
    seed: int = 0,
    saved: Checkpoint | None = None,
    on_epoch: Callable[[Checkpoint], None] = lambda checkpoint: None,
) -> list[Record]:
    """Train towers in place until the validation loss stops falling; keep the best epoch's.

    Args:
        towers: trained in place, on the device they are on, and left in eval mode.
        train: queries with at least one right answer each.
        answers: features of every answer, in the order of the labels' columns.
        settings: see `TrainingSettings`.
        validate: called before training and after each epoch, on towers in eval mode; must
            give the validation `loss`, which decides, and may give more to record.
        seed: decides the order of queries, dropout and the order of a stale index.
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
    optimizer = _optimizer(towers, settings)
    index = _index(answer_features, settings, seed)

    if saved:
        history, best = list(saved.history), saved.best
        towers.load_state_dict(saved.towers)
        restore_optimizer(optimizer, saved.optimizer)
        index.load_state(saved.index)
    else:
        history = [_record(0, towers, validate, train_loss=None, seconds=0.0)]
        best = {}
        on_epoch(_checkpoint(towers, best, optimizer, index, history))
    while not _finished(history, settings):
        epoch = len(history)
        started = time.perf_counter()
        loss = _epoch(towers, features, train.labels, index, optimizer, settings, seed, epoch)
        seconds = time.perf_counter() - started
        record = _record(epoch, towers, validate, train_loss=loss, seconds=seconds)
        history.append(record)
        if _since_best(history) == 0:
            best = _state(towers)
        on_epoch(_checkpoint(towers, best, optimizer, index, history))
    towers.load_state_dict(best)
    towers.eval()
    return history


def _epoch(
    towers: Towers,
    features: Float[Tensor, "n d"],
    labels: sparse.csr_array,
    index: Index,
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
    seed: int,
    epoch: int,
) -> float:
    """One pass over the queries; gives the mean loss of its steps."""
    torch.manual_seed(1_000_003 * seed + epoch)  # a resumed run needs no generator state
    towers.train()
    steps = math.ceil(len(features) / settings.batch_size)
    total = torch.zeros((), device=features.device)
    # Batches of nearly equal size: a last batch of one query would break BatchNorm.
    for i, rows in enumerate(torch.randperm(len(features)).tensor_split(steps)):
        right = torch.as_tensor(labels[rows.numpy()].toarray() > 0, device=features.device)
        vectors = towers.query(features[rows])
        scores = towers.scores(vectors, index.refresh(towers, (epoch - 1) * steps + i))
        loss = cross_entropy(scores, right).mean()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(towers.parameters(), settings.clip)
        optimizer.step()
        total += loss.detach() * len(rows)
    return float(total) / len(features)


def _checkpoint(
    towers: Towers,
    best: State,
    optimizer: torch.optim.Optimizer,
    index: Index,
    history: list[Record],
) -> Checkpoint:
    return Checkpoint(
        towers=towers.state_dict(),
        best=best,
        optimizer=optimizer_state(optimizer),
        index=index.state(),
        history=list(history),
    )


def _record(
    epoch: int, towers: Towers, validate: Validate, *, train_loss: float | None, seconds: float
) -> Record:
    towers.eval()
    with torch.inference_mode():
        measured = validate(towers)
    times = {"train_loss": train_loss, "seconds": round(seconds, 4)}
    return {"epoch": epoch, **times, "scale": towers.scale.item(), **measured}


def _finished(history: list[Record], settings: TrainingSettings) -> bool:
    return len(history) > settings.epochs or _since_best(history) >= settings.patience


def _since_best(history: list[Record]) -> int:
    """Epochs since the lowest validation loss.

    Epoch 0 does not compete: untrained projections score all answers alike, at a loss that the
    first epochs, confident and often wrong, exceed while they rank far better.
    """
    losses = [record["loss"] for record in history[1:]]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def _optimizer(towers: Towers, settings: TrainingSettings) -> torch.optim.AdamW:
    weights = [p for name, p in towers.named_parameters() if name != "log_scale"]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": [towers.log_scale], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _index(features: Tensor, settings: TrainingSettings, seed: int) -> Index:
    if settings.index == "exact":
        return ExactIndex(features)
    return StaleIndex(features, settings.answer_batch, seed)


def _state(towers: Towers) -> State:
    return copy.deepcopy(towers.state_dict())
