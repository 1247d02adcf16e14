"""An exploration for people: its findings at the terminal, and its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from twinrank.exploration import Exploration, Finding
from twinrank.files import write_file
from twinrank.reports.page import check_installed

MARKS = {"mend": "To mend", "know": "To know", "fine": "In order"}
STYLES = {"mend": "yellow", "know": "cyan", "fine": "green"}


def findings_table(found: Sequence[Finding]) -> Table:
    """The findings for people at a terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False, show_lines=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in found:
        says = Text(finding.says).append(f"\n{finding.do}", "dim")
        table.add_row(Text(MARKS[finding.level], STYLES[finding.level]), says)
    return table


def write_exploration(file: Path, found: Exploration) -> Path:
    """Write the page, and give its path.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    check_installed()
    from twinrank.reports.explore_page import exploration_page

    return write_file(file, exploration_page(found))
