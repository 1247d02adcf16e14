"""What a terminal is given: texts as they are, with their control characters shown, not obeyed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

# C0 but for tab and line feed, DEL, C1, and what turns the direction of text.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
WIDEST = 120  # columns taken where the terminal has too few for figures
WORD, BETWEEN = 12, 3  # characters of a word that is kept whole, and between columns


def visible(text: str) -> str:
    """Show control characters as JSON escapes them: a title must not clear an operator's screen."""
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text.replace("\r\n", "\n"))


class VisibleFormatter(logging.Formatter):
    """Formats log records with their control characters shown."""

    def format(self, record: logging.LogRecord) -> str:
        """See `visible`."""
        return visible(super().format(record))


class PlainConsole(Console):
    """A console that reads no markup in texts, and shows their control characters."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def print_tables(self, what: RenderableType) -> None:
        """Print a table, or several in a group, in which no figure is cut."""
        for part in what.renderables if isinstance(what, Group) else [what]:
            if isinstance(part, Table):
                self._make_room(part)
        self.print(what)

    def _make_room(self, table: Table) -> None:
        """Go beyond the console's width for whole figures, and words up to a length."""
        options = self.options.update(width=WIDEST)
        for column in table.columns:
            column._cells = [_visible_text(c) if isinstance(c, Text) else c for c in column.cells]
            parts = [column.header, *column.cells]
            longest = max(Measurement.get(self, options, part).minimum for part in parts)
            column.min_width = longest if column.justify == "right" else min(longest, WORD)
            column.overflow = "fold"
        needed = sum((column.min_width or 0) + BETWEEN for column in table.columns)
        if needed > self.width:
            self.width = max(needed, WIDEST)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render what a table, a group or a line is made of; texts become visible here."""
        if isinstance(renderable, Text):
            renderable = _visible_text(renderable)
        return super().render(renderable, options)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 (rich's own)
        """Render a text that is a plain string."""
        return super().render_str(visible(text), **options)


def _visible_text(text: Text) -> Text:
    """The text, with its styles where they were."""
    for match in reversed(list(CONTROLS.finditer(text.plain))):
        start, end = match.span()
        text = text[:start].append(visible(match[0])).append_text(text[end:])
    return text
