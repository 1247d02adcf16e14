"""A plan as an aligned table, with what it rests on below."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from twinrank.planning import Needs, Plan
from twinrank.report.tables import aligned

UNITS = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
HOUR, MINUTE = 3600, 60


def plan_table(plan: Plan) -> RenderableType:
    """A row a stage; below it what does not fit, and each assumption in a line."""
    w = plan.workload
    asked = f", {w.qps:,.4g} questions a second" if w.qps else ""
    table = aligned(
        f"{w.recipe.name}: {w.answers:,.0f} answers, {w.queries:,.0f} labelled queries{asked}; "
        f"a machine: {plan.machine.name}"
    )
    table.add_column("")
    for name in ("memory", "disk", "time of one", "machines"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for needs in plan.stages:
        style = "" if needs.fits else "red"
        held = Text(size(needs.memory) if needs.memory else "", style)
        disk = size(needs.disk) if needs.disk else ""
        time = duration(needs.seconds) if needs.seconds else ""
        table.add_row(needs.stage, held, disk, time, _machines(needs), Text(needs.note, "dim"))
    short = [
        Text(
            f" ! {needs.stage} takes {size(needs.memory)} in one machine, which has "
            f"{size(needs.room)}: {needs.share:.2g} of the answers and queries fit; {needs.mend}",
            "yellow",
        )
        for needs in plan.stages
        if not needs.fits
    ]
    own = [Text(" * the recipe's own", "dim")] if w.recipe.training else []
    return Group(table, *own, *short, *(Text(f" - {line}") for line in plan.assumptions))


def size(count: float) -> str:
    """Bytes with three digits: 1.23 GB."""
    for least, unit in UNITS:
        if count >= least:
            return f"{_three(count / least)} {unit}"
    return f"{count:,.0f} B"


def duration(seconds: float) -> str:
    """Milliseconds, seconds, minutes or hours with three digits: 1.23 h."""
    if seconds < 1:
        return f"{_three(1e3 * seconds)} ms"
    if seconds < MINUTE:
        return f"{_three(seconds)} s"
    if seconds < HOUR:
        return f"{_three(seconds / MINUTE)} min"
    return f"{_three(seconds / HOUR)} h"


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _machines(needs: Needs) -> Text:
    if not needs.fits:
        return Text("does not fit", "red")
    return Text(f"{needs.machines:,}" if needs.machines else "")
