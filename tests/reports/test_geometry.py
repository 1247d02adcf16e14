import html
import re

import polars as pl
import pytest

from twinrank.encoding import FeatureStore
from twinrank.evaluation import View, centroid_views, geometry
from twinrank.reports.figures import COLOURS, hover_text
from twinrank.reports.geometry_report import COLUMNS, READINGS, centroid_figure, space_tables
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
    queries = pl.DataFrame(about).select("answer", "type", "text").hstack(xy)
    return View("a way", centroids, queries.with_columns(id=pl.lit("q")), (0.25, 0.125))


def test_a_row_a_ranker_with_every_figure_and_how_to_read_it(ranker, help_centre):
    measured = geometry(ranker, help_centre)
    assert set(COLUMNS) == set(READINGS) == set(measured.figures)
    (_, rows), (_, readings) = space_tables([("one", measured), ("two", measured)])
    assert [row[0] for row in rows] == ["ranker", "one", "two"]
    for column, cell in zip(COLUMNS, rows[2][1:], strict=True):
        value = measured.figures[column]
        assert value is None if cell == "-" else float(cell) == pytest.approx(value, abs=5.1e-4)
    assert [reading for _, reading in readings[1:]] == list(READINGS.values())


def test_the_figure_of_a_ranker(ranker, help_centre):
    views = centroid_views(ranker, help_centre)
    plot = centroid_figure("zero-shot", views)
    types = sorted(views[0].centroids["type"].unique())
    assert len(plot.data) == 3 * (2 * len(types) + 1)
    assert [trace.name for trace in plot.data if trace.showlegend] == types
    for kind in types:
        faint, large, *_ = traces = [t for t in plot.data if t.legendgroup == kind]
        assert len({trace.marker.color for trace in traces}) == 1
        assert large.marker.color in COLOURS
        assert faint.marker.size < large.marker.size
        assert faint.marker.opacity < large.marker.opacity
    assert [axis.scaleanchor for axis in plot.select_yaxes()] == ["x", "x2", "x3"]
    assert f"{views[1].explained[0]:.0%}" in plot.layout.xaxis2.title.text


@pytest.mark.parametrize(("types", "x"), [(("a", "b", "c"), (0, 1, 2, None)), (("a",), ())])
def test_lines_join_the_centroids_of_one_answer(types, x):
    plot = centroid_figure("a ranker", [view(types=types)])
    (lines,) = (trace for trace in plot.data if trace.mode == "lines")
    assert lines.x == x


def test_more_types_than_colours_differ_in_their_symbol():
    plot = centroid_figure("a ranker", [view(types=tuple(f"type {i:02}" for i in range(8)))])
    assert len({(t.marker.color, t.marker.symbol) for t in plot.data if t.mode == "markers"}) == 8


def test_what_people_wrote_is_harmless_wrapped_and_cut():
    script = '<script>alert("x")</script> & so on'
    plot = centroid_figure(script, [view(types=("<b>", "c"), text=script)])
    texts = [text for trace in plot.data for text in trace.hovertext or ()]
    assert texts and all("<script" not in text and "&lt;script&gt;" in text for text in texts)
    assert {t.name for t in plot.data if t.mode == "markers"} == {"&lt;b&gt;", "c"}
    assert "<script" not in plot.layout.title.text
    lines = hover_text("one <two> & three " * 40).split("<br>")
    plain = [html.unescape(line) for line in lines]
    assert all(len(line) <= 60 for line in plain) and sum(map(len, plain)) <= 300
    assert plain[-1].endswith("…")
    assert not re.search(r"&(?!lt;|gt;|amp;)", "".join(lines))
    assert hover_text("short\n\n text") == "short text"
