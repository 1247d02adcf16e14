"""Pairing: which two queries pre-training takes for views of one thing.

A group is an answer (its queries share a label) or a thread (the same matter, written twice).
Everything is a few integer arrays, so a million threads cost a few times 8 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from jaxtyping import Int

from twinrank.data import Queries

Rows = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of queries, one a row: `f` and `g` are of different types and of one `group`."""

    f: Rows
    g: Rows
    group: Rows

    def __len__(self) -> int:
        return len(self.f)

    def __getitem__(self, rows: slice | np.ndarray) -> Pairs:
        return Pairs(self.f[rows], self.g[rows], self.group[rows])

    @property
    def collisions(self) -> int:
        """Count the pairs that share their group with an earlier pair."""
        return len(self) - len(np.unique(self.group))


@dataclass(frozen=True)
class Groups:
    """Queries sorted by group and type, in the groups that hold at least two types.

    Attributes:
        query: row of the query in the features (s); a query with two right answers stands in
            two groups.
        start: where the queries of a group and a type begin in `query` (groups x types).
        count: how many there are (groups x types).
        alone: how many stand in a group of one type, and so have no partner.
    """

    query: Int[np.ndarray, " s"]
    start: Int[np.ndarray, "groups types"]
    count: Int[np.ndarray, "groups types"]
    alone: int

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
        alone = int((~is_usable).sum())
        return cls(query[is_usable][order], ends - count, count, alone)

    @classmethod
    def by_answer(cls, train: Queries) -> Groups:
        """Group queries that share a right answer; rows are those of `train`."""
        labels = train.labels.tocoo()
        query, answer = labels.row.astype(np.int64), labels.col.astype(np.int64)
        return cls.of(query, answer, _codes(train.frame["type"])[query])

    @classmethod
    def by_thread(cls, queries: pl.DataFrame) -> Groups:
        """Group queries of one thread (columns type and thread); no label is needed."""
        return cls.of(np.arange(queries.height), _codes(queries["thread"]), _codes(queries["type"]))

    def __len__(self) -> int:
        return len(self.count)

    def compact(self) -> tuple[Groups, Rows]:
        """Number only the queries that are in a group, and return which rows these were."""
        rows, query = np.unique(self.query, return_inverse=True)
        return replace(self, query=query), rows

    @cached_property
    def pairs_within(self) -> Int[np.ndarray, " groups"]:
        """Count the pairs that `within` could make of each group's two most frequent types."""
        padded = np.pad(self.count, ((0, 0), (2, 0)))  # there may be fewer than two types
        second: np.ndarray = np.sort(padded, axis=1)[:, -2]
        return second

    @cached_property
    def total(self) -> Int[np.ndarray, " groups"]:
        """Count the queries of each group."""
        totals: np.ndarray = self.count.sum(axis=1)
        return totals


def across(
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
    pairs = every_query(groups, rng)
    if shuffled:
        pairs = Pairs(pairs.f, rng.permutation(pairs.g), pairs.group)
    batches = -(-len(pairs) // batch_size)
    for i in rng.permutation(batches):
        yield pairs[i::batches]


def every_query(groups: Groups, rng: np.random.Generator) -> Pairs:
    """Make the fewest pairs of two types that hold every query; groups in a random order.

    A group of n queries, M of them of its most frequent type, has max(M, ceil(n / 2)) = m
    pairs. Its queries stand in a row, the most frequent type first, the others in a random
    order, and position i meets position i + m. If one type has the majority, the others
    take turns as its partners.
    """
    if not len(groups):
        return Pairs(groups.query, groups.query, groups.query)
    count = groups.count
    numbers = np.arange(len(groups))
    largest = np.argmax(count + rng.random(count.shape), axis=1)  # ties at random
    turn_of_type = rng.random(count.shape)
    turn_of_type[numbers, largest] = -1
    order = rng.permutation(len(groups))
    turn_of_group = np.argsort(order)

    group = np.repeat(numbers, groups.total)
    kind = np.repeat(np.tile(np.arange(count.shape[1]), len(groups)), count.ravel())
    row = np.lexsort((rng.random(len(group)), turn_of_type[group, kind], turn_of_group[group]))
    query, kind = groups.query[row], kind[row]

    n, most = groups.total[order], count[order, largest[order]]
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


def within(groups: Groups, rng: np.random.Generator, *, min_pairs: int = 2) -> Iterator[Pairs]:
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


def _codes(column: pl.Series) -> Rows:
    return column.rank("dense").to_numpy().astype(np.int64)
