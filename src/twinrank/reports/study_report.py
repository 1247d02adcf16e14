"""The handover's study in findings, tables and figures: for the terminal, on disk, as one page.

All of it is computed from the values in results.json; what they do not hold is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from twinrank.evaluation import Signs
from twinrank.files import write_file
from twinrank.recipe import recipe_summary
from twinrank.reports.page import Section, page, render_text
from twinrank.reports.study_expectations import list_expectations
from twinrank.reports.study_figures import draw_controls, draw_losses, draw_queries_and_answers
from twinrank.reports.study_findings import (
    ACROSS,
    ACROSS_FROZEN,
    DUAL,
    NO_STEPS,
    NOISE,
    PUBLISHED,
    PUBLISHED_FROZEN,
    UNTRAINED,
    collect_findings,
    pretrained_arms,
    summarise_losses,
)
from twinrank.reports.terminal import (
    difference_rows,
    figure,
    fill_table,
    interval,
)

Json = dict[str, Any]
Rows = list[list[str]]

MAX_PANELS = 3  # side by side
PARTS = {
    "recipes": "Recipes",
    "controls": "Controls",
    "reading": "What the encoder reads",
    "added": "Added",
}
DISTANCES = {
    "centroid_distance": "centroid dist.",
    "centroid_distance_relative": "relative",
    "answer_distance": "answer dist.",
    "answer_distance_relative": "relative",
    "type_auc": "type AUC",
}
PUBLISHED_TABLES = {
    "Published system, Danish private data: top-3 accuracy / MAP@3": """\
 | total | question | conversation
baseline, one head (handover-tfidf) | .44 / .36 | .32 / .24 | .50 / .42
by section (handover-sections) | .43 / .33 | .29 / .23 | .49 / .41
512 tokens (handover-512) | .43 / .34 | .32 / .23 | .49 / .40
dual encoder | .49 / .40 | .34 / .26 | .57 / .47
Barlow, frozen, then dual, start | ≈0 | - | -
Barlow, frozen, then dual, 48 epochs | .32 | - | -""",
    "Published system, Danish private data: distances on embeddings scaled to 0 to 1": """\
 | centroid distance | distance to answer
dual | 2.09 | .059
Barlow, zero-shot | 1.6 | .058
Barlow, frozen, then dual | 1.07 | .032""",
}

# Figures of the table that sets what is near what against ranking.
NEAR = {
    ("signs", "nearest_past_query"): "past query",
    ("geometry", "answer_share"): "between answers",
    ("signs", "right_over_wrong"): "right/wrong",
    ("geometry", "centroid_distance"): "centroids",
    ("geometry", "answer_distance"): "to answer",
    ("signs", "dot_accuracy"): "dot",
    ("signs", "cosine_accuracy"): "cosine",
    ("signs", "first_places"): "3 answers",
    ("signs", "first_axis"): "one axis",
}
COMPARED = (UNTRAINED, NO_STEPS, NOISE, PUBLISHED, ACROSS, DUAL, PUBLISHED_FROZEN, ACROSS_FROZEN)

_text = partial(render_text, "study_report.txt")


def study_tables(results: Json) -> Group:
    """Show a study at a terminal: brief tables without differences by type, then what they say."""
    overall = {
        name: [d for d in results[name] if d["type"] is None] for name in ("differences", "reading")
    }
    tables = make_tables({**results, **overall}, brief=True)
    shown = [fill_table(title, rows) for title, rows in tables.items()]
    return Group(*shown, *(Text(f"- {line}") for line in collect_findings(results)["In short"]))


def write_study(results: Json, pictured: Mapping[str, Signs], folder: Path) -> list[Path]:
    """Write results.json and the page, index.html; give their paths.

    Args:
        results: of `run_study`.
        pictured: signs of some recipes, of which the page shows the planes.
        folder: made if it is not there.

    Raises:
        TwinrankError: if plotly or jinja2 is missing; results.json is there then.
    """
    values = write_file(folder / "results.json", json.dumps(results, indent=1) + "\n")
    return [values, write_file(folder / "index.html", study_page(results, pictured))]


def study_page(results: Json, pictured: Mapping[str, Signs]) -> str:
    """Make the page of a study: each heading's findings, with its figures and tables.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    names = list(pictured)
    planes = [
        draw_queries_and_answers({name: pictured[name] for name in names[i : i + MAX_PANELS]})
        for i in range(0, len(names), MAX_PANELS)
    ]
    figures = {
        "In short": [(draw_losses(results), "losses_figure")],
        "Where walking on it leads": [(plot, "planes_figure") for plot in planes],
        "The controls": [(draw_controls(results), "controls_figure")],
    }
    tables = {
        "Why the loss is flat": ("The loss: expected and measured", loss_rows(results)),
        "Why the space looked better": ("Near, and ranked right", near_rows(results)),
    }
    sections = []
    for heading, lines in collect_findings(results).items():
        plots = [(p, _text(caption)) for p, caption in figures.get(heading, ()) if p is not None]
        rows = [tables[heading]] if heading in tables and len(tables[heading][1]) > 1 else []
        sections.append(Section(heading, lines, plots, rows))
    recipes = [["", "what it is"]]
    recipes += [[a["name"], s] for a in results["arms"] if (s := recipe_summary(a["name"]))]
    tried = _make_section("What was tried", "background", [("The recipes", recipes)])
    sections.insert(1, tried)
    expectations, title = list_expectations(results), "What they expected and guessed"
    if len(expectations) > 1:
        sections.insert(6, _make_section(title, "expectations", [(title, expectations)]))
    published = [
        (title, [[cell.strip() for cell in line.split("|")] for line in lines.splitlines()])
        for title, lines in PUBLISHED_TABLES.items()
    ]
    few = {len(row["seeds"]) for row in results["fewer_labels"]["rows"] if row["share"] < 1}
    few_seeds = min(few) if few - {results["seeds"]} else None
    sections += [
        _make_section("What the published system reported", "published", published),
        Section("All tables", tables=list(make_tables(results).items())),
        _make_section("What is not reproduced", "seams"),
        _make_section("How it was measured", "method", results=results, few_seeds=few_seeds),
    ]
    complete = [s for s in sections if s.paragraphs or s.figures or s.tables]
    return page(f"The published pre-training on {results['data']}", complete)


