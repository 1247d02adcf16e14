"""The figures of a sweep: its history, its values side by side, and what matters."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import plot_parallel_coordinate
from plotly.graph_objects import Bar, Figure, Scatter

from twinrank.experiments.sweep import BEST_SHARE
from twinrank.reports.figures import BLUE, GREY, ORANGE, styled
from twinrank.reports.terminal import figure

if TYPE_CHECKING:
    from twinrank.experiments.sweep import Sweep

NAMES = {"loss": "validation loss", "worst-type": "worst type's validation MAP@10"}
WHOLE, PRUNED = ("whole", BLUE, "circle"), ("pruned", ORANGE, "circle-open")


def history_figure(sweep: Sweep) -> Figure:
    """What each trial reached, and the best so far."""
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
        own = [t for t in trials if t.state == state and math.isfinite(sweep.reached(t))]
        plot.add_trace(
            Scatter(
                x=[trial.number for trial in own],
                y=[sweep.reached(trial) for trial in own],
                mode="markers",
                name=name,
                marker={"color": colour, "symbol": symbol, "size": 8},
                hovertext=[_hover(sweep, trial) for trial in own],
                hoverinfo="text",
            )
        )
    plot.update_xaxes(title_text="trial")
    plot.update_yaxes(title_text=NAMES[sweep.search.objective], range=_range(sweep))
    return styled(plot, "What each trial reached")


def parallel_figure(sweep: Sweep) -> Figure:
    """Optuna's parallel coordinates, the best quarter of the trials over the others."""
    objective, fields = NAMES[sweep.search.objective], list(sweep.search.ranges.of)
    plot = plot_parallel_coordinate(sweep.whole, fields, target_name=objective)
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
    """How much each field matters, in two ways."""
    rows = sweep.importances[::-1]  # the first on top
    fields = [short_name(one.field, list(sweep.search.ranges.of)) for one in rows]
    ways = (
        ("best quarter", ORANGE, [one.best for one in rows]),
        ("spread", BLUE, [one.spread for one in rows]),
    )
    plot = Figure()
    for name, colour, values in ways:
        marker = {"color": colour}
        plot.add_trace(Bar(x=values, y=fields, orientation="h", name=name, marker=marker))
    plot.update_xaxes(title_text="share", range=[0, 1])
    plot.update_yaxes(automargin=True, ticks="outside", tickcolor="rgba(0,0,0,0)")
    plot.update_layout(legend_traceorder="reversed")
    return styled(plot, "How much a field matters", height=200 + 70 * len(rows))


def _range(sweep: Sweep) -> list[float]:
    """What is shown of the objective: outliers would squeeze all else."""
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
    """A field by its own name, where no other table of the sweep has one like it."""
    own = path.split(".")[1]
    alike = sum(other.split(".")[1] == own for other in fields)
    return own.replace("_", " ") if alike == 1 else path


def cell(value: object, digits: int = 3) -> str:
    """A value; so many figures of a fraction."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}g}" if value == 0 or abs(value) >= 0.01 else _scientific(value, digits)


def _scientific(value: float, digits: int) -> str:
    shown, power = f"{value:.{digits - 1}e}".split("e")
    return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown}e{int(power)}"
