"""The figures of the handover's study, each drawn of the values in results.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from statistics import fmean
from typing import Any

import polars as pl
from plotly import express
from plotly.graph_objects import Figure

from twinrank.evaluation import Signs
from twinrank.reports.figures import (
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    draw,
    hover_text,
    panels,
    styled,
)
from twinrank.reports.study_findings import (
    ACROSS,
    BATCHES,
    MAP_10,
    PUBLISHED,
    TOP_3,
    arms_of,
    describe_batches,
    judge_pretraining,
    pretrained_arms,
)
from twinrank.reports.terminal import metric_name, reached

Json = dict[str, Any]

OUTCOME_COLOURS = {"collapsed": RED, "worse": ORANGE, "whole": GREEN, "not pre-trained": GREY}
LOSSES = {
    PUBLISHED: RED,
    "control-large-answers": ORANGE,
    "control-shuffled": PURPLE,
    "control-small-batches": SKY,
    ACROSS: GREEN,
}
STRETCHES = 60  # of the steps, each averaged to a point of the figure


def draw_figures(results: Json) -> dict[str, dict[str, Figure]]:
    """Draw the figures under each heading of the page, each by the name of its caption.

    A figure of which the results hold nothing is left out.
    """
    figures: dict[str, dict[str, Callable[[Json], Figure | None]]] = {
        "In short": {"losses_figure": draw_losses},
        "The controls": {"controls_figure": draw_controls},
        "With fewer labels": {"labels_figure": draw_labels},
    }
    return {
        heading: {name: plot for name, make in of.items() if (plot := make(results))}
        for heading, of in figures.items()
    }


def draw_controls(results: Json) -> Figure | None:
    """Draw top-3 accuracy of what ranks right after pre-training, in the order of the story."""
    arms = arms_of(results)
    shown = [arms[name] for name in BATCHES if name in arms]
    labels = [_wrap(describe_batches(arm)) for arm in shown]
    rows = []
    for arm, label in zip(shown, labels, strict=True):
        low, high = arm["intervals"]["overall"][TOP_3] or (None, None)
        outcome = judge_pretraining(arm["name"], arms) or "not pre-trained"
        row = {"name": outcome, "x": arm["overall"][TOP_3], "y": label, "low": low, "high": high}
        rows.append({**row, "hover": _describe_arm(arm)})
    if not rows:
        return None
    colours = {"color_discrete_map": OUTCOME_COLOURS}
    plot = draw(express.bar, rows, interval="x", orientation="h", **colours)
    plot.update_yaxes(categoryorder="array", categoryarray=labels[::-1], automargin=True)
    plot.update_xaxes(title_text="test top-3 accuracy", rangemode="tozero")
    return styled(plot, "Ranking right after pre-training", height=150 + 52 * len(rows))


def draw_losses(results: Json) -> Figure | None:
    """Draw the loss of pre-training by step; dotted, what random partners are expected to give."""
    rows, dotted = [], []
    for arm in pretrained_arms(results):
        if arm["name"] not in LOSSES or "projector" in arm["recipe"]["pretraining"]:
            continue
        name = describe_batches(arm)
        for step, loss in _average_stretches(arm["losses"]):
            hover = f"<b>{arm['name']}</b>, step {step:,}<br>loss {loss:,.1f}"
            rows.append({"name": name, "x": step, "y": loss, "hover": hover})
        if expected := arm["expected_loss"]:
            hover = f"<b>{arm['name']}</b><br>random partners: {expected:,.1f}"
            ends = (0, arm["steps"])
            dotted += [{"name": name, "x": x, "y": expected, "hover": hover} for x in ends]
    if not rows:
        return None
    names = {describe_batches(arm): arm["name"] for arm in pretrained_arms(results)}
    colours = {label: LOSSES[name] for label, name in names.items() if name in LOSSES}
    plot = draw(express.line, rows, color_discrete_map=colours).update_traces(line_width=2.5)
    if dotted:
        lines = draw(express.line, dotted, color_discrete_map=colours)
        lines.update_traces(line={"dash": "dot", "width": 2}, showlegend=False)
        plot.add_traces(lines.data)
    plot.update_xaxes(title_text="step of pre-training")
    plot.update_yaxes(title_text="Barlow Twins loss", rangemode="tozero")
    return styled(plot, "The loss, and the constant that is predicted", height=520)


def _average_stretches(seeds: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """Average losses over seeds and stretches of steps; a point at the middle of each stretch."""
    steps = min(map(len, seeds))
    length = max(1, steps // STRETCHES)
    return [
        (first + length // 2 + 1, fmean(x for seed in seeds for x in seed[first : first + length]))
        for first in range(0, steps, length)
    ]


def draw_planes(pictured: Mapping[str, Signs]) -> Figure | None:
    """Draw queries and answers on the two main axes of the queries, a panel a recipe.

    The commonest first answers stand out, and tell their titles.
    """
    if not pictured:
        return None
    plot = panels(*pictured)
    for column, signs in enumerate(pictured.values(), start=1):
        for trace in _plane_traces(signs, legend=column == 1):
            plot.add_trace(trace, row=1, col=column)
        across, upward = (
            f"axis {i}, {e:.1%} of variance" for i, e in enumerate(signs.explained, 1)
        )
        plot.update_xaxes(title_text=across, row=1, col=column)
        anchor = f"x{column}" if column > 1 else "x"
        plot.update_yaxes(title_text=upward, scaleanchor=anchor, row=1, col=column)
    return styled(plot, "The plane of the queries", height=520)


def _plane_traces(signs: Signs, *, legend: bool) -> list[Any]:
    from plotly.graph_objects import Scatter

    hubs = {hub["id"]: hub["share"] for hub in signs.hubs}
    plane = signs.plane.with_columns(pl.col("x", "y").round_sig_figs(4))
    answers = pl.col("side") == "answer"
    is_hub = answers & pl.col("id").is_in(list(hubs))
    kinds = sorted(plane.filter(~answers)["type"].unique())
    groups = {
        "answers": (plane.filter(answers & ~is_hub), {"color": GREY, "symbol": "x", "size": 4})
    }
    for kind, colour in zip(kinds, COLOURS * len(kinds), strict=False):
        rows = plane.filter(~answers & (pl.col("type") == kind))
        groups[kind] = (rows, {"color": colour, "size": 4, "opacity": 0.5})
    large = {"color": RED, "symbol": "star", "size": 14, "line": {"color": GREY, "width": 1}}
    groups["commonest first answers"] = (plane.filter(is_hub), large)
    traces = []
    for name, (rows, marker) in groups.items():
        hover = [hover_text(text) for text in rows["text"]]
        if marker is large:
            shares = (f"<br>first for {hubs[id_]:.0%} of the queries" for id_ in rows["id"])
            hover = [f"<b>{text}</b>{share}" for text, share in zip(hover, shares, strict=True)]
        look = {"mode": "markers", "marker": marker, "hoverinfo": "text", "hovertext": hover}
        label = {"name": hover_text(name), "legendgroup": name, "showlegend": legend}
        traces.append(Scatter(x=rows["x"].to_list(), y=rows["y"].to_list(), **look, **label))
    return traces


def draw_labels(results: Json) -> Figure | None:
    """Draw quality by share of the training labels, with 95% intervals."""
    shares = [row for row in results["fewer_labels"]["rows"] if not row["fewer_of"]]
    rows = []
    for metric in (TOP_3, MAP_10):
        for row in sorted(shares, key=lambda row: row["share"]):
            low, high = row["intervals"]["overall"][metric] or (None, None)
            spot = {"panel": f"test {metric_name(metric)}", "name": row["name"]}
            spot |= {"x": 100 * row["share"], "y": row["overall"][metric], "low": low, "high": high}
            rows.append({**spot, "hover": f"{row['share']:.0%} of labels<br>{_describe_arm(row)}"})
    if not rows:
        return None
    plot = draw(express.line, rows, interval="y", markers=True)
    ticks = sorted({row["x"] for row in rows})
    labels = [f"{tick:.0f}%" for tick in ticks]
    plot.update_xaxes(type="log", tickvals=ticks, ticktext=labels, title_text="training labels")
    return styled(plot, "With fewer labels")


def _describe_arm(arm: Json) -> str:
    """Say for hovering what a recipe reaches in all and for each type."""
    lines = [f"<b>{arm['name']}</b>, top-3 accuracy / MAP@10"]
    for kind in (None, *arm["types"]):
        cells = " / ".join(reached(arm, metric, kind) for metric in (TOP_3, MAP_10))
        lines.append(f"{escape(kind or 'all queries', quote=False)}: {cells}")
    return "<br>".join(lines)


def _wrap(label: str) -> str:
    return label.replace(", ", ",<br>", 1)
