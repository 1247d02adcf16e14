"""What came of learning from feedback, as a table and a line that says what was done."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinrank.feedback import METRIC, Compared, Learning
from twinrank.reports.terminal import aligned, figure


def learning_table(learning: Learning) -> Group:
    """What was learned; the old and the new ranker by type; which of them stands now, and why."""
    counts = learning.counts
    table = aligned("")
    table.add_column("", no_wrap=True)
    for name in ("top-3", "new", "MAP@10", "new", "difference", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in learning.compared:
        _add(table, each)
    lines = [Text(line) for line in (*learning.notes, *learning.worse, _outcome(learning))]
    head = Text(f"{counts.verdicts:,} verdicts: {counts}\n")
    return Group(head, table, *lines) if learning.compared else Group(head, *lines)


def _add(table: Table, compared: Compared) -> None:
    """A row overall and one a type: top-3 and MAP@10, old and new; the difference of MAP@10."""
    table.add_row(Text(compared.on, style="bold"))
    for difference in compared.differences:
        if difference.metric != METRIC:
            continue
        kind, around = difference.kind, difference.interval
        cells = [
            figure(evaluation.types[kind][metric] if kind else evaluation.overall[metric])
            for metric in ("accuracy@3", METRIC)
            for evaluation in (compared.old, compared.new)
        ]
        gain = Text(signed(difference.mean))
        if around:
            gain.append("\n" + " to ".join(map(signed, around)), style="dim")
        count = compared.new.counts["types"][kind] if kind else compared.new.counts["overall"]
        label = Text(f"  {kind or 'overall'}").append(f"\n  {count:,} queries", style="dim")
        table.add_row(label, *cells, gain, figure(difference.p))
    table.add_section()


def signed(value: float) -> str:
    """A difference with its sign: +.012, -.003."""
    return f"{value:+.3f}".replace("0.", ".", 1)


def _outcome(learning: Learning) -> str:
    if learning.replaced:
        return (
            f"{learning.ranker}: the new ranker has taken the old one's place; "
            f"`twinrank learn {learning.ranker} --rollback` takes it back"
        )
    why = ": the new one is worse" if learning.worse else ""
    return f"{learning.ranker}: the old ranker stays{why}"
