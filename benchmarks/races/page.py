"""A run for people: a table for the terminal, and one page that opens from disk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from plotly.graph_objects import Figure
from rich.table import Table
from rich.text import Text

from races.kept import Stored
from races.ratio import AS_BEFORE, Ratio
from races.results import Result, Results
from twinrank.reports.figures import COLOURS, GREEN, GREY, RED, styled
from twinrank.reports.page import Note, Rows, Section, page
from twinrank.reports.terminal import aligned

BUSY = 0.1  # share of the cores that others kept busy, beyond which a machine is called busy
TICKS = [a * 10**p for p in range(-2, 5) for a in (1, 3)]
CHANGES = [0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10]
READ = (
    "How many times ours is as good as the peer, measured side by side; right of the line at 1, "
    "ours is better. Lines end where 95 % intervals over passes do. An open mark is the run before."
)
READ_CHANGE = (
    "This run's ratio over the run before's. Intervals hold for all races together: by chance, "
    "one or more lies beside the line at 1 in one of twenty runs at most."
)
METHOD = (
    "Ours and the peer take turns in one process, and a turn's ratio is what counts, since both "
    "meet the same load of the machine. The median over turns stands for a pass; a pass is a "
    "process of its own, and intervals are Student's over passes, on the logarithm of the ratio. "
    "Runs are compared by Welch's interval of the ratio of their ratios, its level raised for the "
    "number of races (Bonferroni). The floor of encoding is the least time that its products take "
    "at the rate that the machine multiplies at, measured in every turn. A training epoch of ours "
    "reads stored features: the one encoding they take is not in it."
)


def bench_table(found: Results) -> Table:
    """A row a race: both values, the ratio with its interval, the change."""
    table = aligned(_about(found))
    head, *rows = _race_rows(found)
    for i, name in enumerate(head):
        left = i in (0, 1) or name == "since"
        table.add_column(name, justify="left" if left else "right", no_wrap=i > 1)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def bench_page(found: Results) -> str:
    """The whole run as one HTML document."""
    named = found.now.about["data"].split(" ")[0]
    sections = [
        Section("In short", [_about(found)], notes=_notes(found)),
        Section(
            "Beside peers",
            figures=[(ratios_figure(found), READ)],
            tables=[("Medians over passes, and ratios", _race_rows(found))],
        ),
    ]
    if found.before and any(one.change for one in found.races):
        sections.append(
            Section(
                "Since the run before",
                [f"The run before: {_date(found.before)}, {found.before.about['commit']}."],
                figures=[(change_figure(found), READ_CHANGE)],
                tables=[("Ratios of the two runs", _change_rows(found))],
            )
        )
    sections.append(Section("How it was measured", [METHOD], folded=_details(found)))
    return page(f"twinrank beside peers, on {named}", sections)


def ratios_figure(found: Results) -> Figure:
    """Each race's ratio on a logarithmic axis, with its interval."""
    plot = Figure()
    former = [one for one in found.races if one.before]
    if former:
        _marks(
            plot,
            found.races,
            [(one, one.before) for one in former if one.before],
            "the run before",
            {"color": GREY, "symbol": "circle-open", "size": 11},
            [f"the run before: {_times(one.before)}" for one in former],
        )
    texts = [
        f"<b>{one.unit.title}</b><br>against {one.unit.peer}<br>{_number(one.ours)} and "
        f"{_number(one.peer)} {one.unit.measure}<br>{_times(one.ratio)}"
        for one in found.races
    ]
    own = [(one, one.ratio) for one in found.races]
    _marks(plot, found.races, own, "this run", {"color": COLOURS[0], "size": 10}, texts)
    plot.update_layout(showlegend=bool(former))
    return _framed(plot, found.races, TICKS, "times as good as the peer")


def change_figure(found: Results) -> Figure:
    """Each race's change since the run before, in the colour of what may be said of it."""
    plot = Figure()
    compared = [one for one in found.races if one.change]
    for side, colour, symbol in ((1, GREEN, "circle"), (-1, RED, "diamond"), (0, GREY, "square")):
        own = found.changed(side)
        if own:
            _marks(
                plot,
                compared,
                [(one, one.change) for one in own if one.change],
                {1: "better", -1: "worse", 0: AS_BEFORE}[side],
                {"color": colour, "symbol": symbol, "size": 10},
                [f"<b>{one.unit.title}</b>: {one.verdict}<br>{_times(one.change)}" for one in own],
            )
    plot.update_layout(showlegend=True)
    return _framed(plot, compared, CHANGES, "times the run before")


def _marks(
    plot: Figure,
    shown: Sequence[Result],
    pairs: Sequence[tuple[Result, Ratio]],
    name: str,
    marker: dict[str, object],
    texts: Sequence[str],
) -> None:
    places = {one.unit.name: place for place, one in enumerate(shown)}
    values = [ratio.value for _, ratio in pairs]
    bounds = [ratio.interval or (ratio.value, ratio.value) for _, ratio in pairs]
    plot.add_scatter(
        x=values,
        y=[places[one.unit.name] for one, _ in pairs],
        error_x={
            "array": [high - value for value, (_, high) in zip(values, bounds, strict=True)],
            "arrayminus": [value - low for value, (low, _) in zip(values, bounds, strict=True)],
            "color": marker["color"],
            "thickness": 1.5,
        },
        mode="markers",
        marker=marker,
        name=name,
        hovertext=list(texts),
        hoverinfo="text",
    )


