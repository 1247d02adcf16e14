"""Gaps for people: a table for a terminal, and a page with a bar for each topic."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from twinrank.console import visible
from twinrank.exploration.sample import shorten
from twinrank.feedback.gaps import EXAMPLE_LENGTH, TREND_DAYS, Gaps, Topic
from twinrank.reports.figures import BLUE, ORANGE, draw, hover_text, styled
from twinrank.reports.page import Rows, Section, page
from twinrank.reports.terminal import figure, fill_table

LINE_LENGTH = 50  # characters of a text in the terminal's table, which is 80 wide
NAME_LENGTH = 40  # of a bar


def describe_gaps(gaps: Gaps) -> str:
    """Say what was looked at, and what is in no topic."""
    left_out = f"; {gaps.left_out:,} older ones were left out" if gaps.left_out else ""
    return (
        f"{gaps.bad:,} of {gaps.queries:,} queries were answered badly{left_out}; {gaps.single:,} "
        f"of these are in no topic. Topics shown: {len(gaps.topics):,} of {gaps.total:,}, the "
        "likeliest gap first. Titles are drafts, words of one query."
    )


def gap_rows(gaps: Gaps, length: int) -> Rows:
    """A row a topic, in whose cell a line each: title, words, examples, the nearest answer."""
    has_days = any(topic.recent is not None for topic in gaps.topics)
    trend = [f"{TREND_DAYS} days", "before"] if has_days else []
    rows = [["topic", "bad", "of", *trend]]
    for topic in gaps.topics:
        counts = [topic.bad, topic.queries, *([topic.recent, topic.before] if has_days else [])]
        rows.append([_describe(topic, length), *(f"{count or 0:,}" for count in counts)])
    return rows


def _describe(topic: Topic, length: int) -> str:
    lines = [topic.title, *([f"words: {', '.join(topic.words)}"] if topic.words else [])]
    lines += [f"“{example}”" for example in topic.examples if example != topic.title]
    if nearest := topic.nearest:
        sure = f" {figure(nearest.confidence)}" if nearest.confidence is not None else ""
        lines.append(f"nearest{sure}: {nearest.title}")
    return "\n".join(shorten(visible(line), length) for line in lines)


def gaps_table(gaps: Gaps) -> Table | Text:
    """Make a table that a terminal of 80 columns holds."""
    title = Text(describe_gaps(gaps))
    if not gaps.topics:
        return title
    rows = gap_rows(gaps, LINE_LENGTH)
    return fill_table(title, rows, left={0}, lines=range(len(rows)))


def gaps_page(gaps: Gaps, name: str) -> str:
    """Make one HTML document: a bar for each topic, and the table with whole examples."""
    import plotly.express as px

    bars = [
        {
            "x": count,
            "y": f"{number}. {shorten(topic.title, NAME_LENGTH)}",
            "name": f"answered {how}",
            "hover": hover_text(f"{', '.join(topic.words)}: {topic.bad} of {topic.queries} badly"),
        }
        for number, topic in enumerate(gaps.topics, start=1)
        for how, count in (("badly", topic.bad), ("well", topic.queries - topic.bad))
    ]
    figures = []
    if bars:
        plot = draw(px.bar, bars, orientation="h", color_discrete_sequence=(ORANGE, BLUE))
        plot.update_yaxes(autorange="reversed", automargin=True).update_xaxes(title_text="queries")
        figures = [(styled(plot, "", height=160 + 32 * len(gaps.topics)), "Queries of each topic.")]
    tables = [("Topics, the likeliest gap first", gap_rows(gaps, EXAMPLE_LENGTH))] if bars else []
    section = Section("What people ask in vain", [describe_gaps(gaps)], figures, tables)
    return page(f"Gaps of {name}", [section])
