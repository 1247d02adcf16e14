"""Pre-training of a tower on pairs of queries by Barlow Twins, before ranking or beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinrank.data import Dataset, Queries
from twinrank.errors import DataError, Fault
from twinrank.recipe import PretrainingSettings
from twinrank.training.distributed import from_main
from twinrank.training.loop import Record, Trainer, Validate, split_parameters
from twinrank.training.losses import barlow_twins, flat_loss
from twinrank.training.pairing import Groups, Pairs, across, within
from twinrank.training.tower_modules import Towers

# A loss that is, but for noise, above this share of the flat one has learned nothing; this share
# of the variance on one axis is a collapse. True pairs are far below both (docs/collapse.md).
FLAT_FROM, ONE_AXIS_FROM = 0.95, 0.6


@dataclass(frozen=True)
class PairedQueries:
    """The queries of pre-training.

    Attributes:
        features: of the queries that `groups` counts (n x d).
        groups: answers or threads, within which queries are paired.
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
        """Draw the batches of one epoch."""
        settings = self.settings
        if settings.pairing == "within-answer":
            return within(self.groups, rng, min_pairs=settings.min_pairs)
        return across(self.groups, settings.batch_size, rng, shuffled=settings.shuffled)

    def losses(self, towers: Towers, rng: np.random.Generator) -> Iterator[tuple[Tensor, Pairs]]:
        """Yield the loss of each batch of an epoch, by towers as they are at that moment."""
        context = self._endless_pairs(rng) if self.settings.statistics == "all" else None
        for pairs in self.batches(rng):
            yield self._loss(towers, pairs, next(context) if context else None), pairs

    def expected_loss(self, pairs: int) -> float | None:
        """Return the loss to expect of a batch of so many pairs, partners matched at random.

        None where a batch is standardised with other queries: the formula is not about that.
        """
        if self.settings.statistics == "all":
            return None
        dim = self.settings.projector or self.features.shape[1]
        return flat_loss(pairs, dim, self.settings.off_diagonal)

    def project(self, towers: Towers) -> Float[np.ndarray, "n d"]:
        """Return the vectors of all queries, by towers in eval mode."""
        features = torch.as_tensor(self.features, device=towers.log_scale.device)
        vectors: np.ndarray = towers.query(features).cpu().numpy()
        return vectors

    def endless_losses(self, towers: Towers, seed: int, epoch: int) -> Iterator[Tensor]:
        """Yield losses for as many steps as an epoch of another training has."""
        for turn in count():
            for loss, _ in self.losses(towers, np.random.default_rng([seed, epoch, turn])):
                yield loss

    def _endless_pairs(self, rng: np.random.Generator) -> Iterator[Pairs]:
        while True:
            yield from across(self.groups, self.settings.batch_size, rng)

    def _loss(self, towers: Towers, pairs: Pairs, context: Pairs | None) -> Tensor:
        """Return the loss of a batch, standardised alone or together with a context's pairs."""
        f = self._vectors(towers, pairs.f, context.f if context else None)
        g = self._vectors(towers, pairs.g, context.g if context else None)
        batch, around = slice(len(pairs)), (f, g) if context else None
        off_diagonal = self.settings.off_diagonal
        return barlow_twins(f[batch], g[batch], off_diagonal=off_diagonal, around=around)

    def _vectors(self, towers: Towers, rows: np.ndarray, context: np.ndarray | None) -> Tensor:
        """Return vectors of one view alone, so that BatchNorm sees one type at a time."""
        rows = rows if context is None else np.concatenate([rows, context])
        features = torch.as_tensor(self.features[rows], device=towers.log_scale.device)
        vectors = towers.query(features)
        projected: Tensor = towers.projector(vectors) if towers.projector else vectors
        return projected


