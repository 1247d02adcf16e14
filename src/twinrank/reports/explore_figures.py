"""Figures of what can be counted: types, answers, lengths."""

from __future__ import annotations

import numpy as np
import polars as pl
from plotly.graph_objects import Figure, Scatter

from twinrank.exploration import Exploration
from twinrank.reports.explore_drawing import bar, categories, dash, plain, short, upright
from twinrank.reports.figures import COLOURS, hover_text

TOP = 20  # answers with a bar
STEPS = 200  # points of a curve


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
        plot.add_trace(bar(counts, names, texts, kind, COLOURS[i % len(COLOURS)]))
    plot.update_layout(barmode="stack")
    plain(plot, 140 + 45 * len(names))
    plot.update_xaxes(title_text="queries")
    return categories(plot)


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
    plain(plot)
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
        plot.add_trace(bar(own, ids, texts, kind, COLOURS[i % len(COLOURS)]))
    plot.update_layout(barmode="stack")
    plain(plot, 170 + 24 * len(ids))
    plot.update_xaxes(title_text="labels")
    shown = [hover_text(short(titles[answer])) for answer in ids]
    plot.update_yaxes(tickmode="array", tickvals=list(range(len(ids))), ticktext=shown)
    return categories(plot)


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
        line = {"color": COLOURS[i % len(COLOURS)], "width": 2.5, "dash": dash(i)}
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
    plain(plot)
    plot.update_xaxes(title_text="tokens", type="log", dtick="D2")
    plot.update_yaxes(title_text="share of the texts", range=[0, 1.02], tickformat=".0%")
    upright(plot, found.max_tokens, f"the limit, {found.max_tokens}")
    return plot
