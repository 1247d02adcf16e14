"""The page of finished runs; each function computes, words and draws one of its sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import polars as pl
from plotly import express
from plotly.graph_objects import Figure

from twinrank import __version__
from twinrank.data import Description
from twinrank.evaluation import TESTED, View
from twinrank.experiments import Examination, Run
from twinrank.reports.figures import draw, hover_text, styled
from twinrank.reports.geometry_report import draw_centroids, space_tables
from twinrank.reports.mistakes_report import (
    describe_silence,
    make_confidence_section,
    make_confusion_section,
    make_misses_section,
)
from twinrank.reports.page import Rows, Section, page, render_text
from twinrank.reports.terminal import (
    difference_rows,
    figure,
    in_one_line,
    join_words,
    metric_name,
    metric_rows,
    p_value,
    quality_rows,
    reached,
    signed,
    signed_interval,
    split_rows,
    take_figure,
)

Json = dict[str, Any]
Table = tuple[str, Rows]

MAX_PANELS = 3  # side by side
MAX_POINTS = 2000  # of a scatter; of more, some are drawn by lot
SIGNIFICANT = 0.05  # a corrected p-value below it shows a difference

STAGES = {
    "tuning": "Tuning the encoder",
    "pretraining": "Pre-training",
    "ranking": "Learning to rank",
}
LOSSES = {"train_loss": "training", "loss": "validation", "barlow_loss": "Barlow Twins"}

_text = partial(render_text, "run_report.txt")


def run_page(examination: Examination) -> str:
    """Make one HTML document about one run, or about several side by side."""
    runs = examination.runs
    sections = [
        _short_section(examination),
        _quality_section(examination),
        *make_confidence_section(runs),
    ]
    of_each = [[make_confusion_section(run), make_misses_section(run)] for run in runs]
    if len(runs) > 1:
        of_each = [
            [replace(section, heading=f"{run.name}: {section.heading}") for section in of_run]
            for run, of_run in zip(runs, of_each, strict=True)
        ]
    sections += [section for of_run in of_each for section in of_run]
    sections += [*_space_section(runs), *_learning_section(runs), _recipe_section(runs)]
    sections.append(_data_section(examination.description))
    folders = [str(run.folder) for run in runs]
    method = _text(
        "method", version=__version__, folders=folders, fingerprint=examination.dataset.fingerprint
    )
    sections.append(Section("How it was measured", method.split("\n\n")))
    names = join_words([run.name for run in runs])
    return page(f"{names} on {examination.dataset.name}", sections)


def _short_section(examination: Examination) -> Section:
    """The quality of all runs in a figure; in words one run's, or differences between several."""
    first, *others = examination.runs
    data = examination.dataset
    measured_on = _text(
        "measured_on",
        data=data.name,
        split=examination.split,
        counts=first.evaluation.counts,
        answers=data.answers.height,
    )
    paragraphs = [measured_on] if others else [measured_on, _summarise(first)]
    for d in examination.differences:
        if d["metric"] == "map@10" and d["type"] is None:
            change = f"{signed(d['difference'])} ({signed_interval(d['interval'])})"
            shows, p = d["p_holm"] < SIGNIFICANT, p_value(d["p_holm"])
            names = {"arm": d["arm"], "without": first.name}
            paragraphs.append(_text("difference", **names, difference=change, p=p, shows=shows))
    values = first.evaluation.as_dict()
    groups = {"overall": None} | {kind: kind for kind in first.evaluation.types}
    tiles = [
        (f"{metric_name(metric)}, {label}", reached(values, metric, kind))
        for metric in TESTED
        for label, kind in groups.items()
    ]
    plots = [(draw_quality(examination.runs), _text("quality"))]
    return Section("In short", paragraphs, plots, tiles=() if others else tiles)


def _summarise(run: Run) -> str:
    """Say of a run, in a paragraph, what it reaches and where it fails most."""
    values, types = run.evaluation.as_dict(), run.evaluation.types
    pairs = run.mistakes.confused.filter(pl.col("misses") > 1).head(1).to_dicts()
    worst = min(types, key=lambda kind: types[kind]["map@10"])
    return _text(
        "run",
        name=run.name,
        top_3=reached(values),
        types=[f"{figure(types[kind]['accuracy@3'])} of {kind}" for kind in types],
        map_10=figure(values["overall"]["map@10"]),
        worst={"type": worst, "figure": figure(types[worst]["map@10"])},
        confidence=describe_silence(run) if run.evaluation.confidence else None,
        pair={
            "one": run.titles[pairs[0]["one"]],
            "other": run.titles[pairs[0]["other"]],
            "misses": pairs[0]["misses"],
        }
        if pairs
        else None,
    )


def draw_quality(runs: Sequence[Run]) -> Figure:
    """Draw top-3 accuracy and MAP@10 with their intervals, overall and by type."""
    rows = []
    for metric in TESTED:
        for run in runs:
            values, counts = run.evaluation.as_dict(), run.evaluation.counts
            groups = {None: ("overall", counts["overall"])}
            groups |= {kind: (hover_text(kind), n) for kind, n in counts["types"].items()}
            for kind, (label, count) in groups.items():
                value, bounds = take_figure(values, metric, kind)
                low, high = bounds or (None, None)
                hover = (
                    f"<b>{hover_text(run.name)}</b>, {label}<br>{metric_name(metric)} "
                    f"{reached(values, metric, kind)}, {count:,} queries"
                )
                row = {"panel": metric_name(metric), "name": run.name, "x": label}
                rows.append({**row, "y": value, "low": low, "high": high, "hover": hover})
    plot = draw(express.scatter, rows, interval="y")
    plot.update_traces(marker_size=10)
    plot.update_yaxes(rangemode="tozero")
    plot.update_yaxes(matches="y", col=2)
    plot.update_layout(scattermode="group", scattergap=0.5, showlegend=len(runs) > 1)
    return styled(plot)


