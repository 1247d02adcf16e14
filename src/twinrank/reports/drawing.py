"""How the figures of a study look: one style, one colour a recipe, means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from twinrank.reports.figures import COLOURS, FAINT, GREY
from twinrank.reports.terminal import figure

Json = dict[str, Any]
Points = dict[int, float]  # by epoch
BLUE, ORANGE, GREEN, PURPLE, RED, SKY = COLOURS

# One tower, one colour, whatever is built on it; no two lines of a panel are alike.
RECIPE_COLOURS = {
    **dict.fromkeys(("handover-dual", "residual"), BLUE),
    **dict.fromkeys(("handover-barlow-inherit", "barlow-inherit"), ORANGE),
    **dict.fromkeys(("handover-barlow-zero-shot", "handover-barlow-freeze"), RED),
    **dict.fromkeys(("barlow-zero-shot", "barlow-freeze"), SKY),
    **dict.fromkeys(("control-across", "control-across-freeze"), GREEN),
    "barlow-joint": PURPLE,
}


def panels(*titles: str) -> Figure:
    """Empty panels side by side; a narrow page stacks them."""
    return make_subplots(rows=1, cols=len(titles), subplot_titles=titles)


def styled(plot: Figure, title: str, *, height: int = 450) -> Figure:
    """The figure in the style of the house, read on light and on dark pages."""
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


def points(curve: Json, name: str, *, relative: bool = False) -> Points:
    """What was recorded at each epoch; relative to the first that was, if asked."""
    recorded = zip(curve["epoch"], curve.get(name, ()), strict=False)
    found = {epoch: value for epoch, value in recorded if value is not None}
    first = next(iter(found.values()), 0) if relative else 1
    return {epoch: value / first for epoch, value in found.items()} if first else {}


def curves(
    plot: Figure, place: int, name: str, seeds: list[Points], *, legend: bool = True
) -> None:
    """Each seed faint, and their mean for as long as all of them go on."""
    look = {"mode": "lines", "legendgroup": name, "name": name}
    for seed in seeds:
        line = {"color": colour(name, 0.3), "width": 1}
        x, y = list(seed), list(seed.values())
        thin = Scatter(x=x, y=y, line=line, hoverinfo="skip", showlegend=False, **look)
        plot.add_trace(thin, row=1, col=place)
    shared = [epoch for epoch in (seeds[0] if seeds else ()) if all(epoch in s for s in seeds)]
    means = [fmean(seed[epoch] for seed in seeds) for epoch in shared]
    texts = [
        f"<b>{name}</b>, epoch {e}<br>{figure(v)}, mean over {len(seeds)} seed(s)"
        for e, v in zip(shared, means, strict=True)
    ]
    line = {"color": colour(name), "width": 2.5}
    thick = Scatter(
        x=shared, y=means, line=line, hovertext=texts, hoverinfo="text", showlegend=legend, **look
    )
    plot.add_trace(thick, row=1, col=place)


def colour(name: str, opacity: float = 1) -> str:
    """A recipe's colour; grey for one that has none of its own."""
    red, green, blue = bytes.fromhex(RECIPE_COLOURS.get(name, GREY)[1:])
    return f"rgba({red},{green},{blue},{opacity})"


def bars(values: Sequence[float], bounds: Sequence[Sequence[float] | None]) -> Json:
    """Error bars that end where the intervals do."""
    around = [b or (v, v) for v, b in zip(values, bounds, strict=True)]
    return {
        "array": [high - v for v, (_, high) in zip(values, around, strict=True)],
        "arrayminus": [v - low for v, (low, _) in zip(values, around, strict=True)],
        "color": GREY,
        "thickness": 1.5,
    }


def text_positions(x: Sequence[float], y: Sequence[float], names: Sequence[str]) -> list[str]:
    """A side for the name of each point on which it covers as few others as possible."""
    left, wide, high = (
        min(x, default=0),
        max(x, default=0) - min(x, default=0) or 1,
        max(y, default=0) or 1,
    )
    spots = [(800 * (a - left) / wide, 420 * b / high) for a, b in zip(x, y, strict=True)]
    taken = [(a - 6, b - 6, a + 6, b + 6) for a, b in spots]  # pixels of a middling screen
    taken += [(-2e3, -2e3, -40, 2e3), (960, -2e3, 3e3, 2e3)]  # beside the figure
    chosen = []
    for (a, b), name in zip(spots, names, strict=True):
        length = 6.2 * len(name)
        boxes = {
            "middle left": (a - 10 - length, b - 8, a - 10, b + 8),
            "middle right": (a + 10, b - 8, a + 10 + length, b + 8),
            "top center": (a - length / 2, b + 8, a + length / 2, b + 22),
            "bottom center": (a - length / 2, b - 22, a + length / 2, b - 8),
            "top left": (a - length, b + 8, a, b + 22),
            "bottom left": (a - length, b - 22, a, b - 8),
            "top right": (a, b + 8, a + length, b + 22),
            "bottom right": (a, b - 22, a + length, b - 8),
        }
        crossed = {side: sum(_cross(box, other) for other in taken) for side, box in boxes.items()}
        side = min(crossed, key=lambda side: crossed[side])
        taken.append(boxes[side])
        chosen.append(side)
    return chosen


def _cross(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
