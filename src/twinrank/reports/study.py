"""What a study found, in tables as the handover document's, on disk and in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinrank.evaluation import View
from twinrank.files import write_file
from twinrank.ranking.model_card import markdown as escaped
from twinrank.ranking.model_card import markdown_table
from twinrank.reports.geometry_report import centroid_figure
from twinrank.reports.page import CONFIG, check_installed
from twinrank.reports.study_text import PUBLISHED_TABLES
from twinrank.reports.terminal import aligned, figure, interval

Json = dict[str, Any]
Rows = list[list[str]]  # the head first

DISTANCES = {
    "centroid_distance": "centroid dist.",
    "centroid_distance_relative": "relative",
    "answer_distance": "answer dist.",
    "answer_distance_relative": "relative",
    "type_auc": "type AUC",
}
BRIEF = {
    "centroid_distance_relative": "centroids",
    "answer_distance_relative": "answer",
    "type_auc": "type AUC",
}
# Which recipe reads texts as each row of the published table does, from its second on.
READ_ALIKE = ("handover-tfidf", "handover-sections", "handover-512")
MINUS = "with pre-training minus without"
PARTS = {
    "recipes": "Recipes",
    "controls": "Controls: why it collapsed",
    "reading": "What the encoder reads",
    "added": "Added",
}


def study_tables(results: Json) -> Group:
    """The tables of a study for the terminal: brief, and without differences by type."""
    in_all = {
        name: [d for d in results[name] if d["type"] is None] for name in ("differences", "reading")
    }
    shown = tables({**results, **in_all}, brief=True)
    return Group(*(_rich(title, rows) for title, rows in shown.items()))


def write_study(results: Json, views: Mapping[str, Sequence[View]], folder: Path) -> list[Path]:
    """Write results.json, tables.md, index.html (the page) and each figure; give their paths.

    The figures share one `plotly.min.js`. Every file is written beside and renamed.

    Args:
        results: as `experiment.results` gives them.
        views: of some recipes, as `centroid_views` gives them.
        folder: made if it is not there.

    Raises:
        TwinrankError: if plotly or jinja2 is missing; results.json and tables.md are there then.
    """
    written = [
        write_file(folder / "results.json", json.dumps(results, indent=1) + "\n"),
        write_file(folder / "tables.md", markdown(results)),
    ]
    check_installed()
    from plotly.offline import get_plotlyjs

    from twinrank.reports.study_figures import FIGURES
    from twinrank.reports.study_page import study_page

    written.append(write_file(folder / "index.html", study_page(results, views)))
    plots = {name: draw(results) for name, draw in FIGURES.items()}
    plots |= {f"space-{name}": centroid_figure(name, three) for name, three in views.items()}
    home = folder / "figures"
    write_file(home / "plotly.min.js", get_plotlyjs())
    for name, plot in plots.items():
        text = plot.to_html(config=CONFIG, include_plotlyjs="directory")
        written.append(write_file(home / f"{name}.html", text))
    return written


def markdown(results: Json) -> str:
    """Every table of a study in Markdown."""
    parts = [
        f"## {escaped(title)}\n\n{markdown_table(rows)}" for title, rows in tables(results).items()
    ]
    return "\n\n".join(parts) + "\n"


def tables(results: Json, *, brief: bool = False) -> dict[str, Rows]:
    """Each table's title and rows; if brief, fewer of both, for a terminal."""
    arms: dict[str, list[Json]] = {}
    for arm in results["arms"]:
        arms.setdefault(arm["part"], []).append(arm)
    found = {
        PARTS[part]: quality_rows(some, brief=brief)
        for part, some in arms.items()
        if part != "reading"
    }
    if "reading" in arms:
        found |= reading_tables(results, arms["reading"])
    if results["differences"]:
        found[f"All labels: {MINUS}"] = difference_rows(results["differences"], "arm")
    fewer = results["fewer_labels"]
    for kind in dict.fromkeys(row["fewer_of"] for row in fewer["rows"]):
        whose = f"Fewer labels of type {kind}, on its queries" if kind else "Fewer labels"
        rows, changes = (
            [row for row in fewer[part] if row["fewer_of"] == kind]
            for part in ("rows", "differences")
        )
        found[f"{whose}: top-3 accuracy"] = share_rows(rows, kind)
        if brief:
            continue
        found[f"{whose}: {MINUS}"] = difference_rows(changes, "share", "arm")
    return found


