"""The figures of the handover's study, each drawn of the values in results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
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
    Trace,
    draw,
    draw_planes,
    hover_of,
    hover_text,
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
from twinrank.reports.terminal import reached

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


def draw_controls(results: Json) -> Figure | None:
    """Draw top-3 accuracy of what ranks right after pre-training, in the order of the story."""
    arms = arms_of(results)
    shown = [arms[name] for name in BATCHES if name in arms]
    labels = [describe_batches(arm).replace(", ", ",<br>", 1) for arm in shown]
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
    return styled(plot, height=110 + 52 * len(rows))


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
    return styled(plot, height=480)


def _average_stretches(seeds: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """Average losses over seeds and stretches of steps; a point at the middle of each stretch."""
    steps = min(map(len, seeds))
    length = max(1, steps // STRETCHES)
    return [
        (first + length // 2 + 1, fmean(x for seed in seeds for x in seed[first : first + length]))
        for first in range(0, steps, length)
    ]


def draw_queries_and_answers(pictured: Mapping[str, Signs]) -> Figure:
    """Draw queries and answers on the two main axes of the queries, a panel a recipe.

    The commonest first answers stand out, and tell their titles.
    """
    planes = {name: (_make_traces(signs), signs.explained) for name, signs in pictured.items()}
    return draw_planes(planes)


def _make_traces(signs: Signs) -> list[Trace]:
    is_answer = pl.col("side") == "answer"
    plane = signs.plane.select("x", "y", "type", "id", is_answer=is_answer, hover=hover_of("text"))
    shares = pl.DataFrame(signs.hubs, schema={"id": pl.String, "share": pl.Float64})
    about = "<b>{}</b><br>first for {}% of the queries"
    percent = (100 * pl.col("share")).round().cast(pl.Int64)
    hubs = plane.filter("is_answer").join(shares, on="id", maintain_order="left")
    hubs = hubs.with_columns(hover=pl.format(about, "hover", percent))
    others = plane.filter("is_answer").join(shares, on="id", how="anti", maintain_order="left")
    traces = [(others, {"name": "answers", "marker": {"color": GREY, "symbol": "x", "size": 4}})]
    queries = plane.filter(~pl.col("is_answer"))
    for kind, colour in zip(sorted(queries["type"].unique()), cycle(COLOURS), strict=False):
        marker = {"color": colour, "size": 4, "opacity": 0.5}
        traces.append((queries.filter(type=kind), {"name": hover_text(kind), "marker": marker}))
    line = {"color": GREY, "width": 1}
    star = {"color": RED, "symbol": "star", "size": 14, "line": line}
    return [*traces, (hubs, {"name": "commonest first answers", "marker": star})]


def _describe_arm(arm: Json) -> str:
    """Say for hovering what a recipe reaches in all and for each type."""
    lines = [f"<b>{arm['name']}</b>, top-3 accuracy / MAP@10"]
    for kind in (None, *arm["types"]):
        cells = " / ".join(reached(arm, metric, kind) for metric in (TOP_3, MAP_10))
        lines.append(f"{escape(kind or 'all queries', quote=False)}: {cells}")
    return "<br>".join(lines)
