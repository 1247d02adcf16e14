import html
import re

import polars as pl
import pytest

from twinrank.encoding import FeatureStore
from twinrank.evaluation import View, centroid_view, geometry
from twinrank.reports.figures import COLOURS, hover_text
from twinrank.reports.geometry_report import FIGURES, draw_centroids, space_tables
from twinrank.training import train


@pytest.fixture(scope="module")
def ranker(recipes, help_centre):
    return train(help_centre, recipes["zero-shot"], store=FeatureStore())


def view(types=("a", "b", "c"), text="a text"):
    """Two answers: one with queries of every type, one of the first alone."""
    kinds = [*types, types[0]]
    n = len(kinds)
    about = {"answer": ["one"] * (n - 1) + ["two"], "title": text, "type": kinds, "text": text}
    xy = pl.DataFrame({"x": [float(i) for i in range(n)], "y": [float(-i) for i in range(n)]})
    centroids = pl.DataFrame(about | {"queries": 2}).hstack(xy)
    return View(centroids, pl.DataFrame(about).select("type", "text").hstack(xy), (0.25, 0.125))


def test_a_row_a_ranker_with_every_figure_and_how_to_read_it(ranker, help_centre):
    measured = geometry(ranker, help_centre)
    assert set(FIGURES) == set(measured.figures)
    (_, rows), (_, readings) = space_tables({"one": measured, "two": measured})
    assert [row[0] for row in rows] == ["ranker", "one", "two"]
    for name, cell in zip(FIGURES, rows[2][1:], strict=True):
        value = measured.figures[name]
        assert value is None if cell == "-" else float(cell) == pytest.approx(value, abs=5.1e-4)
    assert [tuple(row) for row in readings[1:]] == list(FIGURES.values())


def test_the_views_of_rankers_stand_side_by_side(ranker, help_centre):
    one = centroid_view(ranker, help_centre)
    plot = draw_centroids({"one": one, "two": one})
    types = sorted(one.centroids["type"].unique())
    assert len(plot.data) == 2 * (2 * len(types) + 1)
    assert [trace.name for trace in plot.data if trace.showlegend] == types
    for kind in types:
        faint, large, *_ = traces = [t for t in plot.data if t.legendgroup == kind]
        assert len({trace.marker.color for trace in traces}) == 1
        assert large.marker.color in COLOURS
        assert faint.marker.size < large.marker.size
        assert faint.marker.opacity < large.marker.opacity
    assert [axis.scaleanchor for axis in plot.select_yaxes()] == ["x", "x2"]
    assert f"{one.explained[0]:.0%}" in plot.layout.xaxis2.title.text


@pytest.mark.parametrize(("types", "x"), [(("a", "b", "c"), (0, 1, 2, None)), (("a",), ())])
def test_lines_join_the_centroids_of_one_answer(types, x):
    plot = draw_centroids({"a ranker": view(types=types)})
    (lines,) = (trace for trace in plot.data if trace.mode == "lines")
    assert lines.x == x


def test_more_types_than_colours_differ_in_their_symbol():
    plot = draw_centroids({"a ranker": view(types=tuple(f"type {i:02}" for i in range(8)))})
    assert len({(t.marker.color, t.marker.symbol) for t in plot.data if t.mode == "markers"}) == 8


def test_what_people_wrote_is_harmless_wrapped_and_cut():
    script = '<script>alert("x")</script> & so on'
    plot = draw_centroids({script: view(types=("<b>", "c"), text=script)})
    texts = [text for trace in plot.data for text in trace.hovertext or ()]
    assert all("<script" not in text and "&lt;script&gt;" in text for text in filter(None, texts))
    assert {t.name for t in plot.data if t.name} == {"&lt;b&gt;", "c"}
    assert "<script" not in plot.layout.annotations[0].text
    lines = hover_text("one <two> & three " * 40).split("<br>")
    plain = [html.unescape(line) for line in lines]
    assert all(len(line) <= 60 for line in plain) and sum(map(len, plain)) <= 300
    assert plain[-1].endswith("…")
    assert not re.search(r"&(?!lt;|gt;|amp;)", "".join(lines))
    assert hover_text("short\n\n text") == "short text"