def quality_rows(arms: Sequence[Json], *, brief: bool = False) -> Rows:
    """As the document's: top-3 accuracy and MAP@3 in all and by type, and the two distances.

    If brief, without spreads over seeds, and with the scale-free distances alone.
    """
    distances = BRIEF if brief else DISTANCES
    types = list(arms[0]["types"])
    head = ["top-3 accuracy / MAP@3", "total", *types]
    head += distances.values()
    rows = []
    for arm in arms:
        spread = {} if brief else arm["spread"]
        cells = [_pair(arm["overall"], spread.get("overall"))]
        cells += [_pair(arm["types"][t], spread["types"][t] if spread else None) for t in types]
        space = arm["geometry"] or {}
        cells += [_maybe(space[name]["mean"]) if space else "-" for name in distances]
        rows.append([arm["name"], *cells])
    return [head, *rows]


def reading_tables(results: Json, own: Sequence[Json]) -> dict[str, Rows]:
    """Recipes that read otherwise, with what they are compared with; what was published."""
    others = {d["without"] for d in results["reading"]}
    bases = [a for a in results["arms"] if a["name"] in others and a["part"] != "reading"]
    rows = []
    for arm in (*bases, *own):
        kinds = [None, *arm["types"]]
        ours = []
        for kind in kinds:
            figures, around = (
                part["types"][kind] if kind else part["overall"] for part in (arm, arm["intervals"])
            )
            top_3 = f"{figure(figures['accuracy@3'])} ({interval(around['accuracy@3'])})"
            ours.append(f"{top_3} / {figure(figures['map@3'])}")
        encoder = arm["recipe"]["encoder"]
        rows.append([arm["name"], encoder["text"], str(encoder["max_tokens"]), *ours])
    published, (their_head, *theirs) = PUBLISHED_TABLES[0]
    named = zip(READ_ALIKE, theirs, strict=False)  # the table goes on with other things
    return {
        PARTS["reading"]: [
            ["top-3 accuracy (95 %) / MAP@3", "reads", "tokens", "total", *own[0]["types"]],
            *rows,
        ],
        published: [list(their_head), *([f"{row[0]} ({name})", *row[1:]] for name, row in named)],
        "What the encoder reads: differences": difference_rows(results["reading"], "arm"),
    }


def difference_rows(differences: Sequence[Json], *first: str) -> Rows:
    """A row a comparison and group of queries: the difference of each metric tested, and p."""
    metrics = list(dict.fromkeys(d["metric"] for d in differences))
    rows: dict[tuple[str, ...], list[str]] = {}
    for d in differences:
        names = [f"{d[k]:.0%}" if k == "share" else d[k] for k in first]
        line = rows.setdefault((*names, d["without"], d["type"] or "total"), [])
        line += [
            f"{signed(d['difference'])} ({signed_interval(d['interval'])})",
            p_value(d["p_holm"]),
        ]
    head = [*first[:-1], "with", "without", "queries"]
    head += [cell for m in metrics for cell in (m.replace("map", "MAP"), "p (Holm)")]
    return [head, *([*names, *line] for names, line in rows.items())]


def share_rows(rows: Sequence[Json], kind: str | None = None) -> Rows:
    """A row a recipe, a column a share of the labels: top-3 accuracy in all, or of a type."""
    shares = sorted({row["share"] for row in rows})
    cells: dict[str, list[str]] = {}
    for share in shares:
        for row in rows:
            if row["share"] == share:
                figures, spreads, intervals = (
                    part["types"][kind] if kind else part["overall"]
                    for part in (row, row["spread"], row["intervals"])
                )
                spread, around = spreads["accuracy@3"], interval(intervals["accuracy@3"])
                value = figure(figures["accuracy@3"])
                cell = f"{value}±{figure(spread)}" if spread is not None else value
                cells.setdefault(row["name"], []).append(f"{cell} ({around})")
    return [["recipe", *(f"{s:.0%}" for s in shares)], *([n, *c] for n, c in cells.items())]


def signed(value: float) -> str:
    """A difference: +.012, -.003."""
    return ("-" if value < 0 else "+") + figure(abs(value))


def p_value(p: float) -> str:
    """A p-value: .012, or <.001 where three decimals say nothing."""
    return figure(p) if p >= 0.001 else "<.001"


def signed_interval(bounds: Sequence[float] | None) -> str:
    """The interval of a difference: -.003 to +.012."""
    return " to ".join(map(signed, bounds)) if bounds else "-"


def _pair(figures: Json, spreads: Json | None) -> str:
    cells = []
    for metric in ("accuracy@3", "map@3"):
        spread = spreads[metric] if spreads else None
        cells.append(figure(figures[metric]) + (f"±{figure(spread)}" if spread is not None else ""))
    return " / ".join(cells)


def _maybe(value: float | None) -> str:
    return "-" if value is None else figure(value)


def _rich(title: str, rows: Rows) -> Table:
    head, *body = rows
    shown = aligned(title)
    for i, name in enumerate(head):
        shown.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in body:
        shown.add_row(*map(Text, row))
    return shown
