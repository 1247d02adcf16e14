"""What people look at: tables for the terminal and for Markdown."""

from twinrank.report.tables import (
    cache_table,
    comparison_markdown,
    comparison_table,
    evaluation_table,
    quality_table,
    ranking_table,
    write_comparison,
)

__all__ = [
    "cache_table",
    "comparison_markdown",
    "comparison_table",
    "evaluation_table",
    "quality_table",
    "ranking_table",
    "write_comparison",
]
