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
        level: `mend` it, `know` it, or it is `fine`.
        text: the finding.
        advice: what to do about it.
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
    """A figure of a page.

    Attributes:
        kind: horizontal bars, stacked; lines, whose y are shares; or points in a plane.
        caption: the name of the text that explains it, in the page's template.
        rows: a value each: `name` (of its series), `x`, `y` (of bars: the name of a row), `hover`
            (of several lines the first is a heading) and, if there are several, its `panel`;
            `low` and `high` are an interval of y.
        x_title, y_title: of the axes.
        labels: how to write the y of bars, where a reader should see another text.
        grey: names of series without a colour.
        threshold: an x that is marked, and its meaning.
        log_x: whether x grows by factors.
        facts: what the caption names.
    """

    kind: Literal["bars", "lines", "points"]
    caption: str
    rows: Sequence[Mapping[str, Any]]
    x_title: str
    y_title: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    grey: Sequence[str] = ()
    threshold: tuple[float, str] | None = None
    log_x: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows of a page, the head first; folded behind their title if it says how many there are.

    Attributes:
        title: of the table.
        rows: of text; a line break in a cell is kept.
        total: how many rows there are, of which the first are shown; None for a short table.
    """

    title: str
    rows: Sequence[Sequence[str]]
    total: int | None = None


@dataclass(frozen=True)
class Check:
    """The findings of one topic, and what they rest on.

    Attributes:
        name: of the text that explains it, in the page's template.
        heading: of its section on the page.
        findings: any number.
        charts, tables: of its section; without any there is none.
        facts: what the explaining text names.
    """

    name: str
    heading: str
    findings: Sequence[Finding] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def count_of(count: int, singular: str, plural: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {singular if count == 1 else plural}"


def enumerate_words(words: Sequence[str]) -> str:
    """Write words as an enumeration."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
