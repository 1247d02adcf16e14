"""The geometry of rankers as a table, the centroids of one as a figure, and both as a page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.table import Table
from rich.text import Text

from twinrank.evaluation import Geometry, View
from twinrank.files import write_file
from twinrank.reports.figures import COLOURS, FAINT, GREY, SYMBOLS, hover_text
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

_ROUNDED = pl.col("x", "y").round_sig_figs(4)  # finer than a pixel
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
    """A row a ranker, its figures in columns; a dash where one is undefined.

    Args:
        rows: the name of each ranker, and its geometry; all of one split.
    """
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
    """Write a page with the table, how to read it, and the centroids of each ranker.

    Args:
        page_path: the HTML file.
        spaces: as `geometry_table` takes them.
        views: of each ranker, as `centroid_views` gives them.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    first = spaces[0][1]
    about = f"{first.queries:,} {first.split} queries; {first.paired:,} answers with several types."
    drawn = [Section(n, figures=[(centroid_figure(n, three), READING)]) for n, three in views]
    figures = Section("In figures", [about], tables=space_tables(spaces))
    write_file(page_path, page(f"The space of {first.data}", [figures, *drawn]))


def space_tables(spaces: Sequence[tuple[str, Geometry]]) -> list[tuple[str, Rows]]:
    """The figures of each ranker for a page, and how to read them."""
    names = {key: name.replace("-\n", "").replace("\n", " ") for key, name in COLUMNS.items()}
    rows = [["ranker", *names.values()], *([name, *_cells(space)] for name, space in spaces)]
    readings = [["figure", "how to read it"], *([names[key], READINGS[key]] for key in names)]
    return [("The space of each ranker", rows), ("How to read each figure", readings)]


def centroid_figure(name: str, views: Sequence[View]) -> Figure:
    """The views side by side: queries faint, centroids large, those of one answer joined.

    Args:
        name: of the ranker.
        views: as `centroid_views` gives them.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    check_installed()
    from plotly.subplots import make_subplots

    plot = make_subplots(rows=1, cols=len(views), subplot_titles=[view.name for view in views])
    for place, view in enumerate(views, start=1):
        for trace in _traces(view, legend=place == 1):
            plot.add_trace(trace, row=1, col=place)
        axis = {"showgrid": True, "gridcolor": FAINT, "zeroline": False, "showticklabels": False}
        one, two = (f"axis {i}: {e:.0%} of variance" for i, e in enumerate(view.explained, 1))
        across = f"x{place}" if place > 1 else "x"
        plot.update_xaxes(title_text=one, **axis, row=1, col=place)
        plot.update_yaxes(title_text=two, **axis, scaleanchor=across, row=1, col=place)
    plot.update_layout(
        template="none",
        title={"text": html.escape(name, quote=False), "x": 0, "xref": "paper"},
        height=540,
        margin={"l": 50, "r": 20, "t": 80, "b": 80},
        font={"color": GREY},  # read on light and on dark pages
        **dict.fromkeys(("paper_bgcolor", "plot_bgcolor"), "rgba(0,0,0,0)"),
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        hoverlabel={"align": "left"},
    )
    return plot


def _cells(geometry: Geometry) -> list[str]:
    values = [geometry.figures[column] for column in COLUMNS]
    return ["-" if value is None else figure(value) for value in values]


def _traces(view: View, *, legend: bool) -> list[Any]:
    from plotly.graph_objects import Scatter

    queries, centroids = [], []
    for i, kind in enumerate(sorted(view.centroids["type"].unique())):
        colour = COLOURS[i % len(COLOURS)]
        look = {"color": colour, "symbol": SYMBOLS[i // len(COLOURS) % len(SYMBOLS)]}
        common = {"mode": "markers", "hoverinfo": "text", "name": hover_text(kind)}
        common |= {"legendgroup": kind}
        own = view.queries.filter(pl.col("type") == kind)
        faint = {**look, "size": 4, "opacity": 0.35}
        texts = [hover_text(text) for text in own["text"]]
        spots = own.select(_ROUNDED).to_dict(as_series=False)
        queries.append(Scatter(**spots, **common, hovertext=texts, marker=faint, showlegend=False))
        own = view.centroids.filter(pl.col("type") == kind)
        texts = [_about(row) for row in own.iter_rows(named=True)]
        spots = own.select(_ROUNDED).to_dict(as_series=False)
        large = {**look, "size": 8, "opacity": 0.9}
        centroids.append(
            Scatter(**spots, **common, hovertext=texts, marker=large, showlegend=legend)
        )
    return [*queries, _lines(view.centroids), *centroids]


def _about(row: dict[str, Any]) -> str:
    count = f"{row['queries']:,} quer{'y' if row['queries'] == 1 else 'ies'}"
    head = f"<b>{hover_text(row['title'])}</b><br>{hover_text(row['type'])}, {count}; the nearest:"
    return f"{head}<br>{hover_text(row['text'])}"


def _lines(centroids: pl.DataFrame) -> Any:  # noqa: ANN401 (plotly has no types)
    """One trace that joins the centroids of each answer."""
    from plotly.graph_objects import Scatter

    spots: list[tuple[float | None, float | None]] = []
    for (_,), own in centroids.group_by("answer", maintain_order=True):
        spots += [*own.select(_ROUNDED).iter_rows(), (None, None)] if own.height > 1 else []
    x, y = zip(*spots, strict=True) if spots else ((), ())
    line = {"color": GREY, "width": 0.7}
    return Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
