"""Figures of what the encoder sees: nearness, the raw features, words."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from plotly.graph_objects import Figure, Scatter

from twinrank.exploration import Exploration
from twinrank.exploration.near import RELATIONS
from twinrank.exploration.twins import NEAR
from twinrank.reports.explore_drawing import bar, dash, plain, short, upright
from twinrank.reports.figures import COLOURS, FAINT, GREY, SYMBOLS, hover_text, panels

SHOWN = 1_200  # queries in the plane, each with its text
NAMED = len(COLOURS)  # answers with a colour
FEWEST_PAIRS = 10  # of a bin that is shown

RELATION_COLOURS = dict(
    zip(RELATIONS, (COLOURS[4], COLOURS[0], COLOURS[5], GREY, "#b0b0b0"), strict=True)
)


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
        line = {"color": RELATION_COLOURS[name], "width": 2.5, "dash": dash(i)}
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
    plain(plot)
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
    plain(plot)
    plot.update_xaxes(title_text="cosine of two queries of different threads")
    plot.update_yaxes(title_text="pairs that share a label", range=[0, 1.02], tickformat=".0%")
    upright(plot, NEAR, f"near twins, {NEAR}")
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
        name = hover_text(short(answers["title"][column]))
        _cloud(plot, 2, spots, of_answer == i, texts, name, {"color": COLOURS[i], "opacity": 0.9})
    plain(plot, 600)
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
        bars = bar(rows["z"].round(2).to_list(), words, texts, kind, COLOURS[(place - 1) % NAMED])
        bars.update(text=words, textposition="auto", textangle=0, showlegend=False)
        plot.add_trace(bars, row=1, col=place)
    plain(plot, 430)
    plot.update_xaxes(title_text="z of the log-odds ratio", rangemode="tozero")
    plot.update_yaxes(type="category", showticklabels=False, showgrid=False)
    return plot


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