def _make_section(
    heading: str, macro: str, tables: Sequence[tuple[str, Rows]] = (), **values: object
) -> Section:
    return Section(heading, _text(macro, **values).split("\n\n"), tables=tables)


def loss_rows(results: Json) -> Rows:
    """Make a row of each pre-training: its steps, and the loss, expected and measured."""
    rows = [["", "steps", "pairs", "random partners", "mean", "first tenth", "last tenth", "ratio"]]
    for arm in pretrained_arms(results):
        expected, losses = arm["expected_loss"], summarise_losses(arm)
        cells = [f"{loss:,.1f}" for loss in losses.values()]
        ratio = "-" if expected is None else figure(losses["mean"] / expected)
        predicted = "-" if expected is None else f"{expected:,.1f}"
        steps = "0" if arm["name"] == NO_STEPS else f"{arm['steps']:,}"
        pairs = f"{arm['pairs_per_batch']:.1f}"
        rows.append([arm["name"], steps, pairs, predicted, *cells, ratio])
    return rows


def near_rows(results: Json) -> Rows:
    """Make a row of each recipe: which vectors are near which, and how the same vectors rank."""
    arms = {arm["name"]: arm for arm in results["arms"]}
    rows = [["", *NEAR.values()]]
    for name in (name for name in COMPARED if name in arms):
        means = [arms[name][part][key]["mean"] for part, key in NEAR]
        rows.append([name, *("-" if mean is None else figure(mean) for mean in means)])
    return rows


def make_tables(results: Json, *, brief: bool = False) -> dict[str, Rows]:
    """Make each table's title and rows; if brief, fewer of both, for a terminal."""
    tables: dict[str, Rows] = {}
    for part, title in PARTS.items():
        if arms := [arm for arm in results["arms"] if arm["part"] == part]:
            tables[title] = quality_rows(arms, brief=brief)
    minus = "with pre-training minus without"
    if results["reading"]:
        tables["What the encoder reads: differences"] = difference_rows(results["reading"], "arm")
    if results["differences"]:
        tables[f"All labels: {minus}"] = difference_rows(results["differences"], "arm")
    fewer = results["fewer_labels"]
    for kind in dict.fromkeys(row["fewer_of"] for row in fewer["rows"]):
        title = f"Fewer labels of type {kind}, on its queries" if kind else "Fewer labels"
        rows, changes = (
            [row for row in fewer[part] if row["fewer_of"] == kind]
            for part in ("rows", "differences")
        )
        tables[f"{title}: top-3 accuracy"] = _share_rows(rows, kind)
        if not brief:
            tables[f"{title}: {minus}"] = difference_rows(changes, "share", "arm")
    return tables


def quality_rows(arms: Sequence[Json], *, brief: bool = False) -> Rows:
    """As in the handover: top-3 accuracy and MAP@3 in all and by type, and the two distances.

    If brief, without spreads over seeds, and of the distances with the type AUC alone.
    """
    distances = {"type_auc": "type AUC"} if brief else DISTANCES
    types = list(arms[0]["types"])
    rows = [["top-3 accuracy / MAP@3", "total", *types, *distances.values()]]
    for arm in arms:
        cells = []
        for kind in (None, *types):
            figures, spreads = (
                of["types"][kind] if kind else of["overall"] for of in (arm, arm["spread"])
            )
            pair = (
                with_spread(figures[metric], None if brief else spreads[metric])
                for metric in ("accuracy@3", "map@3")
            )
            cells.append(" / ".join(pair))
        space = arm["geometry"] or {}
        means = [space[name]["mean"] if space else None for name in distances]
        rows.append(
            [arm["name"], *cells, *("-" if mean is None else figure(mean) for mean in means)]
        )
    return rows


def with_spread(value: float, spread: float | None) -> str:
    """A mean over seeds with their standard deviation: .629±.017."""
    return figure(value) if spread is None else f"{figure(value)}±{figure(spread)}"


def _share_rows(rows: Sequence[Json], kind: str | None) -> Rows:
    """A row a recipe, a column a share of the labels: top-3 accuracy in all, or of a type."""
    shares = sorted({row["share"] for row in rows})
    cells: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row["share"]):
        figures, spreads, bounds = (
            of["types"][kind] if kind else of["overall"]
            for of in (row, row["spread"], row["intervals"])
        )
        value = with_spread(figures["accuracy@3"], spreads["accuracy@3"])
        around = interval(bounds["accuracy@3"])
        cells.setdefault(row["name"], []).append(f"{value} ({around})")
    return [["recipe", *(f"{s:.0%}" for s in shares)], *([n, *c] for n, c in cells.items())]
