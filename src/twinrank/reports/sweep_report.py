"""The results of a sweep: a table for the terminal, the best recipe, and a page with figures."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import plot_parallel_coordinate
from plotly.graph_objects import Bar, Figure, Scatter
from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinrank.experiments.sweep import BEST_SHARE, Sweep
from twinrank.files import write_file
from twinrank.reports.figures import BLUE, GREY, ORANGE, styled
from twinrank.reports.page import Rows, Section, page
from twinrank.reports.terminal import aligned, figure

MAX_TRIALS_SHOWN = 10  # on the terminal
NAMES = {"loss": "validation loss", "worst-type": "worst type's validation MAP@10"}
WHOLE, PRUNED = ("whole", BLUE, "circle"), ("pruned", ORANGE, "circle-open")


def write_sweep(sweep: Sweep, folder: Path) -> list[Path]:
    """Write best.toml, sweep.json and sweep.html; give their paths."""
    texts = {
        "best.toml": sweep.best_toml,
        "sweep.json": json.dumps(sweep.as_dict(), indent=2) + "\n",
        "sweep.html": sweep_page(sweep),
    }
    return [write_file(folder / name, text) for name, text in texts.items()]


def sweep_table(sweep: Sweep) -> Group:
    """List the best trials, and the importance of each field."""
    head, *rows = _trial_rows(sweep, digits=2)  # and no more columns than 80 signs hold
    table = aligned(describe_sweep(sweep))
    wide = [i for i, name in enumerate(head) if name not in ("epochs", "seconds")]
    _fill(table, [[row[i] for i in wide] for row in (head, *rows[:MAX_TRIALS_SHOWN])])
    if len(rows) > MAX_TRIALS_SHOWN:
        table.caption = f"... and {len(rows) - MAX_TRIALS_SHOWN} more, in sweep.html"
        table.caption_justify = "left"
    parts: list[Table | Text] = [table]
    if sweep.importances:
        matters = aligned("How much a field matters, told from few trials:")
        _fill(matters, _importance_rows(sweep))
        parts.append(matters)
    return Group(*parts)


def sweep_page(sweep: Sweep) -> str:
    """Write the whole sweep as one HTML document.

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
        figures = [(importance_figure(sweep), IMPORTANCE)]
        tables = [("How much a field matters", rows)]
        sections.append(Section("Which field matters", [UNCERTAIN], figures, tables))
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


def describe_sweep(sweep: Sweep) -> str:
    """Count the trials, and say why one failed."""
    trials = sweep.trials
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    failed = [f"trial {number} failed: {why}." for number, why in sweep.failed.items()]
    about = (
        f"{sweep.search.recipe.name} on {sweep.search.dataset.name}, validation split: "
        f"{len(trials):,} trials, {pruned:,} of them pruned."
    )
    return " ".join([about, *failed[:1], *([f"{len(failed):,} failed."] if failed[1:] else [])])


def _short(sweep: Sweep) -> list[str]:
    """Say the results in sentences."""
    name, best = NAMES[sweep.search.objective], sweep.trials[0]
    sentence = f"The best {name} is {figure(sweep.reached(best))}, of trial {best.number}"
    start = sweep.search.ranges.start(sweep.search.recipe)
    first = [t for t in sweep.trials if t.params == start and t.state == TrialState.COMPLETE]
    if first:
        sentence += f"; the recipe as it was reaches {figure(sweep.reached(first[0]))}"
    sentences = [describe_sweep(sweep), f"{sentence}. The test split was not read."]
    if sweep.importances:
        wide = sweep.importances[0]
        narrow = max(sweep.importances, key=lambda importance: importance.best)
        spread = f"{wide.spread:.0%} of the spread"
        apart = f"{narrow.best:.0%} of what sets the best quarter apart"
        if wide is narrow:
            sentences.append(f"{wide.field} matters most: {spread}, {apart}.")
        else:
            sentences.append(
                f"The two measures disagree on which field matters most: {wide.field}, {spread}, "
                f"or {narrow.field}, {apart}."
            )
    return sentences


def _best_rows(sweep: Sweep) -> Rows:
    """List each field's range, the recipe's value, and the best."""
    rows = [["field", "range", "in the recipe", "best"]]
    was, best = sweep.search.recipe.values(), sweep.trials[0].params
    for path, given in sweep.search.ranges.values().items():
        table, field = path.split(".")
        choices = given.get("choices")
        between = ", ".join(map(cell, choices)) if choices else _between(given)
        rows.append([path, between, cell(was[table].get(field)), cell(best[path])])
    return rows


def _between(given: dict[str, Any]) -> str:
    log = ", on a log scale" if given["log"] else ""
    return f"from {cell(given['low'])} to {cell(given['high'])}{log}"


