"""Which texts hold HTML, whose tags an encoder would read as words."""

from __future__ import annotations

import polars as pl

from twinrank.data.dataset import Dataset

TAGS = (
    r"(?i)</(p|div|span|h[1-6]|ul|ol|li|table|tr|td|th|a|strong|em|b|i|u|pre|code|script|style"
    r"|body|figure|blockquote)\s*>|<br\s*/?>|<img\s|&(nbsp|amp|lt|gt|quot|#\d+);"
)


def count_markup(dataset: Dataset) -> dict[str, int]:
    """Count the answers, and the queries, that hold HTML, where any do."""
    has_tags = pl.col("text").str.contains(TAGS).sum()
    counts = {
        "answers": dataset.answers.select(has_tags).item(),
        "queries": dataset.queries.select(has_tags).collect().item(),
    }
    return {name: count for name, count in counts.items() if count}


def describe_markup(counts: dict[str, int]) -> list[str]:
    """Say which texts hold HTML, and what to do about it, a sentence each."""
    mend = "whose tags are read as words: make plain text of them, and import again"
    return [f"{count:,} {name} hold HTML, {mend}" for name, count in counts.items()]
