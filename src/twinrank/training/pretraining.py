"""Pre-training of a tower by Barlow Twins on pairs of queries, and how queries are paired.

A group is an answer (its queries share a label) or a thread (the same matter, written twice); its
queries of different types are views of one thing. Everything is a few integer arrays, so a million
threads cost a few times 8 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from statistics import fmean

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from twinrank.data import Dataset, Queries
from twinrank.errors import DataError, Fault
from twinrank.recipe import PretrainingSettings
from twinrank.training.distributed import from_main
from twinrank.training.loop import Record, Trainer, Validate, split_parameters
from twinrank.training.losses import barlow_twins, flat_loss
from twinrank.training.tower_modules import Towers

Rows = Int[np.ndarray, " n"]

# A loss above this share of the flat one has learned nothing; this share of the variance on one
# axis is a collapse. True pairs are far below both (docs/collapse.md).
FLAT_FROM, ONE_AXIS_FROM = 0.95, 0.6
MAX_MEASUREMENTS = 20  # of a pre-training, about: they take longer than a short epoch


@dataclass(frozen=True)
class Pairs:
    """Pairs of queries, one a row: `f` and `g` are of different types and of one `group`."""

    f: Rows
    g: Rows
    group: Rows

    def __len__(self) -> int:
        return len(self.f)

    def __getitem__(self, rows: slice) -> Pairs:
        return Pairs(self.f[rows], self.g[rows], self.group[rows])


@dataclass(frozen=True)
class Groups:
    """Queries sorted by group and type, in the groups that hold at least two types."""

    # Row of the query in the features; one with two right answers stands in two groups.
    query: Int[np.ndarray, " s"]
    start: Int[np.ndarray, "groups types"]  # where those of a group and a type begin in `query`
    count: Int[np.ndarray, "groups types"]  # how many there are
    alone: int  # queries in a group of one type, without a partner

    @classmethod
    def of(cls, query: Rows, group: Rows, kind: Rows) -> Groups:
        """Group queries given by row, group and type (any integers), an entry a membership."""
        kinds, kind = np.unique(kind, return_inverse=True)
        groups, group = np.unique(group, return_inverse=True)
        cells = np.bincount(group * len(kinds) + kind, minlength=len(groups) * len(kinds))
        count = cells.reshape(len(groups), len(kinds))
        usable = (count > 0).sum(axis=1) > 1
        is_usable = usable[group]
        order = np.lexsort((kind[is_usable], group[is_usable]))
        count = count[usable]
        ends = count.cumsum().reshape(count.shape)
        alone = len(np.setdiff1d(query, query[is_usable]))
        return cls(query[is_usable][order], ends - count, count, alone)

    @classmethod
    def by_answer(cls, train: Queries) -> Groups:
        """Group queries that share a right answer; rows are those of `train`."""
        labels = train.labels.tocoo()
        query, answer = labels.row.astype(np.int64), labels.col.astype(np.int64)
        return cls.of(query, answer, _number_values(train.frame["type"])[query])

    @classmethod
    def by_thread(cls, queries: pl.DataFrame) -> Groups:
        """Group queries of one thread (columns type and thread); no label is needed."""
        threads, types = (_number_values(queries[column]) for column in ("thread", "type"))
        return cls.of(np.arange(queries.height), threads, types)

    def __len__(self) -> int:
        return len(self.count)

    def compact(self) -> tuple[Groups, Rows]:
        """Number only the queries that are in a group, and return which rows these were."""
        rows, query = np.unique(self.query, return_inverse=True)
        return replace(self, query=query), rows

    @cached_property
    def pairs_within(self) -> Int[np.ndarray, " groups"]:
        """Count the pairs that `pair_within` could make of each group's two most frequent types."""
        padded = np.pad(self.count, ((0, 0), (2, 0)))  # there may be fewer than two types
        second: np.ndarray = np.sort(padded, axis=1)[:, -2]
        return second