def _trial_rows(sweep: Sweep, *, digits: int = 3) -> Rows:
    """List the trials, best first: their values, and their figures on validation.

    Of a pruned one the objective alone is known, at its best epoch.
    """
    fields = list(sweep.search.ranges.fields)
    measured = ["loss", "top-3", "MAP@10", "worst"]
    head = ["trial", *(short_name(path, fields) for path in fields), *measured]
    rows = [[*head, "epochs", "seconds", ""]]
    for trial in sweep.trials:
        quality = trial.user_attrs.get("quality")
        if quality:
            worst = min(of_type["map@10"] for of_type in quality["types"].values())
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


def history_figure(sweep: Sweep) -> Figure:
    """Draw the value of each trial, and the best so far."""
    plot = Figure()
    trials = sorted(sweep.trials, key=lambda trial: trial.number)
    best, x, y = math.inf, [], []
    sign = 1 if sweep.search.lower_is_better else -1
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            best = min(best, sign * sweep.reached(trial))
            x.append(trial.number)
            y.append(sign * best)
    plot.add_trace(Scatter(x=x, y=y, mode="lines", name="best so far", line={"color": GREY}))
    looks = {TrialState.COMPLETE: WHOLE, TrialState.PRUNED: PRUNED}
    for state, (name, colour, symbol) in looks.items():
        shown = [t for t in trials if t.state == state and math.isfinite(sweep.reached(t))]
        plot.add_trace(
            Scatter(
                x=[trial.number for trial in shown],
                y=[sweep.reached(trial) for trial in shown],
                mode="markers",
                name=name,
                marker={"color": colour, "symbol": symbol, "size": 8},
                hovertext=[_hover(sweep, trial) for trial in shown],
                hoverinfo="text",
            )
        )
    plot.update_xaxes(title_text="trial")
    plot.update_yaxes(title_text=NAMES[sweep.search.objective], range=_range(sweep))
    return styled(plot, "What each trial reached")


def parallel_figure(sweep: Sweep) -> Figure:
    """Draw parallel coordinates, the best quarter of the trials over the others."""
    objective, fields = NAMES[sweep.search.objective], list(sweep.search.ranges.fields)
    plot = plot_parallel_coordinate(sweep.completed, fields, target_name=objective)
    *lines, _colours = plot.data  # their first point is the objective
    lines.sort(key=lambda line: line.y[0], reverse=sweep.search.lower_is_better)
    best = len(lines) - math.ceil(BEST_SHARE * len(lines))
    for i, line in enumerate(lines):
        line.update(line_color=BLUE if i >= best else GREY, opacity=0.9 if i >= best else 0.25)
    plot.data = lines
    plot.update_xaxes(ticktext=[objective, *(short_name(path, fields) for path in sorted(fields))])
    plot.update_annotations(font_color=GREY)
    return styled(plot, "The values of each trial")


def importance_figure(sweep: Sweep) -> Figure:
    """Draw the importance of each field, by two measures."""
    rows = sweep.importances[::-1]  # the first on top
    fields = [short_name(row.field, list(sweep.search.ranges.fields)) for row in rows]
    measures = (
        ("best quarter", ORANGE, [row.best for row in rows]),
        ("spread", BLUE, [row.spread for row in rows]),
    )
    plot = Figure()
    for name, colour, values in measures:
        marker = {"color": colour}
        plot.add_trace(Bar(x=values, y=fields, orientation="h", name=name, marker=marker))
    plot.update_xaxes(title_text="share", range=[0, 1])
    plot.update_yaxes(automargin=True, ticks="outside", tickcolor="rgba(0,0,0,0)")
    plot.update_layout(legend_traceorder="reversed")
    return styled(plot, "How much a field matters", height=200 + 70 * len(rows))


def _range(sweep: Sweep) -> list[float]:
    """Choose the range of the objective that is shown: outliers would squeeze the others."""
    values = sorted(v for t in sweep.trials if math.isfinite(v := sweep.reached(t)))
    low, high = values[0], values[-1]
    quarter = (values[len(values) // 4], values[-1 - len(values) // 4])
    reach = 3 * (quarter[1] - quarter[0]) or (high - low)
    low, high = max(low, quarter[0] - reach), min(high, quarter[1] + reach)
    edge = 0.05 * (high - low) or 0.1
    return [low - edge, high + edge]


def _hover(sweep: Sweep, trial: FrozenTrial) -> str:
    values = [f"{path}: {cell(value)}" for path, value in trial.params.items()]
    head = f"<b>trial {trial.number}</b>, {figure(sweep.reached(trial))}"
    return "<br>".join([head, *(html.escape(line, quote=False) for line in values)])


def short_name(path: str, fields: Sequence[str]) -> str:
    """Name a field without its table, where no other table of the sweep has one like it."""
    name = path.split(".")[1]
    alike = sum(field.split(".")[1] == name for field in fields)
    return name.replace("_", " ") if alike == 1 else path


def cell(value: object, digits: int = 3) -> str:
    """Write a value, with so many digits of a fraction."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}g}" if value == 0 or abs(value) >= 0.01 else _scientific(value, digits)


def _scientific(value: float, digits: int) -> str:
    shown, power = f"{value:.{digits - 1}e}".split("e")
    return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown}e{int(power)}"
