"""An exploration for people: its findings at the terminal, and its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.table import Table as TerminalTable
from rich.text import Text

from twinrank.exploration import Chart, Check, Exploration, Finding, Table
from twinrank.exploration.sample import MAX_CELL_LENGTH, MAX_ROWS, shorten
from twinrank.files import write_file
from twinrank.reports.figures import COLOURS, GREY, HOVER_LENGTH, draw, hover_text, styled
from twinrank.reports.page import Note, Rows, Section, page, render_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MARKS = {"mend": "To mend", "know": "To know", "fine": "In order"}
STYLES = {"mend": "yellow", "know": "cyan", "fine": "green"}
MAX_NAME_LENGTH = 42  # characters of a name on an axis or in a legend


def findings_table(findings: Sequence[Finding]) -> TerminalTable:
    """Make a table of findings for a terminal."""
    table = TerminalTable(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False, show_lines=True)
    table.add_column(no_wrap=True)
    table.add_column()
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
    """Make one HTML document: all findings on top, then a section for each topic.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    subject = exploration.subject
    shown = [check for check in exploration.checks if check.charts or check.tables]
    heading_of = {finding.name: check.heading for check in shown for finding in check.findings}
    notes = [
        Note(f.level, MARKS[f.level], f.text, f.advice, heading_of.get(f.name))
        for f in exploration.findings
    ]
    about = _explain("about", counts=subject.description.counts, sample=subject.sample)
    limits = {"cell": MAX_CELL_LENGTH, "hover": HOVER_LENGTH, "rows": MAX_ROWS}
    method = _explain("method", encoder=subject.encoder, **limits)
    return page(
        f"A look at {subject.description.name}",
        [
            Section("What was found", about, notes=notes),
            *map(_section, shown),
            Section("How it was looked at", method),
        ],
    )


def _section(check: Check) -> Section:
    return Section(
        check.heading,
        _explain(check.name, **check.facts),
        [
            (draw_chart(chart), " ".join(_explain(chart.caption, **chart.facts)))
            for chart in check.charts
        ],
        [(table.title, table.rows) for table in check.tables if table.total is None],
        folded=[_folded(table) for table in check.tables if table.total is not None],
    )


def _folded(table: Table) -> tuple[str, Rows]:
    shown, total = len(table.rows) - 1, table.total or 0
    count = f"{shown:,} of {total:,}" if shown < total else f"{total:,}"
    return f"{table.title} ({count})", table.rows


def _explain(macro: str, **facts: object) -> list[str]:
    """Render the paragraphs of a check, or of a chart, from the template."""
    return render_text("exploration.txt", macro, **facts).split("\n\n")


def draw_chart(chart: Chart) -> Figure:
    """Draw a chart of plain values; what people wrote is made harmless."""
    from plotly import express

    rows = [
        row | {"name": shorten(row["name"], MAX_NAME_LENGTH), "hover": _hover(row["hover"])}
        for row in map(dict, chart.rows)
    ]
    grey = dict.fromkeys(map(_short_name, chart.grey), GREY)
    names = [n for n in dict.fromkeys(_short_name(row["name"]) for row in rows) if n not in grey]
    colours = grey | dict(zip(names, cycle(COLOURS), strict=False))
    options: dict[str, Any] = {"color_discrete_map": colours}
    paneled = "panel" in rows[0]
    if chart.kind == "bars":
        options |= {"orientation": "h"} | ({"text": "y"} if paneled else {})
        plot = draw(express.bar, rows, **options)
        _set_categories(plot, chart, rows, hidden=paneled)
    elif chart.kind == "lines":
        interval: Literal["y"] | None = "y" if "low" in rows[0] else None
        options |= {"line_dash": "name", "markers": interval is not None, "render_mode": "svg"}
        plot = draw(express.line, rows, interval=interval, **options)
        plot.update_yaxes(tickformat=".0%", rangemode="tozero")
        styled(plot, "", height=400)
    else:
        plot = draw(express.scatter, rows, **options, opacity=0.6, render_mode="svg")
        plot.update_traces(marker={"size": 5})
        styled(plot, "", height=640)
        plot.update_layout(margin_b=180, legend_itemsizing="constant")
        plot.update_xaxes(showticklabels=False, zeroline=False)
        plot.update_yaxes(showticklabels=False, zeroline=False)
    plot.update_layout(margin_t=60 if paneled else 30)
    plot.update_xaxes(title_text=chart.x_title)
    plot.update_yaxes(title_text=chart.y_title)
    if chart.log_x:
        plot.update_xaxes(type="log", dtick="D2")
    if chart.threshold:
        _mark_threshold(plot, chart)
    return plot


def _set_categories(
    plot: Figure, chart: Chart, rows: Sequence[dict[str, Any]], *, hidden: bool
) -> None:
    """Put the names of bars on the axis from top to bottom, or into the bars."""
    names = list(chart.labels or dict.fromkeys(row["y"] for row in rows))
    styled(plot, "", height=150 + (24 if hidden else 32) * (12 if hidden else len(names)))
    plot.update_yaxes(type="category", autorange="reversed", showgrid=False)
    if hidden:
        plot.update_traces(textposition="auto", textangle=0, showlegend=False)
        plot.update_yaxes(showticklabels=False)
        return
    ticks = [_short_name(chart.labels.get(name, name)) for name in names]
    plot.update_yaxes(
        categoryorder="array",
        categoryarray=names,
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=ticks,
        automargin=True,
    )


def _mark_threshold(plot: Figure, chart: Chart) -> None:
    x, meaning = chart.threshold or (0, "")
    plot.add_shape(
        type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": GREY, "dash": "dot"}
    )
    at = math.log10(x) if chart.log_x else x  # a shape takes x, a text its logarithm
    plot.add_annotation(x=at, y=1, yref="paper", text=meaning, showarrow=False, yanchor="bottom")


def _short_name(name: str) -> str:
    return hover_text(shorten(name, MAX_NAME_LENGTH))


def _hover(text: str) -> str:
    """Format a text for hovering; of several lines the first is a heading."""
    first, *rest = (hover_text(line) for line in text.split("\n") if line)
    return "<br>".join([f"<b>{first}</b>", *rest]) if rest else first
