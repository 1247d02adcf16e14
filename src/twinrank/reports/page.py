"""One HTML document that holds its figures and tables, and asks the network for nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from twinrank import extras
from twinrank.reports import terminal

if TYPE_CHECKING:
    from jinja2 import Environment
    from plotly.graph_objects import Figure

    from twinrank.exploration import Finding

Rows = terminal.Rows  # the head first

WRAPPED_FROM = 60  # characters of a cell that is wrapped,
FOLDED_FROM = 300  # and of one that opens on a click
MARKS = {"mend": "To mend", "know": "To know", "fine": "In order"}  # of the levels of findings
PLOTLY_CONFIG = {
    "responsive": True,
    "displaylogo": False,
    # No button that uploads what people wrote, and no address it could go to.
    "modeBarButtonsToRemove": ["sendChartToCloud"],
    "plotlyServerURL": "",
    "toImageButtonOptions": {"format": "svg"},  # a data: image, which the page's policy allows
}


@dataclass(frozen=True)
class Section:
    """A section of a page: its figures, then its paragraphs, its notes and its tables.

    Tiles are single figures, by name.

    A figure has a caption, a table a title; a line break in a cell is kept. A note is a finding, of
    whose advice text between backticks is code, and the heading of the section with its details, if
    there is one. Of folded tables only the title shows until it is opened.
    """

    heading: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[tuple[Figure, str]] = ()
    tables: Sequence[tuple[str, Rows]] = ()
    notes: Sequence[tuple[Finding, str | None]] = ()
    folded: Sequence[tuple[str, Rows]] = ()
    tiles: Sequence[tuple[str, str]] = ()


check_installed = partial(extras.check_installed, "pages", "explore", "plotly", "jinja2")


def page(title: str, sections: Sequence[Section]) -> str:
    """Make a whole document; every text in it is escaped, and plotly.js is in it once.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    check_installed()
    from plotly.offline import get_plotlyjs

    plots = [json.loads(plot.to_json()) for section in sections for plot, _ in section.figures]
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            sections=sections,
            positions={section.heading: i for i, section in enumerate(sections, 1)},
            plotly=get_plotlyjs(),
            figures_json=script_json({"figures": plots, "config": PLOTLY_CONFIG}),
        )
    )


def render_text(template: str, macro: str, /, **values: object) -> str:
    """Render a macro of a template in plain text: the sentences of a page.

    Returns:
        One line a paragraph, with an empty line between two.
    """
    text = getattr(_environment().get_template(template).module, macro)(**values)
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n\n".join(filter(None, paragraphs))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("twinrank.reports"),
        autoescape=select_autoescape(["html"]),  # texts (.txt) are escaped as the page takes them
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "numeric": terminal.numeric_columns,
        "long": find_long_columns,
        "MARKS": MARKS,
        "FOLDED_FROM": FOLDED_FROM,
    }
    environment.filters |= {
        "difference": terminal.describe_difference,
        "figure": terminal.figure,
        "joined": terminal.join_words,
        "number": "{:,}".format,
        "percent": "{:.0%}".format,
        "reached": terminal.reached,
    }
    return environment


def script_json(value: object) -> str:
    """Give JSON for inside a script element, which nothing in it can end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def find_long_columns(rows: Rows) -> list[bool]:
    """Tell for each column whether it holds text that has to be wrapped."""
    return [
        any(len(cell) > WRAPPED_FROM or "\n" in cell for cell in column)
        for column in zip(*rows, strict=True)
    ]