def _framed(plot: Figure, shown: Sequence[Result], ticks: Sequence[float], title: str) -> Figure:
    names = [one.unit.title + _peer(one, shown) for one in shown]
    plot.add_vline(x=1, line={"color": GREY, "width": 1.5})
    labels = [f"{tick:g}" for tick in ticks]
    plot.update_xaxes(type="log", tickvals=ticks, ticktext=labels, title_text=title)
    plot.update_yaxes(range=[len(names) - 0.5, -0.5], automargin=True)
    plot.update_yaxes(tickvals=list(range(len(names))), ticktext=names, tickfont_size=12)
    styled(plot, "", height=170 + 30 * len(names))
    return plot.update_layout(margin={"t": 20, "l": 10})


def _about(found: Results) -> str:
    about, machine = found.now.about, found.now.about["machine"]
    cores, others = machine["cores"], max(found.now.others)
    taken = f"; other processes kept up to {others:.1f} cores busy"
    busy = taken if others > BUSY * cores else ""
    return (
        f"{_date(found.now)}, commit {about['commit']}, {about['data'].split(' ')[0]}; "
        f"{machine['cpu']}, {cores} cores, {about['passes']} passes{busy}."
    )


def _date(run: Stored) -> str:
    return f"{datetime.fromisoformat(run.about['date']):%Y-%m-%d %H:%M} UTC"


def _notes(found: Results) -> list[Note]:
    """What changed, and where ours is behind."""
    notes = [_changed("mend", one, "See what has changed since.") for one in found.changed(-1)]
    notes += [_changed("fine", one, "Nothing to do.") for one in found.changed(1)]
    behind = [one for one in found.races if one.ratio.side < 0]
    for one in behind:
        says = f"{one.unit.title}: {_times(one.ratio)} as good as {one.unit.peer}."
        notes.append(Note("know", "behind its peer", says, "Look where the time goes."))
    for title, why in found.missing.items():
        notes.append(Note("know", "not measured", f"{title}: {why}", "Install it and run again."))
    if found.before is None:
        says = "There is no earlier run on such a machine and these data to compare with."
        notes.append(Note("know", "the first", says, "Run it again after a change: `make bench`."))
    elif not found.changed(1) and not found.changed(-1):
        says = f"All {len(found.changed(0))} races are as before, as far as their noise lets tell."
        notes.append(Note("fine", AS_BEFORE, says, "Nothing to do."))
    return notes


def _changed(tone: str, one: Result, do: str) -> Note:
    says = f"{one.unit.title}, against {one.unit.peer}: {_times(one.change)} the run before's."
    return Note(tone, one.verdict, says, do, "Since the run before")


def _race_rows(found: Results) -> Rows:
    head = ["race", "against", "measure", "ours", "peer", "ratio", "95 %", "of floor", "since"]
    return [
        head,
        *(
            [
                one.unit.title,
                one.unit.peer,
                one.unit.measure,
                _number(one.ours),
                _number(one.peer),
                _number(one.ratio.value),
                _interval(one.ratio),
                "-" if one.floor_share is None else f"{one.floor_share:.2f}".removeprefix("0"),
                one.verdict or "-",
            ]
            for one in found.races
        ),
    ]


def _change_rows(found: Results) -> Rows:
    rows = [["race", "against", "before", "now", "change", "interval", "verdict"]]
    for one in found.races:
        if one.change and one.before:
            ratios = [_number(r.value) for r in (one.before, one.ratio, one.change)]
            rows.append(
                [one.unit.title, one.unit.peer, *ratios, _interval(one.change), one.verdict]
            )
    return rows


def _details(found: Results) -> list[tuple[str, Rows]]:
    """Versions of both runs, and how busy the machine was."""
    runs = [found.now, *([found.before] if found.before else [])]
    head = ["", "this run", "the run before"][: len(runs) + 1]
    names = found.now.about["versions"]
    rows = [[name, *(run.about["versions"].get(name, "-") for run in runs)] for name in names]
    others = [f"{min(run.others):.1f} to {max(run.others):.1f}" for run in runs]
    rows.append(["cores of others", *others])
    rows.append(["commit", *(run.about["commit"] for run in runs)])
    return [("Versions, and what others took", [head, *rows])]


def _peer(one: Result, among: Sequence[Result]) -> str:
    """The peer behind a title that several races have."""
    several = sum(other.unit.title == one.unit.title for other in among) > 1
    return f"<br>{one.unit.peer}" if several else ""


def _times(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    around = f" ({_interval(ratio)})" if ratio.interval else ""
    return f"{_number(ratio.value)} times{around}"


def _interval(ratio: Ratio) -> str:
    return "-" if ratio.interval is None else " to ".join(map(_number, ratio.interval))


def _number(value: float) -> str:
    """Three figures that count: 0.123, 1.23, 123, 1,230."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:#.3g}".rstrip(".")
