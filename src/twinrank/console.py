"""What a terminal is given: texts as they are, with their control characters shown, not obeyed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

# C0 but for tab and line feed, DEL, C1, and what turns the direction of text.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MAX_WIDTH_OF_TABLES = 120  # columns that a table may take where the terminal has fewer


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

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (rich's own)
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print_tables(self, what: RenderableType) -> None:
        """Print a table, or several in a group, in which no figure is cut."""
        tables = [t for t in getattr(what, "renderables", [what]) if isinstance(t, Table)]
        for table in tables:
            for column in table.columns:  # visible before the width is measured
                column._cells = [_make_visible(cell) for cell in column.cells]
                column.no_wrap = column.no_wrap or column.justify == "right"
                column.overflow = "fold"
            wanted = Measurement.get(self, self.options.update(width=MAX_WIDTH_OF_TABLES), table)
            self.width = max(self.width, min(wanted.maximum, MAX_WIDTH_OF_TABLES))
        self.print(what)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render what a table, a group or a line is made of; texts become visible here."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


def _make_visible(cell: RenderableType) -> RenderableType:
    if isinstance(cell, Text) and CONTROLS.search(cell.plain):
        return Text(visible(cell.plain), cell.style)
    return visible(cell) if isinstance(cell, str) else cell
