"""What a sweep has found: a table for the terminal, the best recipe, and one page with figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinrank.files import write_file
from twinrank.reports.page import Rows, Section, page
from twinrank.reports.sweep_figures import (
    NAMES,
    cell,
    history_figure,
    importance_figure,
    parallel_figure,
    short_name,
)
from twinrank.reports.terminal import aligned, figure

if TYPE_CHECKING:
    from twinrank.experiments.sweep import Sweep

SHOWN = 10  # trials on the terminal


def write_sweep(sweep: Sweep, folder: Path) -> list[Path]:
    """Write best.toml, sweep.json and sweep.html; give their paths."""
    texts = {
        "best.toml": sweep.best_toml,
        "sweep.json": json.dumps(sweep.as_dict(), indent=2) + "\n",
        "sweep.html": sweep_page(sweep),
    }
    return [write_file(folder / name, text) for name, text in texts.items()]


def sweep_table(sweep: Sweep) -> Group:
    """The best trials, a row each, and how much each field matters."""
    head, *rows = _trial_rows(sweep, digits=2)  # and no more columns than 80 signs hold
    table = aligned(_about(sweep))
    wide = [i for i, name in enumerate(head) if name not in ("epochs", "seconds")]
    _fill(table, [[row[i] for i in wide] for row in (head, *rows[:SHOWN])])
    if len(rows) > SHOWN:
        table.caption = f"... and {len(rows) - SHOWN} more, in sweep.html"
        table.caption_justify = "left"
    parts: list[Table | Text] = [table]
    if sweep.importances:
        matters = aligned("How much a field matters, told from few trials:")
        _fill(matters, _importance_rows(sweep))
        parts.append(matters)
    return Group(*parts)


def sweep_page(sweep: Sweep) -> str:
    """The whole sweep as one HTML document.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    sections = [
        Section("In short", _short(sweep), tables=[("The best values", _best_rows(sweep))]),
        Section("History", figures=[(history_figure(sweep), HISTORY)]),
        Section("Which values are good", figures=[(parallel_figure(sweep), PARALLEL)]),
    ]
    if sweep.importances:
        rows = _importance_rows(sweep)
        drawn = [(importance_figure(sweep), IMPORTANCE)]
        tables = [("How much a field matters", rows)]
        sections.append(Section("Which field matters", [UNCERTAIN], drawn, tables))
    sections.append(Section("All trials", tables=[("Best first", _trial_rows(sweep))]))
    return page(f"Sweep of {sweep.search.recipe.name} on {sweep.search.dataset.name}", sections)


HISTORY = (
    "Each trial in the order they began; a pruned one is drawn at its best epoch. The line is the "
    "best so far."
)
PARALLEL = (
    "Each line is a trial, the best quarter in blue; pruned ones are drawn at their best epoch."
)
IMPORTANCE = (
    "Spread: the share of the objective's variance over the ranges that a random forest puts down "
    "to a field (fANOVA). Best quarter: how far the best quarter of the trials narrows a field "
    "down, as a share of all fields (PED-ANOVA)."
)
UNCERTAIN = (
    "Importances are told from few trials, drawn by a search that soon looks where it is good: "
    "more trials may change the order of the fields."
)


def _about(sweep: Sweep) -> str:
    trials = sweep.trials
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    failed = [f"trial {number} failed: {why}." for number, why in sweep.failed.items()]
    about = (
        f"{sweep.search.recipe.name} on {sweep.search.dataset.name}, validation split: "
        f"{len(trials):,} trials, {pruned:,} of them pruned."
    )
    return " ".join([about, *failed[:1], *([f"{len(failed):,} failed."] if failed[1:] else [])])


def _short(sweep: Sweep) -> list[str]:
    """What was found, in sentences."""
    name, best = NAMES[sweep.search.objective], sweep.trials[0]
    said = f"The best {name} is {figure(sweep.reached(best))}, of trial {best.number}"
    own = sweep.search.ranges.start(sweep.search.recipe)
    first = [t for t in sweep.trials if t.params == own and t.state == TrialState.COMPLETE]
    if first:
        said += f"; the recipe as it was reaches {figure(sweep.reached(first[0]))}"
    told = [_about(sweep), f"{said}. The test split was not read."]
    if sweep.importances:
        wide = sweep.importances[0]
        narrow = max(sweep.importances, key=lambda one: one.best)
        spread = f"{wide.spread:.0%} of the spread"
        apart = f"{narrow.best:.0%} of what sets the best quarter apart"
        if wide is narrow:
            told.append(f"{wide.field} matters most: {spread}, {apart}.")
        else:
            told.append(
                f"The two measures disagree on which field matters most: {wide.field}, {spread}, "
                f"or {narrow.field}, {apart}."
            )
    return told


def _best_rows(sweep: Sweep) -> Rows:
    """Each field's range, the recipe's own value, and the best."""
    rows = [["field", "range", "in the recipe", "best"]]
    was, best = sweep.search.recipe.values(), sweep.trials[0].params
    for path, own in sweep.search.ranges.values().items():
        table, field = path.split(".")
        choices = own.get("choices")
        between = ", ".join(map(cell, choices)) if choices else _between(own)
        rows.append([path, between, cell(was[table].get(field)), cell(best[path])])
    return rows


def _between(own: dict[str, Any]) -> str:
    log = ", on a log scale" if own["log"] else ""
    return f"from {cell(own['low'])} to {cell(own['high'])}{log}"


def _trial_rows(sweep: Sweep, *, digits: int = 3) -> Rows:
    """The trials, best first: their values, and what they reached on validation.

    Of a pruned one the objective alone is known, at its best epoch.
    """
    fields = list(sweep.search.ranges.of)
    measured = ["loss", "top-3", "MAP@10", "worst"]
    head = ["trial", *(short_name(path, fields) for path in fields), *measured]
    rows = [[*head, "epochs", "seconds", ""]]
    for trial in sweep.trials:
        quality = trial.user_attrs.get("quality")
        if quality:
            worst = min(own["map@10"] for own in quality["types"].values())
            known = [quality["loss"], quality["accuracy@3"], quality["map@10"], worst]
            figures = [figure(value) for value in known]
        else:
            figures = ["-"] * 4
            place = 0 if sweep.search.objective == "loss" else 3
            figures[place] = figure(sweep.reached(trial))
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        about = [str(trial.last_step or "-"), f"{seconds:.0f}", "" if quality else "pruned"]
        values = [cell(trial.params[path], digits) for path in fields]
        rows.append([str(trial.number), *values, *figures, *about])
    return rows


def _importance_rows(sweep: Sweep) -> Rows:
    rows = [["field", "spread", "best quarter"]]
    return rows + [[i.field, figure(i.spread), figure(i.best)] for i in sweep.importances]


def _fill(table: Table, rows: Rows) -> None:
    head, *body = rows
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in body:
        table.add_row(*map(Text, row))
