"""Sections of a run's page on where it is wrong, and whether it knows: confidence and mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl
from plotly import express
from plotly.graph_objects import Figure

from twinrank.evaluation import reliability
from twinrank.experiments import Run
from twinrank.reports.figures import GREY, draw, hover_text, styled
from twinrank.reports.page import Rows, Section, render_text
from twinrank.reports.terminal import figure, interval, silence_rows

Json = dict[str, Any]
Table = tuple[str, Rows]

MAX_POINTS = 2000  # of a scatter; of more, some are drawn by lot
MAX_PAIRS = 12  # of answers mistaken for each other
MAX_MISSES = 10  # in a table
SILENT_BELOW = 0.4  # of the thresholds of a calibration, the one in the text

_text = partial(render_text, "run_report.txt")


def describe_silence(run: Run) -> str:
    """Say how true a run's confidence is, and what one silence would gain."""
    calibration = run.evaluation.confidence["overall"]
    (point,) = (p for p in calibration.curve if p.min_confidence == SILENT_BELOW)
    return _text("silence", error=calibration.error, least=SILENT_BELOW, point=point)


def make_confidence_section(runs: Sequence[Run]) -> list[Section]:
    """Make the section on confidence; none if no run knows it."""
    known = [run for run in runs if run.evaluation.confidence]
    if not known:
        return []
    title = "Answered / right first of these, if silent below a confidence"
    tables: list[Table] = [
        (f"{title}: {run.name}" if len(runs) > 1 else title, silence_rows(run.evaluation))
        for run in known
    ]
    paragraphs = [f"{run.name}: its {describe_silence(run)}." for run in known]
    figures = [(draw_calibration(known), _text("calibration"))]
    return [Section("Confidence", paragraphs, figures, tables)]


def draw_calibration(runs: Sequence[Run]) -> Figure:
    """Draw how true confidence is: a line a run, or each type of one."""
    groups = {run.name: run.evaluation.per_query for run in runs}
    if len(runs) == 1:
        (queries,) = groups.values()
        types = runs[0].evaluation.types
        groups = {"overall": queries}
        groups |= {kind: queries.filter(type=kind) for kind in types if len(types) > 1}
    rows: list[Json] = []
    for name, queries in groups.items():
        sure, right = queries["confidence"].to_numpy(), queries["accuracy@1"].to_numpy() > 0
        for b in reliability(sure, right):
            low, high = b.interval if name == "overall" else (None, None)
            hover = (
                f"<b>{hover_text(name)}</b>, {b.queries:,} queries<br>confidence "
                f"{figure(b.confidence)}, right first {figure(b.accuracy)} ({interval(b.interval)})"
            )
            row = {"name": name, "x": b.confidence, "y": b.accuracy, "low": low, "high": high}
            rows.append({**row, "hover": hover})
    plot = draw(express.line, rows, interval="y", markers=True)
    line = {"color": GREY, "dash": "dot", "width": 1}
    plot.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line=line)
    plot.update_xaxes(title_text="confidence", range=[-0.03, 1.03])
    plot.update_yaxes(title_text="right first", range=[-0.03, 1.03])
    return styled(plot, "How true confidence is", height=500)


def make_confusion_section(run: Run) -> Section:
    """Make the section on pairs of answers that are mistaken for each other."""
    heading = "Answers mistaken for each other"
    confused, misses = run.mistakes.confused, run.mistakes.misses
    if misses.is_empty():
        return Section(heading, ["Every query was given a right answer first."])
    often = confused.filter(pl.col("misses") > 1)
    pairs = (confused if often.is_empty() else often).head(MAX_PAIRS).to_dicts()
    text = _text(
        "confusion",
        misses=misses.height,
        queries=run.mistakes.queries,
        pairs=confused.height,
        often=often.height,
        shown=len(pairs),
    )
    head = ["no.", "first answer", "second answer", "misses", "of queries"]
    rows = [[*head, "first given for second", "second given for first", "for instance"]]
    for i, pair in enumerate(pairs, start=1):
        counts = (pair[name] for name in ("misses", "queries", "one_for_other", "other_for_one"))
        titles = (run.titles[pair[side]] for side in ("one", "other"))
        rows.append([str(i), *titles, *(f"{n:,}" for n in counts), _find_example(run, pair)])
    tables = [("Pairs of answers, the most mistaken first", rows)]
    return Section(heading, text.split("\n\n"), tables=tables)


def _find_example(run: Run, pair: Json) -> str:
    """Find the query of a pair's misses with the highest loss."""
    both = pl.all_horizontal(pl.col("first", "right").is_in([pair["one"], pair["other"]]))
    return str(run.mistakes.worst(run.mistakes.misses.height).filter(both)["text"][0])


def make_misses_section(run: Run) -> Section:
    """Make the section on single queries, those that the run ranks worst."""
    heading, misses = "The worst misses", run.mistakes.misses
    if misses.is_empty():
        return Section(heading, ["There are none."])
    lists = {
        "The highest loss": run.mistakes.worst(MAX_MISSES),
        "The surest of a wrong answer": run.mistakes.surest(MAX_MISSES),
    }
    tables = [(title, miss_rows(run, worst)) for title, worst in lists.items() if worst.height]
    text = _text("misses", count=misses.height, listed=MAX_MISSES, limit=MAX_POINTS)
    return Section(heading, text.split("\n\n"), [(draw_misses(run), _text("scatter"))], tables)


def miss_rows(run: Run, misses: pl.DataFrame) -> Rows:
    """List single misses with their texts."""
    sure = ["confidence"] if "confidence" in misses.columns else []
    rows = [["no.", "query", "type", "right answer", "its rank", "given first", *sure, "loss"]]
    for i, miss in enumerate(misses.to_dicts(), start=1):
        row = [str(i), miss["text"], miss["type"], run.titles[miss["right"]], f"{miss['rank']:,}"]
        figures = (figure(miss[name]) for name in (*sure, "loss"))
        rows.append([*row, run.titles[miss["first"]], *figures])
    return rows


def draw_misses(run: Run) -> Figure:
    """Draw how far down the right answer of each miss is, and how sure the wrong one was."""
    misses, titles = run.mistakes.misses, run.titles
    x = "confidence" if "confidence" in misses.columns else "loss"
    sample = misses.sample(min(MAX_POINTS, misses.height), seed=0).sort("type", maintain_order=True)
    rows = [
        {
            "name": miss["type"],
            "x": miss[x],
            "y": miss["rank"],
            "hover": f"right: <b>{hover_text(titles[miss['right']])}</b>, rank {miss['rank']:,}<br>"
            f"given: <b>{hover_text(titles[miss['first']])}</b><br>{hover_text(miss['text'])}",
        }
        for miss in sample.to_dicts()
    ]
    plot = draw(express.scatter, rows)
    plot.update_traces(marker={"size": 7, "opacity": 0.7})
    plot.update_xaxes(title_text="confidence in the wrong answer" if x == "confidence" else x)
    ticks = [m * 10**power for power in range(8) for m in (1, 2, 5)]
    plot.update_yaxes(title_text="rank of the right answer", type="log", tickvals=ticks)
    return styled(plot, "Misses")
