"""What people look at: tables for the terminal and for Markdown."""

from twinrank.report.tables import (
    comparison_markdown,
    comparison_table,
    evaluation_table,
    quality_table,
    ranking_table,
    write_comparison,
)

__all__ = [
    "comparison_markdown",
    "comparison_table",
    "evaluation_table",
    "quality_table",
    "ranking_table",
    "write_comparison",
]
