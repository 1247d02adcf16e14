"""The figures of an exploration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from plotly.graph_objects import Bar, Figure, Scatter

from twinrank.exploration import Exploration
from twinrank.exploration.near import RELATIONS
from twinrank.exploration.twins import NEAR
from twinrank.report.drawing import panels, styled
from twinrank.report.geometry import COLOURS, FAINT, GREY, SYMBOLS, hover_text

SHOWN = 1_200  # queries in the plane, each with its text
TOP = 20  # answers with a bar
NAMED = len(COLOURS)  # answers with a colour
STEPS = 200  # points of a curve
FEWEST_PAIRS = 10  # of a bin that is shown
TITLE = 42  # characters of a title on an axis or in a legend

RELATION_COLOURS = dict(
    zip(RELATIONS, (COLOURS[4], COLOURS[0], COLOURS[5], GREY, "#b0b0b0"), strict=True)
)


def splits_figure(found: Exploration) -> Figure:
    """How many queries of each type each split has."""
    splits = found.description.splits
    names = list(splits)
    plot = Figure()
    for i, kind in enumerate(found.lengths.types):
        parts = [splits[name]["types"][kind] for name in names]
        texts = [
            f"{name}: {part['count']:,} {hover_text(kind)}, {part['share']:.0%}"
            for name, part in zip(names, parts, strict=True)
        ]
        counts = [part["count"] for part in parts]
        plot.add_trace(_bar(counts, names, texts, kind, COLOURS[i % len(COLOURS)]))
    plot.update_layout(barmode="stack")
    _styled(plot, 140 + 45 * len(names))
    plot.update_xaxes(title_text="queries")
    return _categories(plot)


def popularity_figure(found: Exploration) -> Figure:
    """How few answers have how many of the labels."""
    ranked = found.popularity
    steps = np.geomspace(1, ranked.height, STEPS).round().astype(int)
    places = np.unique(steps) - 1
    rows = ranked[places]
    texts = [
        f"<b>{hover_text(row['title'])}</b><br>rank {place + 1:,}, {row['queries']:,} labels; "
        f"with those before it {row['share']:.0%}"
        for place, row in zip(places, rows.iter_rows(named=True), strict=True)
    ]
    plot = Figure()
    line = {"color": COLOURS[0], "width": 2.5}
    x, y = (places + 1).tolist(), rows["share"].round(4).to_list()
    plot.add_trace(Scatter(x=x, y=y, line=line, mode="lines", hovertext=texts, hoverinfo="text"))
    _styled(plot)
    plot.update_xaxes(title_text="answers, the commonest first", type="log", dtick=1)
    plot.update_yaxes(title_text="share of all labels", range=[0, 1.02], tickformat=".0%")
    return plot


def commonest_figure(found: Exploration) -> Figure:
    """The commonest answers, with their queries of each type."""
    ranked = found.popularity.filter(pl.col("queries") > 0).head(TOP)
    ids = ranked["answer"].to_list()
    titles = dict(ranked.select("answer", "title").iter_rows())
    counts = {
        (answer, kind): count
        for answer, kind, count in found.answer_types.iter_rows()
        if answer in titles
    }
    plot = Figure()
    for i, kind in enumerate(found.lengths.types):
        own = [counts.get((answer, kind), 0) for answer in ids]
        texts = [
            f"<b>{hover_text(titles[answer])}</b><br>{count:,} {hover_text(kind)}"
            for answer, count in zip(ids, own, strict=True)
        ]
        plot.add_trace(_bar(own, ids, texts, kind, COLOURS[i % len(COLOURS)]))
    plot.update_layout(barmode="stack")
    _styled(plot, 170 + 24 * len(ids))
    plot.update_xaxes(title_text="labels")
    shown = [_short(titles[answer]) for answer in ids]
    plot.update_yaxes(tickmode="array", tickvals=list(range(len(ids))), ticktext=shown)
    return _categories(plot)


def lengths_figure(found: Exploration) -> Figure:
    """The share of each kind of text that is longer than so many tokens."""
    plot = Figure()
    rows = [(name, own) for name, own in found.lengths.rows() if len(own)]
    longest = max((int(own.max()) for _, own in rows), default=1)
    x = np.unique(np.geomspace(4, max(longest, 8), STEPS).round().astype(int))
    for i, (name, own) in enumerate(rows):
        over = 1 - np.searchsorted(np.sort(own), x, side="right") / len(own)
        texts = [
            f"{share:.1%} of {hover_text(name)}<br>are longer than {limit:,} tokens"
            for share, limit in zip(over, x, strict=True)
        ]
        line = {"color": COLOURS[i % len(COLOURS)], "width": 2.5, "dash": _dash(i)}
        plot.add_trace(
            Scatter(
                x=x.tolist(),
                y=over.round(4).tolist(),
                line=line,
                mode="lines",
                name=hover_text(name),
                hovertext=texts,
                hoverinfo="text",
            )
        )
    _styled(plot)
    plot.update_xaxes(title_text="tokens", type="log", dtick="D2")
    plot.update_yaxes(title_text="share of the texts", range=[0, 1.02], tickformat=".0%")
    _upright(plot, found.max_tokens, f"the limit, {found.max_tokens}")
    return plot


def kinship_figure(found: Exploration) -> Figure:
    """How near queries are, by how they are related."""
    kin = found.kinship
    plot = Figure()
    for i, (name, counts, mean) in enumerate(zip(RELATIONS, kin.counts, kin.means, strict=True)):
        if not counts.sum():
            continue
        share = counts / counts.sum()
        seen = np.flatnonzero(counts)
        rows = slice(max(seen[0] - 1, 0), seen[-1] + 2)
        texts = [
            f"{name}<br>{part:.1%} of {counts.sum():,} pairs have a cosine about {cosine:.2f}"
            f"<br>mean {mean:.2f}"
            for part, cosine in zip(share[rows], kin.bins[rows], strict=True)
        ]
        line = {"color": RELATION_COLOURS[name], "width": 2.5, "dash": _dash(i)}
        plot.add_trace(
            Scatter(
                x=kin.bins[rows].round(3).tolist(),
                y=share[rows].round(5).tolist(),
                line=line,
                mode="lines",
                name=f"{name} (mean {mean:.2f})",
                hovertext=texts,
                hoverinfo="text",
            )
        )
    _styled(plot)
    plot.update_xaxes(title_text="cosine")
    plot.update_yaxes(title_text="share of the pairs", tickformat=".0%", rangemode="tozero")
    return plot


def agreement_figure(found: Exploration) -> Figure:
    """How often two queries of different threads share a label, by how near they are."""
    pairs, same = found.kinship.agreement()
    kept = pairs >= FEWEST_PAIRS
    x, n = found.kinship.bins[kept], pairs[kept]
    share = same[kept] / n
    error = 1.96 * np.sqrt(share * (1 - share) / n)
    texts = [
        f"{part:.0%} of {count:,} pairs<br>with a cosine about {cosine:.2f} share a label"
        for part, count, cosine in zip(share, n, x, strict=True)
    ]
    plot = Figure()
    line = {"color": COLOURS[0], "width": 2}
    plot.add_trace(
        Scatter(
            x=x.round(3).tolist(),
            y=share.round(4).tolist(),
            error_y={"array": error.round(4).tolist(), "color": GREY, "thickness": 1},
            line=line,
            mode="lines+markers",
            hovertext=texts,
            hoverinfo="text",
        )
    )
    _styled(plot)
    plot.update_xaxes(title_text="cosine of two queries of different threads")
    plot.update_yaxes(title_text="pairs that share a label", range=[0, 1.02], tickformat=".0%")
    _upright(plot, NEAR, f"near twins, {NEAR}")
    return plot


def plane_figure(found: Exploration) -> Figure:
    """The raw features on their two main axes, by type and by answer."""
    spots, shares = found.plane
    rows = np.sort(np.random.default_rng(0).permutation(len(spots))[:SHOWN])
    frame, labels = found.sample.frame[rows], found.sample.labels[rows]
    answers = found.sample.answers
    first = np.array([own.indices[0] if own.nnz else -1 for own in labels], dtype=np.int64)
    titles = [answers["title"][int(column)] if column >= 0 else "no label" for column in first]
    texts = [
        f"<b>{hover_text(title)}</b><br>{hover_text(kind)}<br>{hover_text(text)}"
        for title, kind, text in zip(titles, frame["type"], frame["text"], strict=True)
    ]
    kinds = list(found.lengths.types)
    of_type = np.array([kinds.index(kind) for kind in frame["type"]], dtype=np.int64)
    commonest = [int(column) for column in _commonest(first[first >= 0])]
    of_answer = np.full(len(first), len(commonest))
    for i, column in enumerate(commonest):
        of_answer[first == column] = i
    plot = panels("by type", "by answer")
    spots = spots[rows].round(4)
    for i, kind in enumerate(kinds):
        look = {"color": COLOURS[i % NAMED], "symbol": SYMBOLS[i // NAMED % len(SYMBOLS)]}
        _cloud(plot, 1, spots, of_type == i, texts, hover_text(kind), {**look, "opacity": 0.6})
    rest = of_answer == len(commonest)
    _cloud(plot, 2, spots, rest, texts, "all other answers", {"color": GREY, "opacity": 0.25})
    for i, column in enumerate(commonest):
        name = hover_text(_short(answers["title"][column]))
        _cloud(plot, 2, spots, of_answer == i, texts, name, {"color": COLOURS[i], "opacity": 0.9})
    _styled(plot, 600)
    entries = max(len(kinds), len(commonest) + 1) + 1
    plot.update_layout(
        legend={"itemsizing": "constant", "traceorder": "grouped"}, margin={"b": 70 + 19 * entries}
    )
    axis = {"showgrid": True, "gridcolor": FAINT, "zeroline": False, "showticklabels": False}
    plot.update_xaxes(title_text=f"axis 1: {shares[0]:.0%} of the variance", **axis)
    plot.update_yaxes(title_text=f"axis 2: {shares[1]:.0%} of the variance", **axis)
    return plot


def words_figure(found: Exploration) -> Figure:
    """The words that mark each type, for at most four types."""
    kinds = found.words["type"].unique(maintain_order=True).to_list()[:4]
    plot = panels(*(hover_text(kind) for kind in kinds))
    for place, kind in enumerate(kinds, 1):
        rows = found.words.filter(pl.col("type") == kind).reverse()
        texts = [
            f"<b>{hover_text(row['word'])}</b>, z {row['z']:.1f}<br>{row['here']:.1f} in 10,000 "
            "words "
            f"here, {row['elsewhere']:.1f} elsewhere"
            for row in rows.iter_rows(named=True)
        ]
        words = [hover_text(word) for word in rows["word"]]
        bar = _bar(rows["z"].round(2).to_list(), words, texts, kind, COLOURS[(place - 1) % NAMED])
        bar.update(text=words, textposition="auto", textangle=0, showlegend=False)
        plot.add_trace(bar, row=1, col=place)
    _styled(plot, 430)
    plot.update_xaxes(title_text="z of the log-odds ratio", rangemode="tozero")
    plot.update_yaxes(type="category", showticklabels=False, showgrid=False)
    return plot


def _bar(x: Sequence[float], y: list[str], texts: list[str], name: str, colour: str) -> Bar:
    return Bar(
        x=list(x),
        y=y,
        orientation="h",
        name=hover_text(name),
        marker={"color": colour},
        hovertext=texts,
        hoverinfo="text",
    )


def _cloud(
    plot: Figure,
    place: int,
    spots: np.ndarray,
    chosen: np.ndarray,
    texts: list[str],
    name: str,
    look: dict[str, Any],
) -> None:
    if not chosen.any():
        return
    own = spots[chosen]
    plot.add_trace(
        Scatter(
            x=own[:, 0].tolist(),
            y=own[:, 1].tolist(),
            mode="markers",
            name=name,
            hovertext=[texts[i] for i in np.flatnonzero(chosen)],
            hoverinfo="text",
            marker={"size": 5, **look},
            legendgrouptitle={"text": ("", "by type", "by answer")[place]},
            legendgroup=str(place),
        ),
        row=1,
        col=place,
    )


def _commonest(columns: np.ndarray) -> np.ndarray:
    values, counts = np.unique(columns, return_counts=True)
    return values[np.argsort(-counts, kind="stable")][:NAMED]


def _styled(plot: Figure, height: int = 400) -> None:
    """The style of the house, without a title: the caption says what it is."""
    styled(plot, "", height=height)
    panels = len(list(plot.select_xaxes()))
    plot.update_layout(margin={"t": 60 if panels > 1 else 30}, legend={"traceorder": "normal"})


def _categories(plot: Figure) -> Figure:
    """Names on the axis as they are, from top to bottom, with room for them."""
    plot.update_yaxes(type="category", automargin=True, showgrid=False, autorange="reversed")
    return plot


def _upright(plot: Figure, x: float, text: str) -> None:
    """A line at x with its meaning; on a logarithmic axis a shape takes x, a text its logarithm."""
    log = plot.layout.xaxis.type == "log"
    plot.add_shape(
        type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": GREY, "dash": "dot"}
    )
    at = float(np.log10(x)) if log else x
    plot.add_annotation(x=at, y=1, yref="paper", text=text, showarrow=False, yanchor="bottom")


def _dash(i: int) -> str:
    """Lines differ in more than colour."""
    return ("solid", "dash", "dot", "dashdot", "longdash")[i % 5]


def _short(title: str) -> str:
    return title if len(title) <= TITLE else f"{title[: TITLE - 1]}…"
