"""A plan as an aligned table, with what it rests on below."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from twinrank.planning import Plan, Requirement, format_duration, format_size
from twinrank.reports.terminal import aligned


def plan_table(plan: Plan) -> RenderableType:
    """A row a stage; below it what does not fit, and each assumption in a line."""
    w = plan.workload
    questions = f", {w.qps:,.4g} questions a second" if w.qps else ""
    table = aligned(
        f"{w.recipe.name}: {w.answers:,.0f} answers, {w.queries:,.0f} labelled queries{questions}; "
        f"a machine: {plan.machine.name}"
    )
    table.add_column("")
    for name in ("memory", "disk", "time, one machine", "machines"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for needs in plan.stages:
        style = "" if needs.fits else "red"
        memory = Text(format_size(needs.memory) if needs.memory else "", style)
        disk = format_size(needs.disk) if needs.disk else ""
        time = format_duration(needs.seconds) if needs.seconds else ""
        table.add_row(needs.stage, memory, disk, time, _machines(needs), Text(needs.note, "dim"))
    warnings = [
        Text(
            f" ! {needs.stage} takes {format_size(needs.memory)} in one machine, which has "
            f"{format_size(needs.room)}: {100 * needs.share:.2g} % of the answers and queries fit; "
            f"{needs.mend}",
            "yellow",
        )
        for needs in plan.stages
        if not needs.fits
    ]
    return Group(table, *warnings, *(Text(f" - {line}") for line in plan.assumptions))


def _machines(needs: Requirement) -> Text:
    if not needs.fits:
        return Text("does not fit", "red")
    return Text(f"{needs.machines:,}" if needs.machines else "")
