"""The geometry of rankers as tables of a page, and their centroids as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from twinrank.evaluation import Geometry, View
from twinrank.reports.figures import (
    COLOURS,
    GREY,
    SYMBOLS,
    Trace,
    draw_planes,
    hover_of,
    hover_text,
)
from twinrank.reports.page import Rows
from twinrank.reports.terminal import figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Each figure's column, and how to read it.
FIGURES = {
    "centroid_distance": (
        "centroid dist.",
        "between an answer's centroids of two types, features scaled to 0 to 1",
    ),
    "centroid_distance_relative": (
        "... relative",
        "the same over that of two random queries; low: types mix",
    ),
    "answer_distance": (
        "answer dist.",
        "from a query to its right answer, features scaled to 0 to 1",
    ),
    "answer_distance_relative": (
        "... relative",
        "the same over that of two random queries; low: near",
    ),
    "type_auc": ("type AUC", "how well a linear probe tells the type; 0.5: not at all, 1: always"),
    "answer_share": (
        "answer share",
        "share of the variance of queries that is between answers; high is good",
    ),
    "type_share": (
        "type share",
        "share of the variance of queries that is between types; 0: types mix",
    ),
}


def space_tables(spaces: Mapping[str, Geometry]) -> list[tuple[str, Rows]]:
    """Make a table of the figures of each ranker, by name, and one of how to read them."""
    rows = [["ranker", *(column for column, _ in FIGURES.values())]]
    for name, space in spaces.items():
        values = (space.figures[key] for key in FIGURES)
        rows.append([name, *("-" if value is None else figure(value) for value in values)])
    readings = [["figure", "how to read it"], *map(list, FIGURES.values())]
    return [("The space of each ranker", rows), ("How to read each figure", readings)]


def draw_centroids(views: Mapping[str, View]) -> Figure:
    """Draw the views of rankers side by side: queries faint, centroids large, and joined."""
    planes = {name: (_make_traces(view), view.explained) for name, view in views.items()}
    return draw_planes(planes)


def _make_traces(view: View) -> list[Trace]:
    faint, large = list[Trace](), list[Trace]()
    for i, kind in enumerate(sorted(view.centroids["type"].unique())):
        symbol, name = SYMBOLS[i // len(COLOURS) % len(SYMBOLS)], hover_text(kind)
        look = {"color": COLOURS[i % len(COLOURS)], "symbol": symbol}
        points = view.queries.filter(type=kind).select("x", "y", hover=hover_of("text"))
        marker = {**look, "size": 4, "opacity": 0.35}
        faint.append((points, {"legendgroup": name, "marker": marker}))
        about = "<b>{}</b><br>{}, queries: {}; the nearest:<br>{}"
        hover = pl.format(about, hover_of("title"), pl.lit(name), "queries", hover_of("text"))
        points = view.centroids.filter(type=kind).select("x", "y", hover=hover)
        large.append((points, {"name": name, "marker": {**look, "size": 8, "opacity": 0.9}}))
    gap = pl.lit(None, pl.Float64)
    lines = (
        view.centroids.group_by("answer", maintain_order=True)
        .agg("x", "y")
        .filter(pl.col("x").list.len() > 1)
        .select(pl.concat_list("x", gap), pl.concat_list("y", gap))
        .explode("x", "y")
        .with_columns(hover=pl.lit(""))
    )
    line = {"color": GREY, "width": 0.7}
    return [*faint, (lines, {"mode": "lines", "line": line, "hoverinfo": "skip"}), *large]
