"""How the figures of an exploration look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from plotly.graph_objects import Bar, Figure

from twinrank.reports.figures import GREY, hover_text, styled

TITLE = 42  # characters of a title on an axis or in a legend


def plain(plot: Figure, height: int = 400) -> None:
    """The style of the house, without a title: the caption says what it is."""
    styled(plot, "", height=height)
    panels = len(list(plot.select_xaxes()))
    plot.update_layout(margin={"t": 60 if panels > 1 else 30}, legend={"traceorder": "normal"})


def bar(x: Sequence[float], y: list[str], texts: list[str], name: str, colour: str) -> Bar:
    """Horizontal bars of one colour, with a text each on hovering."""
    return Bar(
        x=list(x),
        y=y,
        orientation="h",
        name=hover_text(name),
        marker={"color": colour},
        hovertext=texts,
        hoverinfo="text",
    )


def categories(plot: Figure) -> Figure:
    """Names on the axis as they are, from top to bottom, with room for them."""
    plot.update_yaxes(type="category", automargin=True, showgrid=False, autorange="reversed")
    return plot


def upright(plot: Figure, x: float, text: str) -> None:
    """A line at x with its meaning; on a logarithmic axis a shape takes x, a text its logarithm."""
    log = plot.layout.xaxis.type == "log"
    plot.add_shape(
        type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": GREY, "dash": "dot"}
    )
    at = float(np.log10(x)) if log else x
    plot.add_annotation(x=at, y=1, yref="paper", text=text, showarrow=False, yanchor="bottom")


def dash(i: int) -> str:
    """Lines differ in more than colour."""
    return ("solid", "dash", "dot", "dashdot", "longdash")[i % 5]


def short(title: str) -> str:
    """A title that fits on an axis or in a legend."""
    return title if len(title) <= TITLE else f"{title[: TITLE - 1]}…"
