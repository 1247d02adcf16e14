"""Evaluations, comparisons, rankings and what was learned as aligned tables; how figures read."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinrank.files import write_file

if TYPE_CHECKING:
    from twinrank.data import Description
    from twinrank.evaluation import Evaluation
    from twinrank.experiments import Comparison
    from twinrank.feedback.learning import Learning
    from twinrank.ranking import Option, RankedAnswer, Ranker

Json = Mapping[str, Any]
Rows = Sequence[Sequence[str]]  # the head first
Spread = Callable[[str, str | None], float | None]  # of a metric, overall or of a type, over seeds

TYPES_SHOWN = 4  # more types than this are summed up as the worst and the gap
MAX_NAME_WIDTH = 28  # of a name in a first column that is not broken
TITLE_LENGTH = 80  # characters of a query above its answers


def aligned(title: str | Text) -> Table:
    """Make a table in the style of the house, still without columns."""
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def fill_table(
    title: str | Text,
    rows: Rows,
    *,
    left: Collection[int] | None = None,
    lines: Collection[int] = (),
) -> Table:
    """Lay rows out as a table, the head first; what follows a line break in a cell is dim.

    Columns of words stand left: those given, or all that hold no figures. A line is drawn after
    the rows in `lines`, the first of the body being 0.
    """
    head, *body = rows
    table = aligned(title)
    longest_name = max((len(word) for row in rows for word in row[0].split()), default=0)
    for i, (name, numeric) in enumerate(zip(head, numeric_columns(rows), strict=True)):
        words = not numeric if left is None else i in left
        least = min(MAX_NAME_WIDTH, longest_name) if i == 0 else None
        justify: Literal["left", "right"] = "left" if words else "right"
        table.add_column(Text(name), justify=justify, overflow="fold", min_width=least)
    for i, row in enumerate(body):
        cells = [cell.partition("\n") for cell in row]
        texts = [
            Text(first).append(after + rest if rest else "", "dim") for first, after, rest in cells
        ]
        table.add_row(*texts, end_section=i in lines)
    return table


def evaluation_table(evaluation: Evaluation, title: str) -> Table:
    """Every metric, overall and by type, with its 95% interval."""
    return fill_table(title, metric_rows(evaluation), lines={0, len(evaluation.types)})


def sum_up(evaluation: Evaluation) -> str:
    """Say in a line for how many queries of each type a right answer is among the first three."""
    shares = (f"{kind} {figures['accuracy@3']:.0%}" for kind, figures in evaluation.types.items())
    return f"A right answer is among the first three: {', '.join(shares)}"


def metric_rows(evaluation: Evaluation) -> list[list[str]]:
    """Every metric, overall and by type, with its interval; the worst type, and the gap."""
    metrics = list(evaluation.overall)
    values, counts = evaluation.as_dict(), evaluation.counts
    rows = [["queries", *map(metric_name, metrics)]]
    for kind in (None, *evaluation.types):
        count = counts["types"][kind] if kind else counts["overall"]
        cells = (_two_lines(values, metric, kind) for metric in metrics)
        rows.append([f"{kind or 'overall'}\n{count:,} queries", *cells])
    if len(evaluation.types) > 1:
        rows.append(["worst type", *(figure(evaluation.worst[m]) for m in metrics)])
        rows.append(["gap", *(figure(evaluation.gap[m]) for m in metrics)])
    return rows


def confidence_table(evaluation: Evaluation) -> Table:
    """Share of queries answered and accuracy@1 of those, by how sure a first answer must be."""
    rows = silence_rows(evaluation)
    title = "Answered, and right first, if silent below a confidence:"
    return fill_table(title, [["", *rows[0][1:]], *rows[1:]], lines={len(rows) - 3})


def asking_table(evaluation: Evaluation) -> Table:
    """What a question back is worth, by how likely right the first answer must be without it."""
    groups = evaluation.confidence
    rows = [["", *groups]]
    for points in zip(*(calibration.asking for calibration in groups.values()), strict=True):
        cells = [(p.share, p.first, p.among) for p in points]
        others = [(1 - p.share, p.others_first, p.others_top_3) for p in points]
        for name, row in (
            (f"asked below {points[0].ask_below:.1f}", cells),
            ("the others", others),
        ):
            shown = (f"{share:.0%} / {_dash(a)} / {_dash(b)}" for share, a, b in row)
            rows.append([name, *shown])
    title = "Share asked back, right first, right among the options; the others: among the first 3:"
    return fill_table(title, rows)


def quality_table(ranker: Ranker, path: Path) -> Table | Text:
    """Show a run's ranker, and what it reached on validation."""
    quality = ranker.origin.quality
    title = f"{path}: {ranker.recipe.name}, {ranker.answers.height:,} answers"
    if quality is None:
        return Text(f"{title}; nothing was trained")
    metrics = [name for name in quality if name != "types"]
    rows = [["", *map(metric_name, metrics)]]
    for name, figures in {"overall": quality, **quality["types"]}.items():
        rows.append([name, *(figure(figures[metric]) for metric in metrics)])
    again = "\nThen trained again on train and validation together." if ranker.origin.refit else ""
    return fill_table(f"{title}; on the validation split:{again}", rows)


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write a comparison as comparison.json and comparison.md; give their paths."""
    texts = {
        folder / "comparison.json": json.dumps(comparison.as_dict(), indent=2) + "\n",
        folder / "comparison.md": comparison_markdown(comparison),
    }
    return [write_file(path, text) for path, text in texts.items()]


def comparison_table(comparison: Comparison) -> Table:
    """A row a recipe: top-3 accuracy by type and MAP@10; spreads over seeds; intervals below."""
    rows = _give_comparison_rows(comparison)
    return fill_table(_describe_comparison(comparison), rows)


def comparison_markdown(comparison: Comparison) -> str:
    """The same table in Markdown."""
    from twinrank.ranking.model_card import markdown, markdown_table

    rows = [[in_one_line(cell) for cell in row] for row in _give_comparison_rows(comparison)]
    return f"{markdown(_describe_comparison(comparison))}\n\n{markdown_table(rows)}\n"


def ranking_table(
    answers: Sequence[RankedAnswer],
    query: str,
    *,
    why: bool = False,
    words: Sequence[Sequence[str]] = (),
    is_filtered: bool = False,
) -> Table | Text:
    """One query's answers, best first; why: with what each signal gave to the score, and words."""
    first = query.strip().splitlines()[0]
    cut = first if len(first) < TITLE_LENGTH else first[: TITLE_LENGTH - 1] + "…"
    title = Text(cut, style="italic")
    if not answers:
        sure = "likely enough to be right"
        reason = f"fits the filter and is {sure}" if is_filtered else f"is {sure}"
        return title.append(f"\nno answer {reason}\n", style="bold")
    if answers[0].pinned:
        title.append(f"\nthe first is pinned for {answers[0].pinned!r}")
    elif answers[0].confidence is not None:
        title.append(f"\nthe first is right with probability {answers[0].confidence:.2f}")
    signals = list(answers[0].parts or {}) if why else []
    if why and not signals:
        title.append("\none signal alone gave the score")
    has_words = any(words)
    rows = [["", "score", *signals, "id", "title", *(["because of"] if has_words else [])]]
    for number, answer in enumerate(answers):
        scores = [answer.score, *((answer.parts or {})[name] for name in signals)]
        cells = [str(answer.rank), *(f"{round(score, 2) + 0:.2f}" for score in scores)]  # no -0.00
        leading = [" ".join(words[number])] if has_words else []
        rows.append([*cells, answer.id, answer.title, *leading])
    names = rows[0].index("id")
    table = fill_table(title, rows, left={*range(names, len(rows[0]))})
    table.columns[names].no_wrap = True  # an id is copied from here
    return table


