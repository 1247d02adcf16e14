"""A finding: a sentence with the number, and a sentence of what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["mend", "know", "fine"]


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        name: what it is about; the same name may come twice.
        level: `mend` it, `know` it, or it is `fine`.
        says: a sentence with the number.
        do: a sentence of what to do about it.
        figures: its numbers; shares are from 0 to 1.
    """

    name: str
    level: Level
    says: str
    do: str
    figures: Mapping[str, int | float]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def many(count: int, one: str, several: str) -> str:
    """A count with its noun."""
    return f"{count:,} {one if count == 1 else several}"


def listed(names: list[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
