"""What a data set holds, as tables for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from twinrank.data.statistics import Description
from twinrank.reports.terminal import fill_table


def dataset_tables(description: Description) -> Group:
    """Draw the figures of a data set, and what to beware of."""
    counts, answers = description.counts, description.answers
    splits = list(description.splits.values())
    rows = [["queries", *description.splits, "all"]]
    for kind in splits[0]["types"]:
        cells = [(split["types"][kind]["count"], split["queries"]) for split in splits]
        cells.append((sum(count for count, _ in cells), counts["queries"]))
        rows.append([kind, *(f"{part / max(whole, 1):.0%} {part:,}" for part, whole in cells)])
    last_type = len(rows) - 2
    for row in ("queries", "labels", "threads"):
        totals = [split[row] for split in splits] + [counts[row]]
        rows.append([f"all {row}", *(f"{total:,}" for total in totals)])
    right = [split["answers"] for split in splits]
    right.append(counts["answers"] - answers["never_right"])
    rows.append(["right answers", *(f"{total:,}" for total in right)])
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
    tables = (fill_table(Text(title), rows, lines={last_type}), fill_table("", shares))
    return Group(*tables, *(Text(f" ! {warning}", "yellow") for warning in description.warnings))