def options_table(options: Sequence[Option]) -> Table:
    """The answers that a query may mean, and the words that only one of them has."""
    rows = [[o.id, o.title, ", ".join(o.terms), figure(o.confidence)] for o in options]
    head = ["id", "title", "only here", "likely right"]
    table = fill_table("Which of these is meant?", [head, *rows], left={0, 1, 2})
    table.columns[0].no_wrap = True  # an id is copied from here
    return table


def learning_table(learning: Learning) -> Group:
    """Show what was learned; the old and the new ranker by type; which stands now, and why."""
    from twinrank.feedback.labels import describe_counts
    from twinrank.feedback.learning import METRIC

    counted = describe_counts(learning.counts)
    head = Text(f"{learning.counts['verdicts']:,} verdicts: {counted}\n")
    why = ": the new one is worse" if learning.worse else ""
    outcome = f"{learning.ranker}: the old ranker stays{why}"
    if learning.replaced:
        outcome = (
            f"{learning.ranker}: the new ranker has taken the old one's place; "
            f"`twinrank learn {learning.ranker} --rollback` takes it back"
        )
    lines = [Text(line) for line in (*learning.notes, *learning.worse, outcome)]
    rows, breaks = [["", "top-3", "new", "MAP@10", "new", "difference", "p"]], set()
    for compared in learning.compared:
        rows.append([compared.on, *[""] * 6])
        old, new = compared.old.as_dict(), compared.new.as_dict()
        for difference in compared.differences:
            if difference.metric != METRIC:
                continue
            kind, counts = difference.kind, compared.new.counts
            count = counts["types"][kind] if kind else counts["overall"]
            pairs = [(m, values) for m in ("accuracy@3", METRIC) for values in (old, new)]
            cells = [figure(take_figure(values, metric, kind)[0]) for metric, values in pairs]
            gain = signed(difference.mean)
            if difference.interval:
                gain += f"\n{signed_interval(difference.interval)}"
            label = f"  {kind or 'overall'}\n  {count:,} queries"
            rows.append([label, *cells, gain, figure(difference.p)])
        breaks.add(len(rows) - 2)
    return (
        Group(head, fill_table("", rows, lines=breaks), *lines) if breaks else Group(head, *lines)
    )


