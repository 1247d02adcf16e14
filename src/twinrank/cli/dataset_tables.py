"""What a data set holds, as tables for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinrank.data.statistics import MAX_COUNTED_TEXTS, TOKEN_SHARES, Description
from twinrank.reports.terminal import fill_table, split_rows


def dataset_tables(description: Description) -> Group:
    """Draw the figures of a data set, and what to beware of."""
    tables = (_splits_table(description), _shares_table(description), _lengths_table(description))
    return Group(*tables, *(Text(f" ! {warning}", "yellow") for warning in description.warnings))


def _splits_table(description: Description) -> Table:
    counts, rows = description.counts, split_rows(description)
    title = (
        f"{description.name}: {counts['answers']:,} answers, {counts['queries']:,} queries in "
        f"{counts['threads']:,} threads, {counts['labels']:,} labels"
    )
    return fill_table(Text(title), rows, lines={len(rows) - 6})


def _shares_table(description: Description) -> Table:
    counts, answers = description.counts, description.answers
    rows = [["", "count", "share"]]
    for name, part, whole in (
        ("answers never right", answers["never_right"], counts["answers"]),
        ("answers right for every type", answers["of_every_type"], counts["answers"]),
        ("labels of the ten commonest answers", answers["top_ten_labels"], counts["labels"]),
        ("threads of several types", counts["threads_of_several_types"], counts["threads"]),
    ):
        rows.append([name, f"{part:,}", f"{part / max(whole, 1):.0%}"])
    if counts["judged_wrong"]:
        rows.append(["judged not right, so no labels", f"{counts['judged_wrong']:,}", ""])
    return fill_table("", rows)


def _lengths_table(description: Description) -> Table:
    limit = description.max_tokens
    names = () if limit is None else (f"over {limit:,}", "not read")
    rows = [["length in", "", "median", "90 %", "max", *names]]
    for name, units in description.lengths.items():
        for unit, spread in units.items():
            cells = [f"{spread[key]:,.0f}" for key in ("median", "p90", "max")]
            shares = [f"{spread[key]:.0%}" if key in spread else "" for key in TOKEN_SHARES]
            label = name if unit == "characters" else ""
            rows.append([label, unit, *cells, *shares[: len(names)]])
    table = fill_table("", rows)
    if any(units.get("tokens", {}).get("sampled") for units in description.lengths.values()):
        table.caption = f"tokens of {MAX_COUNTED_TEXTS:,} sampled texts where there are more"
    return table
