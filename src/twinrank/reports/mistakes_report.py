"""Sections of a run's page on where it is wrong, and whether it knows: confidence and mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl

from twinrank.experiments import Run
from twinrank.reports.page import Rows, Section, render_text
from twinrank.reports.terminal import figure, silence_rows

Json = dict[str, Any]
Table = tuple[str, Rows]

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
    return [Section("Confidence", paragraphs, tables=tables)]


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
    text = _text("misses", count=misses.height, listed=MAX_MISSES)
    return Section(heading, text.split("\n\n"), tables=tables)


def miss_rows(run: Run, misses: pl.DataFrame) -> Rows:
    """List single misses with their texts."""
    sure = ["confidence"] if "confidence" in misses.columns else []
    rows = [["no.", "query", "type", "right answer", "its rank", "given first", *sure, "loss"]]
    for i, miss in enumerate(misses.to_dicts(), start=1):
        row = [str(i), miss["text"], miss["type"], run.titles[miss["right"]], f"{miss['rank']:,}"]
        figures = (figure(miss[name]) for name in (*sure, "loss"))
        rows.append([*row, run.titles[miss["first"]], *figures])
    return rows