def pair_across(
    groups: Groups, batch_size: int, rng: np.random.Generator, *, shuffled: bool = False
) -> Iterator[Pairs]:
    """Yield an epoch of batches of different groups; a pair is of two types.

    Every query is in at least one pair. Pairs are dealt to the batches in turn, group by
    group, so that a group with m pairs has at most ceil(m / batches) of them in a batch: the
    fewest that any dealing of them could have.

    Args:
        groups: answers, or threads.
        batch_size: batches have this many pairs, or one or so fewer.
        rng: decides which queries are paired.
        shuffled: a control that must fail: the partners of the whole epoch change places.
    """
    pairs = pair_every_query(groups, rng)
    if shuffled:
        pairs = Pairs(pairs.f, rng.permutation(pairs.g), pairs.group)
    batches = -(-len(pairs) // batch_size)
    for i in rng.permutation(batches):
        yield pairs[i::batches]


def pair_every_query(groups: Groups, rng: np.random.Generator) -> Pairs:
    """Make the fewest pairs of two types that hold every query; groups in a random order.

    A group of n queries, M of them of its most frequent type, has max(M, ceil(n / 2)) = m
    pairs. Its queries stand in a row, the most frequent type first, the others in a random
    order, and position i meets position i + m. If one type has the majority, the others
    take turns as its partners.
    """
    if not len(groups):
        return Pairs(groups.query, groups.query, groups.query)
    count = groups.count
    numbers, total = np.arange(len(groups)), count.sum(axis=1)
    largest = np.argmax(count + rng.random(count.shape), axis=1)  # ties at random
    turn_of_type = rng.random(count.shape)
    turn_of_type[numbers, largest] = -1
    order = rng.permutation(len(groups))
    turn_of_group = np.argsort(order)

    group = np.repeat(numbers, total)
    kind = np.repeat(np.tile(np.arange(count.shape[1]), len(groups)), count.ravel())
    row = np.lexsort((rng.random(len(group)), turn_of_type[group, kind], turn_of_group[group]))
    query, kind = groups.query[row], kind[row]

    n, most = total[order], count[order, largest[order]]
    m = np.maximum(most, -(-n // 2))
    begin = np.repeat(n.cumsum() - n, m)
    position = np.arange(m.sum()) - np.repeat(m.cumsum() - m, m)
    partners = np.repeat(n - m, m)
    partner = np.repeat(m, m) + position % partners
    # Without a majority, the last of an odd group has no query opposite: it meets the first.
    is_odd = np.repeat(most * 2 < n, m) & (position == partners)
    a, b = begin + position, begin + np.where(is_odd, 0, partner)
    swap = kind[a] > kind[b]  # a type keeps to its side, so standardising a side removes it
    f, g = np.where(swap, b, a), np.where(swap, a, b)
    return Pairs(query[f], query[g], np.repeat(order, m))


def pair_within(groups: Groups, rng: np.random.Generator, *, min_pairs: int = 2) -> Iterator[Pairs]:
    """Yield the handover's epoch: a batch is min(count, count) pairs of two types of one group.

    All queries of the rarer type, and as many drawn from the other without replacement; of
    more than two types, two are drawn. Groups with fewer than `min_pairs` pairs are left out:
    nothing can be standardised over one pair.
    """
    for number in rng.permutation(len(groups)):
        kinds = np.flatnonzero(groups.count[number])
        a, b = np.sort(rng.choice(kinds, 2, replace=False))
        n = groups.count[number, [a, b]].min()
        if n >= min_pairs:
            f, g = (
                groups.start[number, kind] + rng.permutation(groups.count[number, kind])[:n]
                for kind in (a, b)
            )
            yield Pairs(groups.query[f], groups.query[g], np.full(n, number))


@dataclass(frozen=True)
class PairedQueries:
    """The queries of pre-training, and the groups within which they are paired."""

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
            return pair_within(self.groups, rng, min_pairs=settings.min_pairs)
        return pair_across(self.groups, settings.batch_size, rng, shuffled=settings.shuffled)

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
            yield from pair_across(self.groups, self.settings.batch_size, rng)

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
    the variance of the queries' vectors on their main axis; `pairs` and `batches`; and figures of
    validation.
    """

    stage = "pretraining"
    table = "pretraining"
    is_measured = True  # whether the epoch that ends is

    def __init__(
        self, towers: Towers, pairs: PairedQueries, validate: Validate, *, seed: int = 0
    ) -> None:
        settings, parameters = pairs.settings, split_parameters(towers)
        super().__init__(towers, settings, *parameters, seed=seed, epochs=settings.epochs)
        self.towers, self.pairs, self.validate = towers, pairs, validate

    def train_epoch(self, epoch: int) -> Record:
        """Pass over the queries once."""
        every = -(-self.epochs // MAX_MEASUREMENTS)
        self.is_measured = epoch % every == 0 or epoch == self.epochs
        losses, sizes = [], []
        rng = np.random.default_rng([self.seed, epoch])
        for loss, batch in self.pairs.losses(self.towers, rng):
            self.step(loss)
            losses.append(loss.detach())
            sizes.append(len(batch))
        values = torch.stack(losses).tolist()
        expected = [e for n in sizes if (e := self.pairs.expected_loss(n)) is not None]
        return {
            "barlow_loss": fmean(values),
            "expected_loss": fmean(expected) if expected else None,
            "losses": [round(value, 3) for value in values],
            "pairs": sum(sizes),
            "batches": len(sizes),
        }

    def step(self, loss: Tensor, *, rate: float = 1.0) -> None:
        """Go one step down a loss; a control takes none, or one along random numbers."""
        gradient = self.pairs.settings.gradient
        if gradient == "noise":  # each number drawn is the derivative by one weight
            loss = torch.stack([(w * torch.randn_like(w)).sum() for w in self.weights]).sum()
        if gradient != "none":
            super().step(loss, rate=rate)

    def measure(self) -> Record:
        """Validate, in the main process; of many short epochs, not after each."""
        if not self.is_measured:
            return {}
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
    epochs = [record for record in history if "barlow_loss" in record]
    if not epochs:
        return []
    warnings = []
    # Batches of a few pairs are noisy; the mean of several epochs tells.
    late, share = epochs[len(epochs) // 2 :], epochs[-1]["first_axis"]
    loss = fmean(record["barlow_loss"] for record in late)
    expected = None
    if late[0]["expected_loss"] is not None:
        expected = fmean(record["expected_loss"] for record in late)
    if expected is not None and loss > FLAT_FROM * expected:
        warnings.append(
            f"{name}: the pre-training's loss is {loss:.4g} on average over the last "
            f"{len(late)} of {epochs[-1]['epoch']} epochs, where partners matched at random give "
            f"{expected:.4g}: it has learned nothing. Pair queries "
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


def _number_values(column: pl.Series) -> Rows:
    """Give equal values of a column one number."""
    return column.rank("dense").to_numpy().astype(np.int64)
