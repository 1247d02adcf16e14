"""An exploration for people: its findings at the terminal, and its page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table as TerminalTable
from rich.text import Text

from twinrank.exploration import Chart, Check, Exploration, Finding
from twinrank.exploration.sample import MAX_CELL_LENGTH, MAX_ROWS, shorten
from twinrank.files import write_file
from twinrank.reports.figures import COLOURS, GREY, HOVER_LENGTH, draw, hover_text, styled
from twinrank.reports.page import Note, Section, page, render_text
from twinrank.reports.terminal import aligned

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MARKS = {"mend": "To mend", "know": "To know", "fine": "In order"}
STYLES = {"mend": "yellow", "know": "cyan", "fine": "green"}
MAX_NAME_LENGTH = 42  # characters of a name in a legend


def findings_table(findings: Sequence[Finding]) -> TerminalTable:
    """Make a table of findings for a terminal."""
    table = aligned("")
    table.show_header, table.show_lines = False, True
    for finding in findings:
        text = Text(finding.text).append(f"\n{finding.advice}", "dim")
        table.add_row(Text(MARKS[finding.level], STYLES[finding.level]), text)
    return table


def write_exploration(file: Path, exploration: Exploration) -> Path:
    """Write the page, and give its path.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    return write_file(file, exploration_page(exploration))


def exploration_page(exploration: Exploration) -> str:
    """Make one HTML document: all findings on top, then a section for each topic."""
    subject = exploration.subject
    shown = [check for check in exploration.checks if check.charts or check.tables]
    heading_of = {finding.name: check.heading for check in shown for finding in check.findings}
    notes = [
        Note(f.level, MARKS[f.level], f.text, f.advice, heading_of.get(f.name))
        for f in exploration.findings
    ]
    about = _explain("about", counts=subject.description.counts, sample=subject.sample)
    limits = {"cell": MAX_CELL_LENGTH, "hover": HOVER_LENGTH, "rows": MAX_ROWS}
    method = _explain("method", encoder=subject.encoder, pooling=subject.pooling, **limits)
    sections = [Section("What was found", about, notes=notes), *map(_make_section, shown)]
    sections.append(Section("How it was looked at", method))
    return page(f"A look at {subject.description.name}", sections)


def _make_section(check: Check) -> Section:
    figures = [(draw_chart(c), _explain(c.caption)[0]) for c in check.charts]
    tables, folded = [], []
    for table in check.tables:
        if table.total is None:
            tables.append((table.title, table.rows))
        else:
            count = f"{len(table.rows) - 1:,} of {table.total:,}"
            folded.append((f"{table.title} ({count})", table.rows))
    return Section(check.heading, _explain(check.name, **check.facts), figures, tables, (), folded)


def _explain(macro: str, **facts: object) -> list[str]:
    """Render the paragraphs of a check, or of a chart, from the template."""
    return render_text("exploration.txt", macro, **facts).split("\n\n")


def draw_chart(chart: Chart) -> Figure:
    """Draw points in a plane; what people wrote is made harmless."""
    from plotly import express

    rows = [
        {**row, "name": shorten(row["name"], MAX_NAME_LENGTH), "hover": _format_hover(row["hover"])}
        for row in chart.rows
    ]
    names = dict.fromkeys(hover_text(row["name"]) for row in rows if row["name"] != chart.grey)
    colours = {chart.grey: GREY, **dict(zip(names, cycle(COLOURS), strict=False))}
    plot = draw(express.scatter, rows, color_discrete_map=colours, render_mode="svg")
    styled(plot, "", height=640)
    plot.update_traces(marker={"size": 5, "opacity": 0.6})
    plot.update_layout(margin_b=180, legend_itemsizing="constant")
    for update in (plot.update_xaxes, plot.update_yaxes):
        update(zeroline=False)
    plot.update_xaxes(title_text=chart.x_title)
    plot.update_yaxes(title_text=chart.y_title)
    return plot


def _format_hover(text: str) -> str:
    """Format a text for hovering; of several lines the first is a heading."""
    first, *rest = (hover_text(line) for line in text.split("\n") if line)
    return "<br>".join([f"<b>{first}</b>", *rest]) if rest else first