def numeric_columns(rows: Rows) -> list[bool]:
    """For each column, whether all its cells look like figures."""
    head, *body = rows
    return [
        all(row[i][:1] in "+-.<≈0123456789" for row in body) and i > 0 for i in range(len(head))
    ]


def figure(value: float) -> str:
    """Three decimals, without the zero that says nothing: .123, 1.234."""
    return f"{value:.3f}".removeprefix("0")


def _dash(value: float | None) -> str:
    return "-" if value is None else figure(value)


def interval(bounds: Sequence[float] | None) -> str:
    """A 95% interval: .120-.140, 2.33-3.11."""
    return "-".join(figure(b) if b < 1 else f"{b:.2f}" for b in bounds) if bounds else ""


def signed(value: float) -> str:
    """A difference: +.012, -.003."""
    return ("-" if value < 0 else "+") + figure(abs(value))


def signed_interval(bounds: Sequence[float] | None) -> str:
    """The interval of a difference: -.003 to +.012."""
    return " to ".join(map(signed, bounds)) if bounds else "-"


def p_value(p: float) -> str:
    """A p-value: .012, or <.001 where three decimals say nothing."""
    return figure(p) if p >= 0.001 else "<.001"


def metric_name(metric: str) -> str:
    """A metric as pages call it: top-3, MAP@10, loss."""
    name = metric.replace("accuracy@", "top-").replace("map", "MAP")
    return name.replace("ndcg", "nDCG").replace("mrr", "MRR")


def reached(measured: Json, metric: str = "accuracy@3", kind: str | None = None) -> str:
    """A figure of an evaluation in plain values, with its interval: .310 (.226-.396)."""
    return in_one_line(_two_lines(measured, metric, kind))


def _two_lines(measured: Json, metric: str, kind: str | None = None) -> str:
    value, bounds = take_figure(measured, metric, kind)
    return f"{figure(value)}\n{interval(bounds)}"


def in_one_line(cell: str) -> str:
    """A cell of two lines in one: .310 (.226-.396)."""
    first, _, rest = cell.partition("\n")
    return f"{first} ({rest})" if rest else first


def join_words(words: Sequence[str]) -> str:
    """A list in a sentence: one, two and three."""
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last


def split_rows(description: Description) -> list[list[str]]:
    """Queries by split and type, then labels, threads and right answers; a column a split."""
    counts, splits = description.counts, list(description.splits.values())
    rows = [["queries", *description.splits, "all"]]
    for kind in splits[0]["types"]:
        cells = [(split["types"][kind]["count"], split["queries"]) for split in splits]
        cells.append((sum(count for count, _ in cells), counts["queries"]))
        rows.append([kind, *(f"{part / max(whole, 1):.0%} {part:,}" for part, whole in cells)])
    for row in ("queries", "labels", "threads"):
        totals = [split[row] for split in splits] + [counts[row]]
        rows.append([f"all {row}", *(f"{total:,}" for total in totals)])
    right = [split["answers"] for split in splits]
    right.append(counts["answers"] - description.answers["never_right"])
    return [*rows, ["right answers", *(f"{total:,}" for total in right)]]


