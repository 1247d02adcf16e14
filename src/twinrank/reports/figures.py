"""The look of every figure: colours, symbols, one style, and rows drawn by plotly express."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Json = dict[str, Any]

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


def panels(*titles: str) -> Figure:
    """Make empty panels side by side; a narrow page stacks them."""
    from plotly.subplots import make_subplots

    return make_subplots(rows=1, cols=len(titles), subplot_titles=titles)


def styled(plot: Figure, title: str, *, height: int = 450) -> Figure:
    """Give a figure the one style, which is read on light and on dark pages."""
    plot.update_layout(
        template="none",
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 16}},
        height=height,
        margin={"l": 70, "r": 20, "t": 80, "b": 80},
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
    frame = frame.with_columns(pl.col(labels).map_elements(hover_text, return_dtype=pl.String))
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
