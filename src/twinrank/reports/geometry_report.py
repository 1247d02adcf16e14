"""The geometry of rankers as tables of a page, and the centroids of one as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from twinrank.evaluation import Geometry, View
from twinrank.reports.figures import COLOURS, GREY, SYMBOLS, hover_text, panels, styled
from twinrank.reports.page import Rows, check_installed
from twinrank.reports.terminal import figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLUMNS = {
    "centroid_distance": "centroid dist.",
    "centroid_distance_relative": "... relative",
    "answer_distance": "answer dist.",
    "answer_distance_relative": "... relative",
    "type_auc": "type AUC",
    "answer_share": "answer share",
    "type_share": "type share",
}
READINGS = {
    "centroid_distance": "between an answer's centroids of two types, features scaled to 0 to 1",
    "centroid_distance_relative": "the same over that of two random queries; low: types mix",
    "answer_distance": "from a query to its right answer, features scaled to 0 to 1",
    "answer_distance_relative": "the same over that of two random queries; low: near",
    "type_auc": "how well a linear probe tells the type; 0.5: not at all, 1: always",
    "answer_share": "share of the variance of queries that is between answers; high is good",
    "type_share": "share of the variance of queries that is between types; 0: types mix",
}


def space_tables(spaces: Sequence[tuple[str, Geometry]]) -> list[tuple[str, Rows]]:
    """Make a table of the figures of each ranker for a page, and one of how to read them."""
    rows = [["ranker", *COLUMNS.values()], *([name, *_cells(space)] for name, space in spaces)]
    readings = [["figure", "how to read it"], *([COLUMNS[key], READINGS[key]] for key in COLUMNS)]
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
