"""Features in the order of their texts, gathered from memory maps when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from twinrank.encoding.parts import Part

NOWHERE = -1


@dataclass(frozen=True)
class Places:
    """Where the features of N keys are: the number of the part (or NOWHERE) and the row in it."""

    part: np.ndarray
    row: np.ndarray

    @property
    def missing(self) -> np.ndarray:
        """The numbers of the keys that are in no part."""
        return np.flatnonzero(self.part == NOWHERE)

    def at(self, rows: np.ndarray) -> Places:
        """The places of the keys of these numbers, in this order."""
        return Places(self.part[rows], self.row[rows])


def look_up(parts: Sequence[Part], keys: np.ndarray) -> Places:
    """Find N keys, ascending, in `parts`."""
    part = np.full(len(keys), NOWHERE, np.int32)
    row = np.zeros(len(keys), np.int64)
    sought = np.arange(len(keys))
    for number, candidate in enumerate(parts):
        at = np.searchsorted(candidate.keys, keys[sought])
        at[at == len(candidate)] = 0
        found = candidate.keys[at] == keys[sought]
        part[sought[found]] = number
        row[sought[found]] = at[found]
        sought = sought[~found]
    return Places(part, row)


@dataclass(frozen=True)
class Features:
    """N x d features, read from the store's memory maps on demand.

    Args:
        dim: their width d.
        encoded: how many texts were new and encoded for this.
    """

    dim: int
    encoded: int
    _parts: tuple[np.ndarray, ...] = field(repr=False)
    _places: Places = field(repr=False)
    _pooling: int = field(repr=False)

    def __len__(self) -> int:
        return len(self._places.part)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, d)."""
        return len(self), self.dim

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Features (n, d), float32, of some rows: a slice, or an array of numbers or booleans."""
        owners = self._places.part[rows]
        if owners.ndim != 1:
            raise TypeError("rows are a slice or a one-dimensional array")
        places = self._places.row[rows]
        gathered = np.empty((len(owners), self.dim), np.float32)
        for owner in np.unique(owners):
            mine = np.flatnonzero(owners == owner)
            mine = mine[np.argsort(places[mine])]  # reads each map in its own order
            gathered[mine] = self._parts[owner][places[mine], self._pooling]
        return gathered

    def __array__(
        self, dtype: np.typing.DTypeLike | None = None, copy: bool | None = None
    ) -> np.ndarray:
        """All N x d features in memory."""
        if copy is False:
            raise ValueError("features are gathered from the store: they are always a copy")
        return self[:].astype(dtype or np.float32, copy=False)
