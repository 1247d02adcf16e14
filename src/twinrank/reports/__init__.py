"""What people look at: tables for the terminal and for Markdown, figures, pages."""

from twinrank.reports.exploration_report import findings_table, write_exploration
from twinrank.reports.geometry_report import centroid_figure, geometry_table, write_geometry
from twinrank.reports.learn import learning_table
from twinrank.reports.page import check_installed
from twinrank.reports.plan import plan_table
from twinrank.reports.study import study_tables, write_study
from twinrank.reports.terminal import (
    cache_table,
    comparison_markdown,
    comparison_table,
    confidence_table,
    evaluation_table,
    networks_table,
    quality_table,
    ranking_table,
    write_comparison,
)

__all__ = [
    "cache_table",
    "centroid_figure",
    "check_installed",
    "comparison_markdown",
    "comparison_table",
    "confidence_table",
    "evaluation_table",
    "findings_table",
    "geometry_table",
    "learning_table",
    "networks_table",
    "plan_table",
    "quality_table",
    "ranking_table",
    "study_tables",
    "write_comparison",
    "write_exploration",
    "write_geometry",
    "write_study",
]
