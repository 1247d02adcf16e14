"""Pre-training a tower on pairs of queries by Barlow Twins, alone or beside the ranking loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinrank.data import Queries
from twinrank.recipe import PretrainingSettings
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.loop import (
    OnEpoch,
    Record,
    Validate,
    of_towers,
    run_epochs,
    stepper_of,
)
from twinrank.training.losses import barlow_twins
from twinrank.training.pairing import Groups, Pairs, across, within
from twinrank.training.tower_modules import Towers


@dataclass(frozen=True)
class Sightings:
    """What pre-training sees: the features of queries, and the groups they are paired in.

    Attributes:
        features: of the queries that `groups` counts (n x d).
        groups: answers or threads.
        settings: how pairs are drawn, and what their loss is.
    """

    features: Float[np.ndarray, "n d"]
    groups: Groups
    settings: PretrainingSettings

    def __str__(self) -> str:
        groups, settings = self.groups, self.settings
        group = "thread" if settings.pairing == "thread" else "answer"
        text = (
            f"{len(self.features):,} queries of {len(groups):,} {group}s are paired; "
            f"{groups.alone:,} have no partner of another type"
        )
        if settings.pairing == "within-answer":
            few = int((groups.pairs_within < settings.min_pairs).sum())
            text += f"; {few:,} answers have fewer than {settings.min_pairs} pairs, left out"
        return text

    def batches(self, rng: np.random.Generator) -> Iterator[Pairs]:
        """The batches of one epoch."""
        settings = self.settings
        if settings.pairing == "within-answer":
            return within(self.groups, rng, min_pairs=settings.min_pairs)
        return across(self.groups, settings.batch_size, rng, shuffled=settings.shuffled)

    def losses(self, towers: Towers, rng: np.random.Generator) -> Iterator[tuple[Tensor, Pairs]]:
        """The loss of each batch of an epoch, by the towers as they are when it is asked for."""
        others = self._everything(rng) if self.settings.statistics == "all" else None
        for pairs in self.batches(rng):
            yield self._loss(towers, pairs, next(others) if others else None), pairs

    def losses_for_ever(self, towers: Towers, seed: int, epoch: int) -> Iterator[Tensor]:
        """Losses for as many steps as an epoch of another training has."""
        for turn in count():
            for loss, _ in self.losses(towers, np.random.default_rng([seed, epoch, turn])):
                yield loss

    def _everything(self, rng: np.random.Generator) -> Iterator[Pairs]:
        while True:
            yield from across(self.groups, self.settings.batch_size, rng)

    def _loss(self, towers: Towers, pairs: Pairs, others: Pairs | None) -> Tensor:
        f = self._vectors(towers, pairs.f, others.f if others else None)
        g = self._vectors(towers, pairs.g, others.g if others else None)
        own = slice(len(pairs))
        around = (f, g) if others else None
        return barlow_twins(f[own], g[own], off_diagonal=self.settings.off_diagonal, around=around)

    def _vectors(self, towers: Towers, rows: np.ndarray, others: np.ndarray | None) -> Tensor:
        """Vectors of one view: the two pass apart, so that BatchNorm sees one type at a time."""
        rows = rows if others is None else np.concatenate([rows, others])
        features = torch.as_tensor(self.features[rows], device=towers.log_scale.device)
        vectors = towers.query(features)
        projected: Tensor = towers.projector(vectors) if towers.projector else vectors
        return projected


def pretrain(
    towers: Towers,
    sightings: Sightings,
    validate: Validate,
    *,
    seed: int = 0,
    saved: Checkpoint | None = None,
    on_epoch: OnEpoch = lambda checkpoint: None,
) -> list[Record]:
    """Train the query tower of `towers` in place for the epochs that the settings say.

    Args:
        towers: trained on the device they are on, and left in eval mode.
        sightings: the pairs.
        validate: measures towers, to be recorded; it decides nothing.
        seed: decides pairs and dropout.
        saved: where an earlier call stood.
        on_epoch: called with where training stands, before it and after each epoch.

    Returns:
        A record an epoch: `barlow_loss`, a batch's mean; `pairs` and `batches`; `collisions`,
        the share of pairs whose group was in their batch already; and what was validated.
    """
    settings = sightings.settings
    stepper = stepper_of(towers, settings)

    def one_pass(epoch: int) -> Record:
        losses, pairs, collisions = [], 0, 0
        for loss, batch in sightings.losses(towers, np.random.default_rng([seed, epoch])):
            stepper.step(loss)
            losses.append(loss.detach())
            pairs += len(batch)
            collisions += batch.collisions
        return {
            "barlow_loss": float(torch.stack(losses).mean()),
            "pairs": pairs,
            "batches": len(losses),
            "collisions": round(collisions / pairs, 4),
        }

    return run_epochs(
        towers,
        stepper,
        one_pass,
        of_towers(towers, validate),
        finished=lambda history: len(history) > settings.epochs,
        keep=lambda history: True,
        index=None,
        seed=seed,
        saved=saved,
        on_epoch=on_epoch,
    )


def groups_of(queries: Queries, settings: PretrainingSettings) -> Groups:
    """The groups that a pairing pairs in; rows are those of `queries`."""
    if settings.pairing == "thread":
        return Groups.by_thread(queries.frame)
    return Groups.by_answer(queries)
