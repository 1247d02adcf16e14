"""An exploration for people: its findings at the terminal, and its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from rich.table import Table as TerminalTable
from rich.text import Text

from twinrank.data.texts import MAX_CELL_LENGTH, shorten
from twinrank.evaluation.geometry import main_axes
from twinrank.exploration import Exploration, Finding
from twinrank.exploration.sample import MAX_ROWS, Sample
from twinrank.reports.figures import (
    COLOURS,
    GREY,
    HOVER_LENGTH,
    Trace,
    draw_planes,
    hover_of,
    hover_text,
)
from twinrank.reports.page import MARKS, Section, page, render_text
from twinrank.reports.terminal import aligned, split_rows

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STYLES = {"mend": "yellow", "know": "cyan", "fine": "green"}
MAX_FITTED, MAX_POINTS = 2_000, 1_200  # queries that the axes are of, and that are drawn
MAX_COLOURED_ANSWERS = 6
OTHER_ANSWERS, NO_LABEL = "all other answers", "no label"
MAX_NAME_LENGTH = 42  # characters of a name in a legend


def findings_table(findings: Sequence[Finding]) -> TerminalTable:
    """Make a table of findings for a terminal."""
    table = aligned("")
    table.show_header, table.show_lines = False, True
    for finding in findings:
        text = Text(finding.text).append(f"\n{finding.advice}", "dim")
        table.add_row(Text(MARKS[finding.level], STYLES[finding.level]), text)
    return table


def exploration_page(exploration: Exploration) -> str:
    """Make one HTML document: all findings on top, then a section for each topic."""
    subject = exploration.subject
    sections, heading_of = list[Section](), dict[str, str]()
    for check in exploration.checks:
        figures, tables = [], check.tables
        if check.name == "space" and len(subject.sample) > 1:
            figures = [(draw_features(subject.sample), *_explain("plane", points=MAX_POINTS))]
        if check.name == "types":
            tables = [("Queries by split and type", split_rows(subject.description))]
        if figures or tables or check.folded:
            about = _explain(check.name, **check.facts)
            sections.append(Section(check.heading, about, figures, tables, folded=check.folded))
            heading_of |= {finding.name: check.heading for finding in check.findings}
    notes = [(finding, heading_of.get(finding.name)) for finding in exploration.findings]
    about = _explain("about", sample=subject.sample)
    limits = {"cell": MAX_CELL_LENGTH, "hover": HOVER_LENGTH, "rows": MAX_ROWS}
    method = _explain("method", encoder=subject.encoder, **limits)
    tiles = [(name, f"{number:,}") for name, number in subject.description.counts.items()]
    sections = [Section("What was found", about, notes=notes, tiles=tiles), *sections]
    sections.append(Section("How it was looked at", method))
    return page(f"A look at {subject.description.name}", sections)


def _explain(macro: str, **facts: object) -> list[str]:
    """Render the paragraphs of a check, or of a figure, from the template."""
    return render_text("exploration.txt", macro, **facts).split("\n\n")


def draw_features(sample: Sample) -> Figure:
    """Draw queries on the two main axes of their raw features, by type and by answer."""
    rng = np.random.default_rng(0)
    fitted = sample.features[rng.permutation(len(sample))[:MAX_FITTED]]
    rows = np.sort(rng.permutation(len(sample))[:MAX_POINTS])
    (plane,), shares = main_axes(fitted, 2, sample.features[rows])
    titles = sample.answers["title"]
    answers = [titles[int(r.indices[0])] if r.nnz else NO_LABEL for r in sample.labels[rows]]
    counts = Counter(answer for answer in answers if answer != NO_LABEL)
    coloured = [answer for answer, _ in counts.most_common(MAX_COLOURED_ANSWERS)]
    points = sample.frame[rows].with_columns(
        x=pl.Series(plane[:, 0]),
        y=pl.Series(plane[:, 1]),
        answer=pl.Series(answers, dtype=pl.String),
        name=pl.Series([a if a in coloured else OTHER_ANSWERS for a in answers], dtype=pl.String),
    )
    texts = (hover_of(column) for column in ("answer", "type", "text"))
    points = points.with_columns(hover=pl.format("<b>{}</b><br>{}<br>{}", *texts))
    groups = {
        ("by type", "type"): dict(zip(sample.types, cycle(COLOURS), strict=False)),
        ("by answer", "name"): {
            OTHER_ANSWERS: GREY,
            **dict(zip(coloured, cycle(COLOURS), strict=False)),
        },
    }
    planes = {
        title: ([_make_trace(points.filter(pl.col(by) == n), n, c) for n, c in of.items()], shares)
        for (title, by), of in groups.items()
    }
    plot = draw_planes(planes)
    return plot.update_layout(height=600, margin_b=180, legend_itemsizing="constant")


def _make_trace(points: pl.DataFrame, name: str, colour: str) -> Trace:
    marker = {"color": colour, "size": 5, "opacity": 0.6}
    return points, {"name": hover_text(shorten(name, MAX_NAME_LENGTH)), "marker": marker}
