import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from twinrank.errors import TwinrankError
from twinrank.reports.page import Section, page, script_json
from twinrank.reports.terminal import numeric_columns

NASTY = "</script><script>alert('x')</script> & <b>"


class Seen(HTMLParser):
    """What a browser would find: every tag with its attributes, the text of scripts and cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.texts, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        (self.scripts if inside == "script" else self.texts).append(data)

    def of(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def drawn(text):
    """The values that the page's script draws."""
    return json.loads(re.search(r'id="drawn">(.*?)</script>', text, re.DOTALL)[1])


def hover_texts(text):
    """All hover texts of all figures."""
    traces = [trace for figure in drawn(text)["figures"] for trace in figure["data"]]
    return [hover for trace in traces for hover in trace.get("hovertext") or ()]


@pytest.fixture
def nasty():
    plot = Figure()
    plot.add_scatter(x=[1, 2], y=[3, 4], hovertext=[NASTY, "plain"], name=NASTY)
    rows = [["name", "value", "about"], [NASTY, ".5", NASTY], ["two", "-", "word"]]
    return page(NASTY, [Section(NASTY, [NASTY], [(plot, NASTY)], [(NASTY, rows)])])


def test_what_people_wrote_stays_text(nasty):
    seen = Seen(nasty)
    assert len(seen.of("script")) == 3  # the values, plotly.js, what draws
    assert not seen.of("b")
    assert sum(NASTY in text for text in seen.texts) >= 6
    assert nasty.count(get_plotlyjs()) == 1
    (figure,) = drawn(nasty)["figures"]
    assert figure["data"][0]["name"] == NASTY
    assert hover_texts(nasty) == [NASTY, "plain"]


def test_nothing_is_asked_of_the_network(nasty):
    seen = Seen(nasty)
    for _, attrs in seen.tags:
        for name in ("src", "href", "data", "action", "srcset"):
            value = attrs.get(name) or ""
            assert value.startswith(("#", "data:")) or not value
    policies = {a["content"] for a in seen.of("meta") if a.get("http-equiv")}
    assert policies == {
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    }
    assert "url(" not in "".join(re.findall(r"<style>(.*?)</style>", nasty, re.DOTALL))


def test_headings_captions_and_tables_are_marked_up(nasty):
    seen = Seen(nasty)
    assert seen.of("html") == [{"lang": "en"}]
    assert len(seen.of("h1")) == len(seen.of("h2")) == len(seen.of("figcaption")) == 1
    assert len(seen.of("caption")) == 1
    assert [a["scope"] for a in seen.of("th")] == ["col"] * 3 + ["row"] * 2
    assert [a.get("class") for a in seen.of("td")] == ["number", None] * 2
    ids = [a["id"] for _, a in seen.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {id_ for _, a in seen.tags for id_ in a.get("aria-labelledby", "").split()} <= set(ids)


def test_numeric_columns():
    rows = [["name", "a", "b", "c"], ["1", "-.5", "x", "<.001"], ["2", "-", "1", ".2 (.1-.3)"]]
    assert numeric_columns(rows) == [False, True, False, True]


@pytest.mark.parametrize("text", [NASTY, "<!--", "a\u2028b", "\\u003c", '"'])
def test_json_in_a_script_reads_back_and_ends_nothing(text):
    written = script_json([text])
    assert "<" not in written and "\u2028" not in written
    assert json.loads(written) == [text]


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(TwinrankError, match=r"pages need .* pip install 'twinrank\[explore\]'"):
        page("A page", [])


def test_a_table_at_the_terminal_loads_nothing_that_pages_need():
    code = "import sys, twinrank.reports.terminal; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"plotly", "jinja2", "sklearn", "torch", "polars", "twinrank.ranking"}
    assert not {"twinrank.exploration", "twinrank.planning", *heavy} & set(done.stdout.split())