class Pretrainer(Trainer):
    """Trains the query tower of towers for as many epochs as the settings say.

    A record has `losses`, of each step, and their mean, `barlow_loss`; `expected_loss`, the mean
    loss to expect of these batches if partners were matched at random; `first_axis`, the share of
    the variance of the queries' vectors on their main axis; `pairs` and `batches`; `collisions`,
    the share of pairs whose group was in their batch already; and figures of validation.

    Args:
        towers: trained on the device they are on.
        pairs: with the settings.
        validate: measures towers, to be recorded; it decides nothing.
        seed: decides pairs and dropout.
    """

    stage = "pretraining"
    table = "pretraining"

    def __init__(
        self, towers: Towers, pairs: PairedQueries, validate: Validate, *, seed: int = 0
    ) -> None:
        settings, parameters = pairs.settings, split_parameters(towers)
        super().__init__(towers, settings, *parameters, seed=seed, epochs=settings.epochs)
        self.towers, self.pairs, self.validate = towers, pairs, validate

    def train_epoch(self, epoch: int) -> Record:
        """Pass over the queries once."""
        losses, sizes, collisions = [], [], 0
        rng = np.random.default_rng([self.seed, epoch])
        for loss, batch in self.pairs.losses(self.towers, rng):
            self.step(loss)
            losses.append(loss.detach())
            sizes.append(len(batch))
            collisions += batch.collisions
        values = torch.stack(losses).tolist()
        expected = [e for n in sizes if (e := self.pairs.expected_loss(n)) is not None]
        return {
            "barlow_loss": fmean(values),
            "expected_loss": fmean(expected) if expected else None,
            "losses": [round(value, 3) for value in values],
            "pairs": sum(sizes),
            "batches": len(sizes),
            "collisions": round(collisions / sum(sizes), 4),
        }

    def step(self, loss: Tensor, *, rate: float = 1.0) -> None:
        """Go one step down a loss; with `gradient = "none"` only BatchNorm has seen the batch."""
        if self.pairs.settings.gradient != "none":
            super().step(loss, rate=rate)

    def share_gradients(self) -> None:
        """Put noise in the place of the gradient, where this is a control that walks along it."""
        if self.pairs.settings.gradient == "noise":
            for parameter in self.weights:
                parameter.grad = torch.randn_like(parameter)

    def measure(self) -> Record:
        """Validate, in the main process."""
        return from_main(
            lambda: {
                "scale": self.towers.scale.item(),
                "first_axis": first_axis(self.pairs.project(self.towers)),
                **self.validate(self.towers),
            }
        )


def first_axis(vectors: Float[np.ndarray, "n d"]) -> float:
    """Return the share of the variance of vectors that lies on their main axis: 1/d to 1."""
    moved = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    variances = np.linalg.eigvalsh(moved.T @ moved)
    return float(variances[-1] / variances.sum()) if variances[-1] > 0 else 1.0


def warn_of_collapse(name: str, history: Sequence[Record]) -> list[str]:
    """Say, in a line each, that a pre-training learned nothing, or collapsed onto one axis.

    Args:
        name: of the recipe.
        history: records of its epochs.
    """
    last = history[-1]
    if "barlow_loss" not in last:
        return []
    warnings = []
    loss, expected, share = last["barlow_loss"], last["expected_loss"], last["first_axis"]
    losses = last["losses"]
    noise = 2 * stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else 0.0
    if expected is not None and loss + noise > FLAT_FROM * expected:
        warnings.append(
            f"{name}: the pre-training's loss is {loss:.4g} after {last['epoch']} epochs, where "
            f"partners matched at random give {expected:.4g}: it has learned nothing. Pair queries "
            'of one thread or answer in batches of different ones: pairing = "thread" or '
            '"across-answers"'
        )
    if share > ONE_AXIS_FROM:
        warnings.append(
            f"{name}: {share:.0%} of the variance of the pre-trained vectors lies on one axis, so "
            "that a few answers come first for most queries. Pair across answers, take fewer "
            "epochs, or leave [pretraining] out"
        )
    return warnings


def group_queries(queries: Queries, settings: PretrainingSettings) -> Groups:
    """Group queries by thread or by answer, as the pairing says."""
    if settings.pairing == "thread":
        return Groups.by_thread(queries.frame)
    return Groups.by_answer(queries)


def check_pairs(
    dataset: Dataset, settings: PretrainingSettings, groups: Groups | None = None
) -> None:
    """Refuse pre-training that finds nothing to pair.

    Raises:
        DataError: if fewer than two pairs of queries can be made.
    """
    groups = groups or group_queries(dataset.for_pretraining(), settings)
    least = settings.min_pairs if settings.pairing == "within-answer" else 1
    if groups.pairs_within[groups.pairs_within >= least].sum() < 2:
        group = "thread" if settings.pairing == "thread" else "answer"
        enough = f" in groups of {least} or more" if least > 2 else ""
        what = f"too few queries of one {group} and of different types to pair{enough}"
        fix = "give queries a `type`, and a `thread` or labels that join them, or pair otherwise"
        raise DataError([Fault(Path(dataset.name) / "queries.jsonl", None, what, fix)])


def count_batches(dataset: Dataset, settings: PretrainingSettings) -> int:
    """Count the steps of an epoch of pre-training."""
    groups = group_queries(dataset.for_pretraining(), settings)
    pairs = PairedQueries(np.empty((0, 0), np.float32), groups, settings)
    return sum(1 for _ in pairs.batches(np.random.default_rng(0)))
