"""A plan as an aligned table, with what it rests on below."""

from __future__ import annotations

from rich.console import Group
from rich.filesize import decimal
from rich.text import Text

from twinrank.planning import Plan, format_duration
from twinrank.reports.terminal import fill_table


def plan_table(plan: Plan) -> Group:
    """A row a stage; below it what does not fit, and each assumption in a line."""
    w = plan.workload
    questions = f", {w.qps:,.4g} questions a second" if w.qps else ""
    title = (
        f"{w.recipe.name}: {w.answers:,.0f} answers, {w.queries:,.0f} labelled queries{questions}; "
        f"a machine: {plan.machine.name}"
    )
    rows, warnings = [["", "memory", "disk", "time, one machine", "machines", ""]], []
    for needs in plan.stages:
        memory, disk, room = (decimal(int(n)) for n in (needs.memory, needs.disk, needs.room))
        machines = f"{needs.machines:,}" if needs.fits else "does not fit"
        time, disk = format_duration(needs.seconds), disk if needs.disk else ""
        rows.append([needs.stage, memory, disk, time, machines, needs.note])
        if not needs.fits:
            warning = f" ! {needs.stage} takes {memory} in one machine, which has {room}"
            warnings.append(Text(f"{warning}: {needs.mend}", "yellow"))
    table = fill_table(Text(title), rows, left={0, 5})
    return Group(table, *warnings, *(Text(f" - {line}") for line in plan.assumptions))
