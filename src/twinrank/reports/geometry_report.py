"""The geometry of rankers as a table, the centroids of one as a figure, and both as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.table import Table
from rich.text import Text

from twinrank.evaluation import Geometry, View
from twinrank.files import write_file
from twinrank.reports.figures import COLOURS, GREY, SYMBOLS, hover_text, panels, styled
from twinrank.reports.page import Rows, Section, check_installed, page
from twinrank.reports.terminal import aligned, figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Two lines each, so that a row of 13 columns stays within 120 characters.
COLUMNS = {
    "centroid_distance": "centroid\ndist.",
    "centroid_distance_relative": "... rel-\native",
    "answer_distance": "answer\ndist.",
    "answer_distance_relative": "... rel-\native",
    "type_auc": "type\nAUC",
    "alignment": "answer\nalign",
    "type_alignment": "type\nalign",
    "uniformity": "query\nunif.",
    "answer_uniformity": "answer\nunif.",
    "effective_rank": "effect.\nrank",
    "answer_share": "answer\nshare",
    "type_share": "type\nshare",
}
READINGS = {
    "centroid_distance": "between an answer's centroids of two types, features scaled to 0 to 1",
    "centroid_distance_relative": "the same over that of two random queries; low: types mix",
    "answer_distance": "from a query to its right answer, features scaled to 0 to 1",
    "answer_distance_relative": "the same over that of two random queries; low: near",
    "type_auc": "how well a linear probe tells the type; 0.5: not at all, 1: always",
    "alignment": "squared distance from query to right answer on the unit sphere; low is good",
    "type_alignment": "the same between two queries of one answer and different types",
    "uniformity": "how evenly queries use the sphere; 0: all in one point, lower: spread out",
    "answer_uniformity": "the same of the answers",
    "effective_rank": "how many directions the queries really use",
    "answer_share": "share of the variance of queries that is between answers; high is good",
    "type_share": "share of the variance of queries that is between types; 0: types mix",
}
READING = (
    "Small dots are queries, large marks the centroids of an answer's queries of one type. A line "
    "joins the centroids of one answer; short lines between far answers are what one hopes for."
)


def geometry_table(rows: Sequence[tuple[str, Geometry]]) -> Table:
    """Make a row of the figures of each named ranker, of one split; a dash if undefined."""
    first = rows[0][1]
    table = aligned(
        f"{first.data}, {first.split} split: the space of {first.queries:,} queries; "
        f"{first.paired:,} answers with queries of several types."
    )
    table.add_column("", overflow="fold")
    for name in COLUMNS.values():
        table.add_column(name, justify="right", no_wrap=True)
    for name, geometry in rows:
        table.add_row(Text(name), *_cells(geometry))
    return table


def write_geometry(
    page_path: Path,
    spaces: Sequence[tuple[str, Geometry]],
    views: Sequence[tuple[str, Sequence[View]]],
) -> None:
    """Write a page with the table, how to read it, and the centroids of each named ranker.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    first = spaces[0][1]
    about = f"{first.queries:,} {first.split} queries; {first.paired:,} answers with several types."
    figures = Section("In figures", [about], tables=space_tables(spaces))
    sections = [Section(n, figures=[(centroid_figure(n, three), READING)]) for n, three in views]
    write_file(page_path, page(f"The space of {first.data}", [figures, *sections]))


def space_tables(spaces: Sequence[tuple[str, Geometry]]) -> list[tuple[str, Rows]]:
    """Make a table of the figures of each ranker for a page, and one of how to read them."""
    names = {key: name.replace("-\n", "").replace("\n", " ") for key, name in COLUMNS.items()}
    rows = [["ranker", *names.values()], *([name, *_cells(space)] for name, space in spaces)]
    readings = [["figure", "how to read it"], *([names[key], READINGS[key]] for key in names)]
    return [("The space of each ranker", rows), ("How to read each figure", readings)]


def _cells(geometry: Geometry) -> list[str]:
    values = [geometry.figures[name] for name in COLUMNS]
    return ["-" if value is None else figure(value) for value in values]


def centroid_figure(name: str, views: Sequence[View]) -> Figure:
    """Draw the views of a ranker side by side: queries faint, centroids large, and joined.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    check_installed()
    plot = panels(*(view.name for view in views))
    for column, view in enumerate(views, start=1):
        for trace in _draw_traces(view, legend=column == 1):
            plot.add_trace(trace, row=1, col=column)
        across, upward = (f"axis {i}: {e:.0%} of variance" for i, e in enumerate(view.explained, 1))
        plot.update_xaxes(title_text=across, row=1, col=column)
        anchor = f"x{column}" if column > 1 else "x"
        plot.update_yaxes(title_text=upward, scaleanchor=anchor, row=1, col=column)
    styled(plot, hover_text(name), height=540)
    for update in (plot.update_xaxes, plot.update_yaxes):
        update(showgrid=True, zeroline=False)
    return plot


def _draw_traces(view: View, *, legend: bool) -> list[Any]:
    from plotly.graph_objects import Scatter

    queries, centroids = [], []
    for i, kind in enumerate(sorted(view.centroids["type"].unique())):
        look = {"color": COLOURS[i % len(COLOURS)]}
        look |= {"symbol": SYMBOLS[i // len(COLOURS) % len(SYMBOLS)]}
        common = {"mode": "markers", "hoverinfo": "text", "name": hover_text(kind)}
        common |= {"legendgroup": kind}
        rows = view.queries.filter(type=kind)
        hover = [hover_text(text) for text in rows["text"]]
        marker = {**look, "size": 4, "opacity": 0.35}
        queries.append(
            Scatter(**_give_xy(rows), **common, hovertext=hover, marker=marker, showlegend=False)
        )
        rows = view.centroids.filter(type=kind)
        hover = [
            f"<b>{hover_text(title)}</b><br>{hover_text(kind)}, queries: {count:,}; the nearest:"
            f"<br>{hover_text(text)}"
            for title, count, text in rows.select("title", "queries", "text").rows()
        ]
        marker = {**look, "size": 8, "opacity": 0.9}
        centroids.append(
            Scatter(**_give_xy(rows), **common, hovertext=hover, marker=marker, showlegend=legend)
        )
    gap = pl.DataFrame({"x": [None], "y": [None]}, schema={"x": pl.Float64, "y": pl.Float64})
    joined = [
        pl.concat([group.select("x", "y"), gap])
        for _, group in view.centroids.group_by("answer", maintain_order=True)
        if group.height > 1
    ]
    xy = _give_xy(pl.concat(joined) if joined else gap.clear())
    line = {"color": GREY, "width": 0.7}
    lines = Scatter(**xy, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    return [*queries, lines, *centroids]


def _give_xy(rows: pl.DataFrame) -> dict[str, list[float | None]]:
    """Give coordinates, no finer than a pixel."""
    return rows.select(pl.col("x", "y").round_sig_figs(4)).to_dict(as_series=False)
