"""The figures of a report of runs; several runs share one, a colour each."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from plotly.graph_objects import Figure, Scatter

from twinrank.evaluation import coverage_curve, reliability
from twinrank.experiments import Run
from twinrank.reports.drawing import GREEN, PURPLE, bars, panels, styled
from twinrank.reports.figures import COLOURS, GREY, SYMBOLS, hover_text
from twinrank.reports.run_tables import DRAWN, example, metric_name, titles_of
from twinrank.reports.terminal import figure, interval

Json = dict[str, Any]
CURVE = 200  # points of a curve at most
LABEL_WIDTH = 30  # characters of a line beside a bar

METRICS_SHOWN = ("accuracy@3", "map@10")
DIRECTIONS = (GREEN, PURPLE)  # no type's, where there are two
TICKS = 8  # on an axis of counts, at most


def quality_figure(runs: Sequence[Run]) -> Figure:
    """Top-3 accuracy and MAP@10 with their intervals, overall and by type."""
    plot = panels(*(metric_name(metric) for metric in METRICS_SHOWN))
    for i, run in enumerate(runs):
        found = run.evaluation
        groups = {"overall": found.overall, **found.types}
        counts = {"overall": found.counts["overall"], **found.counts["types"]}
        around = {"overall": found.intervals["overall"], **found.intervals["types"]}
        for place, metric in enumerate(METRICS_SHOWN, start=1):
            values = [figures[metric] for figures in groups.values()]
            bounds = [around[name][metric] for name in groups]
            texts = [
                f"<b>{hover_text(run.name)}</b>, {hover_text(name)}<br>"
                f"{metric_name(metric)} {figure(v)} ({interval(b)}), {counts[name]:,} queries"
                for name, v, b in zip(groups, values, bounds, strict=True)
            ]
            marks = Scatter(
                x=[hover_text(name) for name in groups],
                y=values,
                error_y=bars(values, bounds),
                mode="markers",
                marker={"size": 10, **_look(i)},
                **_named(run.name, legend=place == 1 and len(runs) > 1),
                hovertext=texts,
                hoverinfo="text",
            )
            plot.add_trace(marks, row=1, col=place)
    plot.update_yaxes(rangemode="tozero")
    plot.update_yaxes(matches="y", col=2)
    plot.update_layout(scattermode="group", scattergap=0.5)
    return styled(plot, "Quality, with 95 % intervals")


def calibration_figure(runs: Sequence[Run]) -> Figure:
    """How true confidence is, and what silence gains; a line a run, or each type of one.

    Args:
        runs: those that know their confidence.
    """
    plot = panels("how true it is", "what silence gains")
    even = Scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": GREY, "dash": "dot", "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    plot.add_trace(even, row=1, col=1)
    if len(runs) == 1:
        rows, types = runs[0].evaluation.per_query, runs[0].evaluation.types
        for i, kind in enumerate(types if len(types) > 1 else ()):
            own = rows.filter(pl.col("type") == kind)
            plot.add_trace(_reliability(kind, own, _look(i), mode="markers"), row=1, col=1)
            plot.add_trace(_coverage(kind, own, _look(i)), row=1, col=2)
        looks = {"overall": (rows, {"color": GREY})}
    else:
        looks = {run.name: (run.evaluation.per_query, _look(i)) for i, run in enumerate(runs)}
    for name, (rows, look) in looks.items():
        diagram = _reliability(name, rows, look, around=len(runs) == 1)
        plot.add_trace(diagram, row=1, col=1)
        plot.add_trace(_coverage(name, rows, look), row=1, col=2)
    plot.update_xaxes(title_text="confidence", range=[-0.03, 1.03], col=1)
    plot.update_yaxes(title_text="right first", range=[-0.03, 1.03])
    plot.update_xaxes(title_text="share of queries answered", range=[-0.03, 1.03], col=2)
    return styled(plot, "Confidence", height=500)


def confusion_figure(run: Run, pairs: Sequence[Json]) -> Figure:
    """Pairs of answers by how often they are mistaken for each other, in both directions."""
    titles = titles_of(run)
    plot = Figure()
    names = [
        f"{_short(titles[pair['one']])} /<br>{_short(titles[pair['other']])}" for pair in pairs
    ]
    places = list(range(len(pairs)))
    for i, (side, right, given) in enumerate(
        (("other_for_one", "one", "other"), ("one_for_other", "other", "one"))
    ):
        texts = [
            f"right: <b>{hover_text(titles[pair[right]])}</b><br>"
            f"given: <b>{hover_text(titles[pair[given]])}</b><br>{pair[side]:,} of the pair's "
            f"{pair['misses']:,} misses; for instance:<br>{hover_text(example(run, pair))}"
            for pair in pairs
        ]
        plot.add_bar(
            orientation="h",
            x=[pair[side] for pair in pairs],
            y=places,
            marker={"color": DIRECTIONS[i]},
            name=("the second given for the first", "the first given for the second")[i],
            hovertext=texts,
            hoverinfo="text",
        )
    plot.update_layout(barmode="stack")
    plot.update_yaxes(
        tickvals=places, ticktext=names, autorange="reversed", automargin=True, tickfont_size=11
    )
    step = -(-max(pair["misses"] for pair in pairs) // TICKS)
    plot.update_xaxes(title_text="queries", rangemode="tozero", dtick=step)
    return styled(plot, "Pairs of answers", height=190 + 38 * len(pairs))


def misses_figure(run: Run) -> Figure:
    """Every miss: how far down the right answer is, and how sure the ranker was of another."""
    misses = run.mistakes.misses
    drawn = misses.sample(min(DRAWN, misses.height), seed=0)
    sure = "confidence" in misses.columns
    titles = titles_of(run)
    plot = Figure()
    for i, kind in enumerate(run.evaluation.types):
        own = drawn.filter(pl.col("type") == kind)
        texts = [
            f"right: <b>{hover_text(titles[miss['right']])}</b>, rank {miss['rank']:,}<br>"
            f"given: <b>{hover_text(titles[miss['first']])}</b><br>{hover_text(miss['text'])}"
            for miss in own.to_dicts()
        ]
        plot.add_scatter(
            x=own["confidence" if sure else "loss"].round_sig_figs(4).to_list(),
            y=own["rank"].to_list(),
            mode="markers",
            marker={"size": 7, "opacity": 0.7, **_look(i)},
            name=hover_text(kind),
            hovertext=texts,
            hoverinfo="text",
        )
    plot.update_xaxes(title_text="confidence in the wrong answer" if sure else "loss")
    ticks = [m * 10**power for power in range(8) for m in (1, 2, 5)]
    plot.update_yaxes(title_text="rank of the right answer", type="log", tickvals=ticks)
    return styled(plot, "Misses")


def _reliability(
    name: str, rows: pl.DataFrame, look: Json, *, mode: str = "lines+markers", around: bool = False
) -> Scatter:
    """The reliability diagram of some queries; around: with intervals."""
    bins = reliability(rows["confidence"].to_numpy(), rows["accuracy@1"].to_numpy() > 0)
    accuracy = [b.accuracy for b in bins]
    texts = [
        f"<b>{hover_text(name)}</b>, {b.queries:,} queries<br>confidence {figure(b.confidence)}, "
        f"right first {figure(b.accuracy)} ({interval(b.interval)})"
        for b in bins
    ]
    sizes = [6 + 20 * (b.queries / rows.height) ** 0.5 for b in bins]
    whiskers = bars(accuracy, [b.interval for b in bins]) | {"color": look["color"], "width": 0}
    return Scatter(
        x=[round(b.confidence, 4) for b in bins],
        y=accuracy,
        error_y=whiskers if around else None,
        mode=mode,
        line={"color": look["color"], "width": 1.5},
        marker={**look, "size": sizes, "opacity": 0.8},
        hovertext=texts,
        hoverinfo="text",
        **_named(name, legend=True),
    )


def _coverage(name: str, rows: pl.DataFrame, look: Json) -> Scatter:
    """Accuracy of what is answered, by the share of queries that is."""
    curve = coverage_curve(rows["confidence"].to_numpy(), rows["accuracy@1"].to_numpy() > 0)
    some = np.unique(np.linspace(0, len(curve) - 1, CURVE).round().astype(int))
    points = [(p, p.accuracy or 0.0) for p in (curve[place] for place in some)]
    texts = [
        f"<b>{hover_text(name)}</b><br>silent below {figure(p.min_confidence)}: {p.coverage:.0%} "
        f"answered,<br>{figure(accuracy)} of them right first"
        for p, accuracy in points
    ]
    return Scatter(
        x=[round(p.coverage, 4) for p, _ in points],
        y=[round(accuracy, 4) for _, accuracy in points],
        mode="lines",
        line={"color": look["color"], "width": 2},
        hovertext=texts,
        hoverinfo="text",
        **_named(name, legend=False),
    )


def _named(name: str, *, legend: bool) -> Json:
    return {"name": hover_text(name), "legendgroup": name, "showlegend": legend}


def _look(i: int) -> Json:
    symbol = SYMBOLS[i // len(COLOURS) % len(SYMBOLS)]
    return {"color": COLOURS[i % len(COLOURS)], "symbol": symbol}


def _short(title: str) -> str:
    cut = title if len(title) <= LABEL_WIDTH else title[: LABEL_WIDTH - 1].rstrip() + "…"
    return html.escape(cut, quote=False)
