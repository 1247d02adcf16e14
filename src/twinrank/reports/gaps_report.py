"""Gaps as a table for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from twinrank.console import visible
from twinrank.data.texts import shorten
from twinrank.feedback.gaps import TREND_DAYS, Gaps, Topic
from twinrank.reports.terminal import figure, fill_table

LINE_LENGTH = 52  # characters of a text in the terminal's table, which is 80 wide


def describe_gaps(gaps: Gaps) -> str:
    """Say what was looked at, and what is in no topic."""
    left_out = f"; {gaps.left_out:,} older ones were left out" if gaps.left_out else ""
    return (
        f"{gaps.bad:,} of {gaps.queries:,} queries were answered badly{left_out}; {gaps.single:,} "
        f"of these are in no topic. Topics shown: {len(gaps.topics):,} of {gaps.total:,}, the "
        "likeliest gap first. Titles are drafts, words of one query."
    )


def gaps_table(gaps: Gaps) -> Table | Text:
    """Make a table that 80 columns hold: of each topic words, queries, and the nearest answer."""
    title = Text(describe_gaps(gaps))
    if not gaps.topics:
        return title
    has_days = gaps.topics[0].recent is not None
    rows = [["topic", "bad", "of", *([f"{TREND_DAYS} days", "before"] if has_days else [])]]
    for topic in gaps.topics:
        trend = [topic.recent, topic.before] if has_days else []
        counts = (f"{count or 0:,}" for count in (topic.bad, topic.queries, *trend))
        rows.append([_describe_topic(topic), *counts])
    return fill_table(title, rows, left={0}, lines=range(len(rows)))


def _describe_topic(topic: Topic) -> str:
    lines = [topic.title, *([f"words: {', '.join(topic.words)}"] if topic.words else [])]
    lines += [f"“{example}”" for example in topic.examples if example != topic.title]
    if nearest := topic.nearest:
        sure = f" {figure(nearest.confidence)}" if nearest.confidence is not None else ""
        lines.append(f"nearest{sure}: {nearest.title}")
    return "\n".join(shorten(visible(line), LINE_LENGTH) for line in lines)