def silence_rows(evaluation: Evaluation) -> list[list[str]]:
    """Share answered, and right first of those, if the ranker is silent below a confidence."""
    groups = evaluation.confidence
    rows = [["silent below", *groups]]
    for points in zip(*(calibration.curve for calibration in groups.values()), strict=True):
        cells = (f"{p.coverage:.0%} / {_dash(p.accuracy)}" for p in points)
        rows.append([f"{points[0].min_confidence:.1f}", *cells])
    return [*rows, ["calibration error", *(figure(c.error) for c in groups.values())]]


def difference_rows(differences: Sequence[Json], *first: str) -> list[list[str]]:
    """A row a comparison and group of queries: the difference of each metric tested, and p.

    Comparisons are those of `compare_pairs`, told apart by the keys `first`, beside `without`. The
    groups have a column unless all differences are over all queries.
    """
    metrics = list(dict.fromkeys(d["metric"] for d in differences))
    grouped = any(d["type"] for d in differences)
    rows: dict[tuple[str, ...], list[str]] = {}
    for d in differences:
        names = [f"{d[key]:.0%}" if key == "share" else d[key] for key in first]
        group = (d["type"] or "total",) if grouped else ()
        *labels, arm = names
        row = rows.setdefault((*labels, f"{arm}\nminus {d['without']}", *group), [])
        row.append(f"{signed(d['difference'])}\n{signed_interval(d['interval'])}")
        row.append(p_value(d["p_holm"]))
    head = [*first[:-1], "difference", *(["queries"] if grouped else [])]
    head += [cell for metric in metrics for cell in (metric_name(metric), "p (Holm)")]
    return [head, *([*names, *row] for names, row in rows.items())]


def describe_difference(d: Json) -> str:
    """Say what differs, by how much and how surely: MAP@10 +.012 (+.003 to +.021, p .012)."""
    return (
        f"{metric_name(d['metric'])} {signed(d['difference'])} "
        f"({signed_interval(d['interval'])}, p {p_value(d['p_holm'])})"
    )


def _give_comparison_rows(comparison: Comparison) -> list[list[str]]:
    spread_of = {entry.recipe.name: entry.spread for entry in comparison.entries}
    head, *rows = quality_rows({e.recipe.name: e.mean for e in comparison.entries}, spread_of)
    return [["recipe", *head[1:]], *rows]


def quality_rows(
    evaluations: Mapping[str, Evaluation], spread_of: Mapping[str, Spread] | None = None
) -> list[list[str]]:
    """A row each: top-3 accuracy, overall and by type, its gap, MAP@10, and its worst type.

    A figure has its spread over seeds, if there are several, and below it its interval.
    """
    types = list(next(iter(evaluations.values())).types)
    shown = types if 1 < len(types) <= TYPES_SHOWN else []
    columns = [("accuracy@3", kind) for kind in (None, *shown)]
    rows = [["run", "top-3", *shown, "MAP@10"]]
    if len(types) > 1:
        rows[0][-1:] = ["gap", "MAP@10", "worst"]
    for name, evaluation in evaluations.items():
        row = [name]
        for metric, kind in [*columns, ("map@10", None)]:
            cell = _two_lines(evaluation.as_dict(), metric, kind)
            spread = spread_of[name](metric, kind) if spread_of else None
            row.append(cell if spread is None else cell.replace("\n", f"±{figure(spread)}\n"))
        if len(types) > 1:
            row.insert(-1, figure(evaluation.gap["accuracy@3"]))
            row.append(figure(evaluation.worst["map@10"]))
        rows.append(row)
    return rows


def take_figure(
    measured: Json, metric: str, kind: str | None = None
) -> tuple[float, Sequence[float] | None]:
    """Take a figure of an evaluation in plain values, overall or of a type, and its interval."""
    figures, bounds = measured["overall"], measured["intervals"]["overall"]
    if kind:
        figures, bounds = measured["types"][kind], measured["intervals"]["types"][kind]
    return figures[metric], bounds[metric]


def _describe_comparison(comparison: Comparison) -> str:
    counts = comparison.entries[0].mean.counts
    by_type = ", ".join(f"{count:,} {kind}" for kind, count in counts["types"].items())
    seeds = max(len(entry.seeds) for entry in comparison.entries)
    spread = f"mean ± standard deviation over {seeds} seeds; " if seeds > 1 else ""
    return (
        f"{comparison.data}, {comparison.split} split: {counts['overall']:,} queries ({by_type}). "
        f"Top-3 accuracy and MAP@10: {spread}95% bootstrap intervals over threads."
    )
