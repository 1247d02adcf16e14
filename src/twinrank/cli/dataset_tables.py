"""What a data set holds, as tables for a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinrank.data.statistics import MAX_COUNTED_TEXTS, TOKEN_SHARES, Description


def dataset_tables(description: Description) -> Group:
    """Draw the figures of a data set, and what to beware of."""
    tables = (_splits_table, _shares_table, _spreads_table, _lengths_table)
    warnings = [Text(f" ! {warning}", "yellow") for warning in description.warnings]
    return Group(*(table(description) for table in tables), *warnings)


def _splits_table(description: Description) -> Table:
    counts, splits = description.counts, list(description.splits.values())
    table = _table(
        ("queries", *description.splits, "all"),
        f"{description.name}: {counts['answers']:,} answers, {counts['queries']:,} queries in "
        f"{counts['threads']:,} threads, {counts['labels']:,} labels",
    )
    width = len(f"{counts['queries']:,}")
    for kind in splits[0]["types"]:
        cells = [(split["types"][kind]["count"], split["queries"]) for split in splits]
        cells.append((sum(count for count, _ in cells), counts["queries"]))
        table.add_row(Text(kind), *(_with_share(part, whole, width) for part, whole in cells))
    table.add_section()
    for row in ("queries", "labels", "threads"):
        totals = [split[row] for split in splits] + [counts[row]]
        table.add_row(f"all {row}", *(f"{total:,}" for total in totals))
    right = [split["answers"] for split in splits]
    right.append(counts["answers"] - description.answers["never_right"])
    table.add_row("right answers", *(f"{total:,}" for total in right))
    return table


def _shares_table(description: Description) -> Table:
    counts, answers = description.counts, description.answers
    table = _table(("", "count", "share"))
    for name, part, whole in (
        ("answers never right", answers["never_right"], counts["answers"]),
        ("answers right for every type", answers["of_every_type"], counts["answers"]),
        ("labels of the ten commonest answers", answers["top_ten_labels"], counts["labels"]),
        ("threads of several types", counts["threads_of_several_types"], counts["threads"]),
    ):
        table.add_row(name, f"{part:,}", f"{part / max(whole, 1):.0%}")
    if counts["judged_wrong"]:
        table.add_row("judged not right, so no labels", f"{counts['judged_wrong']:,}")
    return table


def _spreads_table(description: Description) -> Table:
    table = _table(("", "mean", "median", "90 %", "max"))
    for name, spread in description.spreads.items():
        table.add_row(name.replace("_", " "), *map(_number, spread.values()))
    return table


def _lengths_table(description: Description) -> Table:
    limit = description.max_tokens
    tokens = () if limit is None else (f"over {limit:,}", "not read")
    table = _table(("length in", "", "median", "90 %", "max", *tokens))
    table.columns[1].justify = "left"
    if any(units.get("tokens", {}).get("sampled") for units in description.lengths.values()):
        table.caption = f"tokens of {MAX_COUNTED_TEXTS:,} sampled texts where there are more"
    for name, units in description.lengths.items():
        for unit, spread in units.items():
            cells = [_number(spread[key]) for key in ("median", "p90", "max")]
            shares = [f"{spread[key]:.0%}" for key in TOKEN_SHARES if key in spread]
            table.add_row(Text(name if unit == "characters" else ""), unit, *cells, *shares)
    return table


def _with_share(part: int, whole: int, width: int) -> Text:
    return Text(f"{part / max(whole, 1):.0%} ", "dim").append(f"{part:{width},}", "not dim")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:,.1f}"


def _table(columns: tuple[str, ...], title: str = "") -> Table:
    heading = Text(title, "italic") if title else None
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table