def _quality_section(examination: Examination) -> Section:
    runs = examination.runs
    tables: list[Table] = []
    if len(runs) > 1:
        differences = difference_rows(examination.differences, "arm")
        rows = quality_rows({run.name: run.evaluation for run in runs})
        tables = [
            ("Top-3 accuracy and MAP@10, with 95% intervals", rows),
            ("Differences", differences),
        ]
    for run in runs:
        title = "Every figure, with its 95% interval"
        title = f"{title}: {run.name}" if len(runs) > 1 else title
        tables.append((title, metric_rows(run.evaluation)))
    tables = [(title, [list(map(in_one_line, row)) for row in rows]) for title, rows in tables]
    paragraphs = [_summarise(run) for run in runs] if len(runs) > 1 else []
    return Section("Quality for each type of query", paragraphs, tables=tables)


def _recipe_section(runs: Sequence[Run]) -> Section:
    """Every choice of the recipes, a column a run: first those that differ."""
    choices = []
    for run in runs:
        values = run.ranker.recipe.values() | {"seed": run.ranker.origin.seed}
        flat = pl.json_normalize([values]).row(0, named=True)
        choices.append(
            {n: str(v).lower() if isinstance(v, bool) else str(v) for n, v in flat.items()}
        )
    names = [name for name in dict.fromkeys(n for of in choices for n in of) if name != "name"]
    rows = [[name, *(of.get(name, "-") for of in choices)] for name in names]
    rows.sort(key=lambda row: len(set(row[1:])) == 1)
    head = ["setting", *(run.name for run in runs)]
    tables = [("Every choice", [head, *rows])]
    return Section("Recipe", folded=tables) if len(runs) == 1 else Section("Recipe", tables=tables)


def _data_section(data: Description) -> Section:
    paragraphs = _text("data", name=data.name, counts=data.counts, warnings=data.warnings)
    tables = [("Queries by split and type", split_rows(data))]
    return Section("Data", paragraphs.split("\n\n"), tables=tables)


def _learning_section(runs: Sequence[Run]) -> list[Section]:
    """A figure for each stage that any of the runs trained in."""
    figures = []
    for stage, title in STAGES.items():
        trained = [run for run in runs if len(run.stages.get(stage, ())) > 1]
        if trained:
            figures.append((draw_curves(trained, stage), f"{title}: {_text('curves')}"))
    untrained = [run.name for run in runs if not run.stages]
    text = _text("learning", untrained=untrained)
    return [Section("Learning", [text] if text else [], figures)] if figures or text else []


def draw_curves(runs: Sequence[Run], stage: str) -> Figure:
    """Draw losses and validation MAP@10 by epoch: a curve a type of one run, or a curve a run."""
    rows: list[Json] = []
    for run in runs:
        best, types = run.find_best_epoch(stage), run.evaluation.types
        for record in run.stages[stage]:
            losses = {name: record.get(key) for key, name in LOSSES.items()}
            quality = {"overall": record.get("map@10")}
            if len(runs) > 1:
                loss = losses["validation"] or losses["Barlow Twins"]
                losses, quality = {run.name: loss}, {run.name: record.get("map@10")}
            elif len(types) > 1:
                quality |= {k: v.get("map@10") for k, v in record.get("types", {}).items()}
            mark = ", the best" if record["epoch"] == best else ""
            for panel, values in (("loss", losses), ("validation MAP@10", quality)):
                for name, value in values.items():
                    if value is not None:
                        hover = f"<b>{hover_text(name)}</b>, epoch {record['epoch']}{mark}"
                        row = {"panel": panel, "name": name, "x": record["epoch"], "y": value}
                        rows.append({**row, "hover": f"{hover}<br>{figure(value)}"})
    rows.sort(key=lambda row: row["panel"])
    plot = draw(express.line, rows)
    plot.update_xaxes(title_text="epoch")
    plot.update_yaxes(rangemode="tozero", col=1)
    return styled(plot)


def _space_section(runs: Sequence[Run]) -> list[Section]:
    spaces = {run.name: run.geometry for run in runs if run.geometry}
    views = {run.name: run.view for run in runs if run.view}
    if not spaces:
        return []
    names = list(views)
    sizes = [max(view.queries.height, view.centroids.height) for view in views.values()]
    caption = _text("space", thinned=max(sizes) > MAX_POINTS, limit=MAX_POINTS)
    figures = [
        (draw_centroids({name: _thin(views[name]) for name in names[i : i + MAX_PANELS]}), caption)
        for i in range(0, len(names), MAX_PANELS)
    ]
    return [Section("Geometry", figures=figures, tables=space_tables(spaces))]


def _thin(view: View) -> View:
    """Take as much of a view as a page can hold, by lot; of an answer all centroids or none."""
    centroids = view.centroids
    if centroids.height > MAX_POINTS:
        answers = centroids["answer"].unique(maintain_order=True)
        sample = answers.sample(fraction=MAX_POINTS / centroids.height, seed=0)
        centroids = centroids.filter(pl.col("answer").is_in(sample.implode()))
    queries = view.queries.sample(min(view.queries.height, MAX_POINTS), seed=0)
    return replace(view, queries=queries, centroids=centroids)
