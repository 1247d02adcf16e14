"""The look of every figure: colours, symbols, one style, and rows drawn by plotly express."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Json = dict[str, Any]
Trace = tuple[pl.DataFrame, Json]  # points (x, y, hover) and their look
Plane = tuple[Sequence[Trace], Iterable[float]]  # with the variance share of each axis

# Okabe and Ito's colours that show on white and on black, the most different first.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
BLUE, ORANGE, GREEN, PURPLE, RED, SKY = COLOURS
SYMBOLS = ("circle", "diamond", "square", "cross")  # the next where the colours are used up
GREY, FAINT = "#808080", "rgba(128,128,128,0.25)"
PANEL_GAP = 0.07  # of a figure's width, for the figures on the next panel's axis
HOVER_WIDTH, HOVER_LENGTH = 60, 300  # characters


def hover_text(text: str) -> str:
    """Wrap a text for hovering, cut it with an ellipsis if long, and make it harmless as HTML."""
    words = " ".join(text.split())
    if len(words) > HOVER_LENGTH:
        words = words[: HOVER_LENGTH - 1] + "…"
    lines = textwrap.wrap(words, HOVER_WIDTH)
    # plotly knows &lt; &gt; and &amp; but shows &quot; as it is.
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def hover_of(column: str) -> pl.Expr:
    """Make the texts of a column harmless for hovering, see `hover_text`."""
    return pl.col(column).map_elements(hover_text, return_dtype=pl.String)


def draw_planes(planes: Mapping[str, Plane]) -> Figure:
    """Draw planes side by side, by name: the traces of each, and how much each axis explains.

    A trace with a `name` is in the legend, once, and hides all of its `legendgroup`.
    """
    from plotly.subplots import make_subplots

    plot = make_subplots(rows=1, cols=len(planes), subplot_titles=[hover_text(n) for n in planes])
    listed: set[str | None] = {None}
    for column, (traces, shares) in enumerate(planes.values(), start=1):
        for points, look in traces:
            rounded = points.select(pl.col("x", "y").round_sig_figs(4))  # no finer than a pixel
            trace: Json = {
                **rounded.to_dict(as_series=False),
                "hovertext": points["hover"].to_list(),
            }
            name = look.get("name")
            trace |= {"mode": "markers", "hoverinfo": "text", "legendgroup": name, **look}
            plot.add_scatter(**trace, showlegend=name not in listed, row=1, col=column)
            listed.add(name)
        across, upward = (f"axis {i}: {share:.0%} of variance" for i, share in enumerate(shares, 1))
        plot.update_xaxes(title_text=across, zeroline=False, row=1, col=column)
        anchor = f"x{column}" if column > 1 else "x"
        plot.update_yaxes(title_text=upward, zeroline=False, scaleanchor=anchor, row=1, col=column)
    return styled(plot, height=500)


def styled(plot: Figure, *, height: int = 410) -> Figure:
    """Give a figure the one style, which is read on light and on dark pages."""
    plot.update_layout(
        template="none",
        title=None,  # the section has one
        height=height,
        margin={"l": 70, "r": 20, "t": 40, "b": 80},
        font={"color": GREY},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        hoverlabel={"align": "left"},
    )
    plot.update_xaxes(gridcolor=FAINT, zerolinecolor=FAINT, title_standoff=10)
    plot.update_yaxes(gridcolor=FAINT, zerolinecolor=FAINT)
    return plot


def draw(
    chart: Callable[..., Figure],
    rows: Sequence[Json] | pl.DataFrame,
    *,
    interval: Literal["x", "y"] | None = None,
    **options: Any,  # noqa: ANN401 (plotly has no types)
) -> Figure:
    """Draw rows: a trace for each `name`, in the panel `panel` if there is that column.

    Args:
        chart: `scatter`, `line` or `bar` of plotly express.
        rows: at least one; columns `x`, `y`, `name` and `hover`, the text shown on hovering, in
            which what people wrote has been made harmless by `hover_text`.
        interval: the axis of the error bars from column `low` to column `high`; a null has none.
        options: of the chart, over the defaults.
    """
    frame = pl.DataFrame(rows, infer_schema_length=None)
    labels = [column for column in ("name", "panel") if column in frame.columns]
    frame = frame.with_columns(map(hover_of, labels))
    look: Json = {"x": "x", "y": "y", "color": "name", "hover_name": "hover"}
    look |= {"color_discrete_sequence": COLOURS, "labels": {"name": ""}}
    if "panel" in labels:
        look |= {"facet_col": "panel", "facet_col_spacing": PANEL_GAP}
    if chart.__name__ == "scatter":  # as many looks as there are pairs of a symbol and a colour
        look |= {"symbol": "name", "symbol_sequence": [s for s in SYMBOLS for _ in COLOURS]}
    if interval:
        middle = pl.col(interval)
        frame = frame.with_columns(above=pl.col("high") - middle, below=middle - pl.col("low"))
        look |= {f"error_{interval}": "above", f"error_{interval}_minus": "below"}
    plot = chart(frame, **look | options)
    plot.update_traces(hovertemplate=None, hoverinfo="text")
    if interval:
        plot.update_traces({f"error_{interval}": {"color": GREY, "thickness": 1.5}})
    plot.for_each_annotation(lambda note: note.update(text=note.text.removeprefix("panel=")))
    plot.update_xaxes(title_text=None, matches=None)
    plot.update_yaxes(title_text=None, matches=None, showticklabels=True)
    return plot
