"""What a check gives: findings for the terminal and for JSON, tables for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["mend", "know", "fine"]
Table = tuple[str, Sequence[Sequence[str]]]  # title and rows, the head first


@dataclass(frozen=True)
class Finding:
    """A sentence with a number, and a sentence of advice.

    Attributes:
        name: its topic; several findings may share it.
        figures: its numbers; shares are from 0 to 1.
    """

    name: str
    level: Level
    text: str
    advice: str
    figures: Mapping[str, int | float]

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "name": self.name,
            "level": self.level,
            "says": self.text,
            "do": self.advice,
            "figures": dict(self.figures),
        }


@dataclass(frozen=True)
class Check:
    """The findings of one topic, with the tables of its section on the page.

    Attributes:
        name: of the text that explains it, in the page's template.
        tables: those that the page shows; a line break in a cell is kept.
        folded: those of which it shows the title, until it is opened.
        facts: the values that the text names.
    """

    name: str
    heading: str
    findings: Sequence[Finding] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def head_of_table(title: str, rows: Sequence[Sequence[str]], total: int) -> Table:
    """Make a table of the first of `total` rows, which its title counts."""
    return f"{title} ({len(rows) - 1:,} of {total:,})", rows
