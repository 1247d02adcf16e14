"""What a data set holds, as tables for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from twinrank.data.statistics import Description
from twinrank.reports.terminal import fill_table, split_rows


def dataset_tables(description: Description) -> Group:
    """Draw the figures of a data set, and what to beware of."""
    counts, answers, rows = description.counts, description.answers, split_rows(description)
    title = (
        f"{description.name}: {counts['answers']:,} answers, {counts['queries']:,} queries in "
        f"{counts['threads']:,} threads, {counts['labels']:,} labels"
    )
    shares = [["", "count", "share"]]
    for name, part, whole in (
        ("answers never right", answers["never_right"], counts["answers"]),
        ("answers right for every type", answers["of_every_type"], counts["answers"]),
        ("labels of the ten commonest answers", answers["top_ten_labels"], counts["labels"]),
        ("threads of several types", counts["threads_of_several_types"], counts["threads"]),
    ):
        shares.append([name, f"{part:,}", f"{part / max(whole, 1):.0%}"])
    if counts["judged_wrong"]:
        shares.append(["judged not right, so no labels", f"{counts['judged_wrong']:,}", ""])
    tables = (fill_table(Text(title), rows, lines={len(rows) - 6}), fill_table("", shares))
    return Group(*tables, *(Text(f" ! {warning}", "yellow") for warning in description.warnings))
