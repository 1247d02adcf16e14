"""The page of a study: what was tried, what happened, why, and what pre-training is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from plotly.graph_objects import Figure

from twinrank.evaluation import View
from twinrank.reports import study_findings as findings
from twinrank.reports import study_text as text
from twinrank.reports.geometry_report import READING, centroid_figure
from twinrank.reports.page import Rows, Section, page
from twinrank.reports.study import reading_tables, tables
from twinrank.reports.study_figures import FIGURES, LEARNERS
from twinrank.reports.study_findings import TOP_3, arms_of
from twinrank.reports.terminal import figure

Json = dict[str, Any]


def study_page(results: Json, views: Mapping[str, Sequence[View]]) -> str:
    """The whole story as one HTML document, every number of it taken from the results.

    Args:
        results: as `experiment.results` gives them.
        views: of some recipes, as `centroid_views` gives them.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    arms = arms_of(results)
    sections = [
        Section("In short", findings.short(results)),
        Section("The problem", text.PROBLEM),
        Section("What was tried", text.TRIED),
        Section("What happened", findings.happened(results), _drawn(results, "pretraining")),
        Section("Why: the controls", findings.why(results), _drawn(results, "controls")),
        Section("The mend", findings.mend(results), _drawn(results, "learning"), _starts(arms)),
        Section("What pre-training is worth", findings.worth(results), _drawn(results, "types")),
        Section("With fewer labels", findings.fewer(results), _drawn(results, "labels")),
        Section("What the encoder reads", findings.reading(results), tables=_reading(results)),
        Section(
            "Does it help to mix the types?", findings.space(results), _drawn(results, "space")
        ),
    ]
    for name, three in views.items():
        sections.append(
            Section(f"The space of {name}", (), [(centroid_figure(name, three), READING)])
        )
    sections += [
        Section(
            "What the published system reported", [text.PUBLISHED], tables=text.PUBLISHED_TABLES
        ),
        Section("All tables", tables=list(tables(results).items())),
        Section("How it was measured", findings.measured(results)),
        Section("What was left out", findings.left_out(results)),
    ]
    kept = [s for s in sections if s.paragraphs or s.figures or s.tables]
    return page(f"What pre-training does to a ranker: {results['data']}", kept)


def _reading(results: Json) -> Sequence[tuple[str, Rows]]:
    """The recipes that read texts otherwise, beside what was published."""
    own = [arm for arm in results["arms"] if arm["part"] == "reading"]
    return list(reading_tables(results, own).items())[:2] if own else []


def _drawn(results: Json, name: str) -> list[tuple[Figure, str]]:
    """A figure with its caption, unless nothing is on it."""
    plot = FIGURES[name](results)
    return [(plot, text.CAPTIONS[name])] if any(t.x for t in plot.data) else []


def _starts(arms: Mapping[str, Json]) -> list[tuple[str, Rows]]:
    """Where each recipe starts, and where its validation loss is lowest: means over seeds."""
    rows = []
    for name in (name for names in LEARNERS.values() for name in names if name in arms):
        if seeds := arms[name]["epochs"]["ranking"]:
            best = [min(range(len(s["loss"])), key=s["loss"].__getitem__) for s in seeds]
            starts = [fmean(s[TOP_3][min(i, len(s[TOP_3]) - 1)] for s in seeds) for i in (0, 1)]
            reaches = fmean(s[TOP_3][i] for s, i in zip(seeds, best, strict=True))
            epoch = fmean(s["epoch"][i] for s, i in zip(seeds, best, strict=True))
            rows.append([name, *map(figure, (*starts, reaches)), f"{epoch:.1f}"])
    head = ["validation top-3 accuracy", "before ranking", "after an epoch", "at the lowest loss"]
    return [("Start and convergence", [[*head, "which is epoch"], *rows])] if rows else []
