"""What a check gives: findings for the terminal and for JSON, charts and tables for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["mend", "know", "fine"]


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
class Chart:
    """Points in a plane, a figure of a page.

    Attributes:
        caption: the name of the text that explains it, in the page's template.
        rows: a point each: `panel`, `name` (of its series), `x`, `y`, and `hover`, of whose lines
            the first is a heading.
        grey: the name of the series without a colour.
    """

    caption: str
    rows: Sequence[Mapping[str, Any]]
    x_title: str
    y_title: str
    grey: str


@dataclass(frozen=True)
class Table:
    """Rows of a page, the head first; a line break in a cell is kept.

    With a `total`, of which the first rows are shown, it is folded behind its title.
    """

    title: str
    rows: Sequence[Sequence[str]]
    total: int | None = None


@dataclass(frozen=True)
class Check:
    """The findings of one topic, with the charts and tables of its section on the page.

    Attributes:
        name: of the text that explains it, in the page's template.
        facts: the values that this text names.
    """

    name: str
    heading: str
    findings: Sequence[Finding] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def enumerate_words(words: Sequence[str]) -> str:
    """Write words as an enumeration: one, two and three."""
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last
