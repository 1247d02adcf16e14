"""The page of finished runs: what they are, what they reach, where they fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from twinrank.evaluation import View
from twinrank.experiments import Examination, Run
from twinrank.files import write_file
from twinrank.ranking.model_card import SELECTED, about, quality
from twinrank.reports import run_figures as figures
from twinrank.reports import run_tables as tables
from twinrank.reports import run_text as text
from twinrank.reports.figures import hover_text
from twinrank.reports.geometry_report import centroid_figure, space_tables
from twinrank.reports.page import Rows, Section, page
from twinrank.reports.run_curves import learning_figures

ACROSS = 3  # panels side by side
# How many are shown of several runs, and of one alone.
PAIRS, MISSES = (8, 15), (5, 10)


def write_report(examination: Examination, file: Path) -> None:
    """Write the page of some runs, whole or not at all.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    write_file(file, run_page(examination))


def run_page(examination: Examination) -> str:
    """One HTML document about one run, or about several side by side."""
    runs = examination.runs
    sections = [
        Section("In short", text.short(examination)),
        _quality(examination),
        Section("Recipe" if len(runs) == 1 else "Recipes", tables=tables.setting_rows(runs)),
        _data(examination),
        *_learning(runs),
        *_calibration(runs),
    ]
    for run in runs:
        sections += [_confusion(run, alone=len(runs) == 1), _misses(run, alone=len(runs) == 1)]
    sections += _space(runs)
    sections += [_card(run, alone=len(runs) == 1) for run in runs]
    sections.append(Section("How it was measured", [*text.MEASURED, text.made(examination)]))
    return page(text.title(examination), sections)


def _quality(examination: Examination) -> Section:
    runs = examination.runs
    if len(runs) == 1:
        found: list[tuple[str, Rows]] = []
    else:
        found = [
            ("Top-3 accuracy and MAP@10, with 95 % intervals", tables.quality_rows(runs)),
            ("Differences", tables.tested_rows(examination.differences)),
            ("Queries with a right answer among the first three", tables.overlap_rows(runs)),
        ]
    for run in runs:
        name = "Every figure, with its 95 % interval"
        found.append((_of(run, name, alone=len(runs) == 1), tables.metric_rows(run.evaluation)))
    drawn = [(figures.quality_figure(runs), text.QUALITY)]
    return Section("Quality for each type of query", figures=drawn, tables=found)


def _data(examination: Examination) -> Section:
    data = examination.description
    about = f"{data.name} has {data.counts['answers']:,} answers and {data.counts['queries']:,}"
    about += f" queries in {data.counts['threads']:,} threads."
    warnings = [f"Beware: {warning}." for warning in data.warnings]
    rows = tables.data_rows(data)
    return Section("Data", [about, *warnings], tables=[("Queries by split and type", rows)])


def _learning(runs: Sequence[Run]) -> Iterator[Section]:
    drawn = learning_figures(runs)
    untrained = [run.name for run in runs if not run.stages]
    said = [f"Nothing was trained for {', '.join(untrained)}."] if untrained else []
    if len(runs) > 1 and drawn:
        said.append("Full lines are the validation split's, dotted ones the training loss.")
    if drawn or said:
        yield Section("Learning", said, [(plot, text.LEARNING) for plot in drawn])


def _calibration(runs: Sequence[Run]) -> Iterator[Section]:
    known = [run for run in runs if run.evaluation.confidence]
    if not known:
        return
    name = "Answered / right first of these, if silent below a confidence"
    found: list[tuple[str, Rows]] = [
        (_of(run, name, alone=len(runs) == 1), tables.silence_rows(run.evaluation)) for run in known
    ]
    if len(runs) == 1:
        rows = tables.reliability_rows(runs[0].evaluation)
        found.append(("How true confidence is, over all queries", rows))
    said = [f"{run.name}: {text.silence(run.evaluation)}." for run in known]
    drawn = [(figures.calibration_figure(known), text.CALIBRATION)]
    yield Section("Confidence", said, drawn, found)


def _confusion(run: Run, *, alone: bool) -> Section:
    heading = _of(run, "Answers mistaken for each other", alone=alone)
    if run.mistakes.misses.is_empty():
        return Section(heading, ["Every query was given a right answer first."])
    pairs = tables.confused_pairs(run, PAIRS[alone])
    drawn = [(figures.confusion_figure(run, pairs), text.CONFUSION)]
    name = _of(run, "Pairs of answers, the most mistaken first", alone=alone)
    rows = [(name, tables.confused_rows(run, pairs))]
    return Section(heading, [text.confused(run, len(pairs)), text.ANSWERS_ALIKE], drawn, rows)


def _misses(run: Run, *, alone: bool) -> Section:
    heading, found = _of(run, "The worst misses", alone=alone), run.mistakes
    if found.misses.is_empty():
        return Section(heading, ["There are none."])
    most = MISSES[alone]
    lists = {
        "The highest loss": found.worst(most),
        "The surest of a wrong answer": found.surest(most),
    }
    rows = [
        (_of(run, name, alone=alone), tables.miss_rows(run, own))
        for name, own in lists.items()
        if own.height
    ]
    said = [part for part in (text.missed(run, most), text.LABELS) if part]
    return Section(heading, said, [(figures.misses_figure(run), text.MISSES)], rows)


def _space(runs: Sequence[Run]) -> Iterator[Section]:
    spatial = [(run.name, run.geometry, run.views) for run in runs if run.geometry and run.views]
    if not spatial:
        return
    if len(runs) == 1:
        name, _, views = spatial[0]
        drawn = [(name, [_thinned(view) for view in views])]
    else:  # one view of each, side by side
        firsts = [_thinned(replace(v[0], name=hover_text(name))) for name, _, v in spatial]
        title = "centroids, then 2 dimensions"
        drawn = [(title, firsts[i : i + ACROSS]) for i in range(0, len(firsts), ACROSS)]
    view = spatial[0][2][0]
    caption = text.SPACE
    if max(view.queries.height, view.centroids.height) > tables.DRAWN:
        caption += f" No more than {tables.DRAWN:,} queries, and as many centroids, are drawn."
    plots = [(centroid_figure(title, some), caption) for title, some in drawn]
    found = space_tables([(name, geometry) for name, geometry, _ in spatial])
    yield Section("Geometry", figures=plots, tables=found)


def _thinned(view: View) -> View:
    """As much of a view as a page can hold, drawn by lot; of an answer all centroids or none."""
    centroids = view.centroids
    if centroids.height > tables.DRAWN:
        answers = centroids["answer"].unique(maintain_order=True)
        some = answers.sample(fraction=tables.DRAWN / centroids.height, seed=0)
        centroids = centroids.filter(pl.col("answer").is_in(some.implode()))
    queries = view.queries.sample(min(view.queries.height, tables.DRAWN), seed=0)
    return replace(view, queries=queries, centroids=centroids)


def _card(run: Run, *, alone: bool) -> Section:
    said = [f"{heading}: {words}" for heading, words in about(run.ranker).items()]
    said.append(f"{text.CARD} {SELECTED.replace('`', '')}")
    rows = quality(run.ranker)
    name = _of(run, "Quality on the validation split", alone=alone)
    return Section(_of(run, "Model card", alone=alone), said, tables=[(name, rows)] if rows else [])


def _of(run: Run, what: str, *, alone: bool) -> str:
    return what if alone else f"{run.name}: {what[0].lower()}{what[1:]}"
