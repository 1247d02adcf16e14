import builtins
import html
import re

import polars as pl
import pytest
from rich.console import Console

from twinrank.encoding import FeatureStore
from twinrank.errors import TwinrankError
from twinrank.evaluation import View, centroid_views, geometry
from twinrank.reports import centroid_figure, geometry_table
from twinrank.reports.geometry import COLOURS, COLUMNS, hover_text
from twinrank.training import train


@pytest.fixture(scope="module")
def ranker(recipes, help_centre):
    return train(help_centre, recipes["zero-shot"], store=FeatureStore())


def view(types=("a", "b", "c"), text="a text", title="A title"):
    """Two answers: one with queries of every type, one of the first alone."""
    kinds = [*types, types[0]]
    n = len(kinds)
    about = {"answer": ["one"] * (n - 1) + ["two"], "title": title, "type": kinds, "text": text}
    spots = pl.DataFrame({"x": [float(i) for i in range(n)], "y": [float(-i) for i in range(n)]})
    centroids = pl.DataFrame(about | {"queries": 2}).hstack(spots)
    single = pl.DataFrame(about).select("answer", "type", "text").hstack(spots)
    queries = single.with_columns(id=pl.lit("q"))
    return View("a way", centroids, queries, (0.25, 0.125))


def printed(table, width):
    console = Console(width=width, record=True)
    console.print(table)
    return console.export_text()


def test_a_row_a_ranker_within_120_characters(ranker, help_centre):
    measured = geometry(ranker, help_centre)
    names = ["zero-shot", "handover-baseline", "pretrained-frozen"]
    text = printed(geometry_table([(name, measured) for name in names]), 120)
    assert max(map(len, text.splitlines())) <= 120
    for name in names:
        (line,) = (line for line in text.splitlines() if line.strip().startswith(name))
        cells = line.split()[1:]
        for column, cell in zip(COLUMNS, cells, strict=True):
            value = measured.figures[column]
            if value is None:
                assert cell == "-"
            else:
                assert float(cell) == pytest.approx(value, abs=5.1e-4)
    assert f"{measured.queries} queries" in text


def test_every_figure_has_a_column(ranker, help_centre):
    assert set(COLUMNS) == set(geometry(ranker, help_centre).figures)


def test_the_figure_of_a_ranker(ranker, help_centre):
    views = centroid_views(ranker, help_centre)
    plot = centroid_figure("zero-shot", views)
    types = sorted(views[0].centroids["type"].unique())
    assert len(plot.data) == 3 * (2 * len(types) + 1)
    named = [trace.name for trace in plot.data if trace.showlegend]
    assert named == types
    for kind in types:
        own = [trace for trace in plot.data if trace.legendgroup == kind]
        assert len(own) == 6
        assert len({trace.marker.color for trace in own}) == 1
        assert own[0].marker.color in COLOURS
        assert own[0].marker.size < own[1].marker.size
        assert own[0].marker.opacity < own[1].marker.opacity
    assert plot.layout.paper_bgcolor == plot.layout.plot_bgcolor == "rgba(0,0,0,0)"
    anchors = [axis.scaleanchor for axis in plot.select_yaxes()]
    assert anchors == ["x", "x2", "x3"]
    percent = f"{views[1].explained[0]:.0%}"
    assert percent in plot.layout.xaxis2.title.text
    plot.to_json()


def test_lines_join_the_centroids_of_one_answer():
    plot = centroid_figure("a ranker", [view()])
    (lines,) = (trace for trace in plot.data if trace.mode == "lines")
    assert lines.x == (0.0, 1.0, 2.0, None)
    assert lines.y == (0.0, -1.0, -2.0, None)
    one_type = centroid_figure("a ranker", [view(types=("a",))])
    (lines,) = (trace for trace in one_type.data if trace.mode == "lines")
    assert not lines.x  # one centroid an answer


def test_more_types_than_colours_differ_in_their_symbol():
    types = tuple(f"type {i:02}" for i in range(8))
    plot = centroid_figure("a ranker", [view(types=types)])
    looks = {(t.marker.color, t.marker.symbol) for t in plot.data if t.mode == "markers"}
    assert len(looks) == 8


def test_what_people_wrote_is_harmless():
    script = '<script>alert("x")</script> & so on'
    plot = centroid_figure(script, [view(types=("<b>", "c"), text=script, title=script)])
    texts = [text for trace in plot.data for text in trace.hovertext or ()]
    assert texts and all("<script" not in text and "&lt;script&gt;" in text for text in texts)
    names = {trace.name for trace in plot.data if trace.mode == "markers"}
    assert names == {"&lt;b&gt;", "c"}
    assert "<script" not in plot.layout.title.text
    page = plot.to_html(include_plotlyjs=False, full_html=False)
    assert "alert" in page and "<script>alert" not in page


def test_hover_text_is_wrapped_and_cut():
    lines = hover_text("one <two> & three " * 40).split("<br>")
    plain = [html.unescape(line) for line in lines]
    assert all(len(line) <= 60 for line in plain)
    assert sum(map(len, plain)) <= 300
    assert plain[-1].endswith("…")
    assert hover_text("short\n\n text") == "short text"
    assert not re.search(r"&(?!lt;|gt;|amp;)", "".join(lines))
    assert all(len(html.unescape(line)) <= 60 for line in hover_text("x" * 500).split("<br>"))


def test_without_plotly_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(TwinrankError, match=r"pip install 'twinrank\[report\]'"):
        centroid_figure("a ranker", [view()])
