"""The results of a sweep: a table for the terminal, the best recipe, and a page with figures."""

from __future__ import annotations

import json
from pathlib import Path

from optuna.trial import TrialState
from optuna.visualization import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
)
from rich.console import Group, RenderableType
from rich.text import Text

from twinrank.experiments.sweep import MIN_TRIALS_PER_FIELD, Sweep
from twinrank.files import write_file
from twinrank.reports.figures import styled
from twinrank.reports.page import Rows, Section, page
from twinrank.reports.terminal import figure, fill_table

MAX_TRIALS_SHOWN = 10  # on the terminal
NAMES = {"loss": "validation loss", "worst-type": "worst type's validation MAP@10"}
HISTORY = "Each whole trial in the order they began. The line is the best so far."
EPOCHS = "Each line is a trial; those that end early were pruned."
PARALLEL = "Each line is a trial at its best epoch: the towers alone, without fitted weights."
IMPORTANCE = (
    "The share of the objective's variance over the ranges that a random forest puts down to a "
    "field (fANOVA)."
)
UNCERTAIN = (
    "The trials are drawn by a search that soon looks where it is good: more of them may change "
    "the order of the fields."
)
UNKNOWN = (
    f"Too few trials to say, or all of them alike: it takes {MIN_TRIALS_PER_FIELD} trials for each "
    "field."
)


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
    rows = [[*row[:-3], row[-1]] for row in _trial_rows(sweep, digits=2)]  # in 80 columns
    title = describe_sweep(sweep)
    if len(rows) > MAX_TRIALS_SHOWN + 1:
        title += f" The best {MAX_TRIALS_SHOWN}; the others are in sweep.html:"
    tables: list[RenderableType] = [fill_table(title, rows[: MAX_TRIALS_SHOWN + 1], left={0})]
    if sweep.importances:
        tables.append(fill_table("How much a field matters:", _weight_rows(sweep)))
    else:
        tables.append(Text(f"Which field matters: {UNKNOWN[0].lower()}{UNKNOWN[1:]}"))
    return Group(*tables)


def sweep_page(sweep: Sweep) -> str:
    """Write the whole sweep as one HTML document.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    objective, fields = NAMES[sweep.search.objective], list(sweep.search.ranges.fields)
    history = plot_optimization_history(sweep.study, target_name=objective)
    epochs = plot_intermediate_values(sweep.study)
    lines = plot_parallel_coordinate(sweep.completed, fields, target_name=objective)
    sections = [
        _short_section(sweep),
        Section(
            "History",
            figures=[
                (styled(history), HISTORY),
                (styled(epochs.update_layout(xaxis_title="epoch", yaxis_title=objective)), EPOCHS),
            ],
        ),
        Section("Which values are good", figures=[(styled(lines), PARALLEL)]),
        Section(
            "Which field matters",
            [IMPORTANCE, UNCERTAIN] if sweep.importances else [UNKNOWN],
            tables=[("How much a field matters", _weight_rows(sweep))] if sweep.importances else [],
        ),
        Section("All trials", tables=[("Best first", _trial_rows(sweep))]),
    ]
    return page(f"Sweep of {sweep.search.recipe.name} on {sweep.search.dataset.name}", sections)


def describe_sweep(sweep: Sweep) -> str:
    """Count the trials, and say why some failed."""
    pruned = sum(trial.state == TrialState.PRUNED for trial in sweep.trials)
    about = (
        f"{sweep.search.recipe.name} on {sweep.search.dataset.name}, validation split: "
        f"{len(sweep.trials):,} trials, {pruned:,} of them pruned."
    )
    return " ".join([about, *(f"trial {n} failed: {why}." for n, why in sweep.failed.items())])


def _short_section(sweep: Sweep) -> Section:
    name, best = NAMES[sweep.search.objective], sweep.trials[0]
    tiles = [(f"Best {name}, of trial {best.number}", figure(sweep.reached(best)))]
    start = sweep.search.ranges.start(sweep.search.recipe)
    first = [t for t in sweep.trials if t.params == start and t.state == TrialState.COMPLETE]
    if first:
        tiles.append(("The recipe as it was", figure(sweep.reached(first[0]))))
    tiles.append(("Trials", f"{len(sweep.trials):,}"))
    return Section("In short", [describe_sweep(sweep), "The test split was not read."], tiles=tiles)


def _trial_rows(sweep: Sweep, *, digits: int = 3) -> Rows:
    """List the trials, best first: their values, and their figures on validation.

    Of a pruned one the objective alone is known, at its best epoch.
    """
    fields = list(sweep.search.ranges.fields)
    names = [path.split(".")[1].replace("_", " ") for path in fields]
    names = [n if names.count(n) == 1 else path for n, path in zip(names, fields, strict=True)]
    rows = [["trial", *names, "loss", "top-3", "MAP@10", "worst", "epochs", "seconds", ""]]
    for trial in sweep.trials:
        quality = trial.user_attrs.get("quality")
        if quality:
            worst = min(of_type["map@10"] for of_type in quality["types"].values())
            known = [quality["loss"], quality["accuracy@3"], quality["map@10"], worst]
            figures = [figure(value) for value in known]
        else:
            figures = ["-"] * 4
            figures[0 if sweep.search.objective == "loss" else 3] = figure(sweep.reached(trial))
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        about = [str(trial.last_step or "-"), f"{seconds:.0f}", "" if quality else "pruned"]
        values = [format_value(trial.params[path], digits) for path in fields]
        rows.append([str(trial.number), *values, *figures, *about])
    return rows


def _weight_rows(sweep: Sweep) -> Rows:
    return [
        ["field", "share"],
        *([field, figure(share)] for field, share in sweep.importances.items()),
    ]


def format_value(value: object, digits: int = 3) -> str:
    """Write a value, with so many digits of a fraction: 0.536, 1.5e-5."""
    return f"{value:.{digits}g}".replace("e-0", "e-") if isinstance(value, float) else str(value)
