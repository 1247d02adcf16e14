"""The section of a run's page on how it learned: losses and validation quality by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from plotly import express
from plotly.graph_objects import Figure

from twinrank.experiments import Run
from twinrank.reports.figures import COLOURS, GREEN, GREY, PURPLE, RED, draw, hover_text, styled
from twinrank.reports.page import Section, render_text
from twinrank.reports.terminal import TYPES_SHOWN, figure

Json = dict[str, Any]

STAGES = {
    "tuning": "Tuning the encoder",
    "pretraining": "Pre-training",
    "ranking": "Learning to rank",
}
LOSSES = {
    "train_loss": "training loss",
    "loss": "validation loss",
    "barlow_loss": "Barlow Twins loss",
}
LOSS_COLOURS = dict(zip(LOSSES.values(), (PURPLE, GREEN, RED), strict=True))

_text = partial(render_text, "run_report.txt")


def make_learning_section(runs: Sequence[Run]) -> list[Section]:
    """Make the section with a figure for each stage that any of the runs trained in."""
    caption = _text("curves")
    figures = []
    for stage, title in STAGES.items():
        trained = {i: run for i, run in enumerate(runs) if len(run.stages.get(stage, ())) > 1}
        if trained:
            figures.append((draw_curves(trained, stage, title, alone=len(runs) == 1), caption))
    untrained = [run.name for run in runs if not run.stages]
    text = _text("learning", untrained=untrained, several=bool(len(runs) > 1 and figures))
    paragraphs = text.split("\n\n") if text else []
    return [Section("Learning", paragraphs, figures)] if figures or text else []


def draw_curves(runs: Mapping[int, Run], stage: str, title: str, *, alone: bool) -> Figure:
    """Draw losses and validation MAP@10 by epoch, with a star at each run's best epoch.

    Of one run alone: each loss, and a curve a type. Of several: a colour each, and a panel a
    type, or one for the worst type where there are many.
    """
    rows: list[Json] = []
    colours, best = {"overall": GREY, **LOSS_COLOURS}, {}
    for i, run in runs.items():
        types, colour = list(run.evaluation.types), COLOURS[i % len(COLOURS)]
        for record in run.stages[stage]:
            curves = _curves_of_one(record, types) if alone else _curves_of_several(record, run)
            for (panel, name), value in curves.items():
                if value is not None:
                    hover = f"<b>{hover_text(name)}</b>, epoch {record['epoch']}<br>{figure(value)}"
                    row = {"panel": panel, "name": name, "x": record["epoch"], "y": value}
                    rows.append({**row, "hover": hover})
                    best[hover_text(name)] = run.find_best_epoch(stage)
        colours |= {hover_text(name): colour for name in (run.name, f"{run.name}, training")}
    if alone:
        colours |= {hover_text(kind): COLOURS[i % len(COLOURS)] for i, kind in enumerate(types)}
    rows.sort(key=lambda row: row["panel"] != "loss")
    plot = draw(express.line, rows, color_discrete_map=colours)
    for line in list(plot.data):
        if not alone and line.name.endswith(", training"):
            line.update(line_dash="dot", showlegend=False)
        _add_star(plot, line, best[line.name])
    plot.update_xaxes(title_text="epoch")
    plot.update_yaxes(rangemode="tozero", col=1)
    return styled(plot, title)


def _add_star(plot: Figure, line: Any, epoch: int | None) -> None:  # noqa: ANN401 (a trace)
    """Mark an epoch on a line, if it is there."""
    for x, y, hover in zip(line.x, line.y, line.hovertext, strict=True):
        if x == epoch:
            plot.add_scatter(
                x=[x],
                y=[y],
                mode="markers",
                marker={"symbol": "star", "size": 12, "color": line.line.color},
                hovertext=[hover.replace("<br>", ", the best<br>", 1)],
                hoverinfo="text",
                showlegend=False,
                xaxis=line.xaxis,
                yaxis=line.yaxis,
                legendgroup=line.legendgroup,
            )


def _curves_of_one(record: Json, types: Sequence[str]) -> dict[tuple[str, str], float | None]:
    """What an epoch recorded, by panel and curve."""
    curves = {("loss", name): record.get(key) for key, name in LOSSES.items()}
    curves["validation MAP@10", "overall"] = record.get("map@10")
    for kind in types if len(types) > 1 else ():
        curves["validation MAP@10", kind] = record.get("types", {}).get(kind, {}).get("map@10")
    return curves


def _curves_of_several(record: Json, run: Run) -> dict[tuple[str, str], float | None]:
    loss = record.get("barlow_loss") if record.get("loss") is None else record["loss"]
    curves = {("loss", run.name): loss}
    curves["loss", f"{run.name}, training"] = record.get("train_loss")
    values = {k: v["map@10"] for k, v in record.get("types", {}).items() if "map@10" in v}
    if len(run.evaluation.types) <= TYPES_SHOWN:
        return curves | {(f"MAP@10, {kind}", run.name): v for kind, v in values.items()}
    return curves | {("MAP@10, worst type", run.name): min(values.values(), default=None)}
