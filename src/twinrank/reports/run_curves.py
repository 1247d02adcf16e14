"""Learning curves of runs: losses and validation MAP@10."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plotly.graph_objects import Figure, Scatter

from twinrank.experiments import Run
from twinrank.experiments.epochs import kept_epoch
from twinrank.reports.drawing import GREEN, PURPLE, RED, Points, panels, styled
from twinrank.reports.figures import COLOURS, GREY, hover_text
from twinrank.reports.terminal import TYPES_SHOWN, figure

Json = dict[str, Any]
STAGES = {
    "tuning": "Tuning the encoder",
    "pretraining": "Pre-training",
    "ranking": "Learning to rank",
}
LOSSES = {
    "train_loss": ("training loss", PURPLE),
    "loss": ("validation loss", GREEN),
    "barlow_loss": ("Barlow Twins loss", RED),
}


@dataclass(frozen=True)
class Line:
    """One curve over epochs, in a panel counted from one."""

    panel: int
    name: str
    colour: str
    points: Points
    legend: bool = True
    dash: str = "solid"


def learning_figures(runs: Sequence[Run]) -> list[Figure]:
    """A figure for each stage that any of the runs trained in.

    Of one run: its losses, and a curve a type. Of several: a colour each, and a panel a type, or
    one for the worst type where there are many.
    """
    found = []
    for stage, title in STAGES.items():
        own = {i: run for i, run in enumerate(runs) if len(run.stages.get(stage, ())) > 1}
        if own and len(runs) == 1:
            found.append(_of_one(runs[0], stage, title))
        elif own:
            found.append(_of_several(own, stage, title))
    return found


def _of_one(run: Run, stage: str, title: str) -> Figure:
    records, types = run.stages[stage], list(run.evaluation.types)
    losses = [
        Line(1, name, colour, _points(records, key)) for key, (name, colour) in LOSSES.items()
    ]
    lines = [*losses, Line(2, "overall", GREY, _points(records, "map@10"))]
    if len(types) > 1:
        lines += [
            Line(2, kind, _colour(i), _points(records, "types", kind, "map@10"))
            for i, kind in enumerate(types)
        ]
    plot = panels("loss", "validation MAP@10")
    _draw(plot, lines, kept_epoch(run.ranker.recipe, stage, records))
    return _labelled(plot, title)


def _of_several(runs: Mapping[int, Run], stage: str, title: str) -> Figure:
    types = list(next(iter(runs.values())).evaluation.types)
    apart = len(types) <= TYPES_SHOWN
    names = [f"MAP@10, {hover_text(kind)}" for kind in types] if apart else ["MAP@10, worst type"]
    plot = panels("loss", *names)
    for i, run in runs.items():
        records, colour = run.stages[stage], _colour(i)
        held = _points(records, "loss") or _points(records, "barlow_loss")
        lines = [Line(1, run.name, colour, held)]
        train = _points(records, "train_loss")
        lines.append(Line(1, f"{run.name}, training", colour, train, legend=False, dash="dot"))
        of_types = [_points(records, "types", kind, "map@10") for kind in types]
        quality = of_types if apart else [_lowest(of_types)]
        lines += [
            Line(panel, run.name, colour, points, legend=False)
            for panel, points in enumerate(quality, start=2)
        ]
        _draw(plot, lines, kept_epoch(run.ranker.recipe, stage, records))
    return _labelled(plot, title)


def _labelled(plot: Figure, title: str) -> Figure:
    plot.update_xaxes(title_text="epoch")
    plot.update_yaxes(rangemode="tozero", col=1)
    return styled(plot, title)


def _points(records: Sequence[Json], *keys: str) -> Points:
    """What was recorded at each epoch under some keys, each within the one before."""

    def found() -> Iterator[tuple[int, float]]:
        for record in records:
            value: Any = record
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                yield record["epoch"], value

    return dict(found())


def _lowest(curves: Sequence[Points]) -> Points:
    """At each epoch, the lowest of some curves."""
    epochs = {epoch: None for curve in curves for epoch in curve}
    return {epoch: min(curve[epoch] for curve in curves if epoch in curve) for epoch in epochs}


def _draw(plot: Figure, lines: Sequence[Line], kept: int | None) -> None:
    """Draw lines, each with a star at the epoch that was kept."""
    for line in (line for line in lines if line.points):
        name = hover_text(line.name)
        common = {"name": name, "legendgroup": line.name, "hoverinfo": "text"}
        texts = [f"<b>{name}</b>, epoch {e}<br>{figure(v)}" for e, v in line.points.items()]
        curve = Scatter(
            x=list(line.points),
            y=[round(value, 5) for value in line.points.values()],
            mode="lines",
            line={"color": line.colour, "dash": line.dash, "width": 2},
            hovertext=texts,
            showlegend=line.legend,
            **common,
        )
        plot.add_trace(curve, row=1, col=line.panel)
        if kept in line.points:
            value = line.points[kept]
            star = Scatter(
                x=[kept],
                y=[value],
                mode="markers",
                marker={"color": line.colour, "symbol": "star", "size": 12},
                hovertext=[f"<b>{name}</b>, epoch {kept}, which was kept<br>{figure(value)}"],
                showlegend=False,
                **common,
            )
            plot.add_trace(star, row=1, col=line.panel)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]
