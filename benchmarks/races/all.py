"""All races, in the order in which they are held and shown."""

from __future__ import annotations

from collections.abc import Sequence

from races import encoding, quality, searching, serving, training
from races.race import Unit


def units(types: Sequence[str]) -> list[Unit]:
    """Of a data set with these types of queries."""
    return [
        *encoding.units(types),
        *training.units(),
        *searching.units(),
        *quality.units(),
        *serving.units(types),
    ]
