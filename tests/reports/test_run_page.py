import re

import polars as pl
import pytest

from tests.reports.test_page import NASTY, Seen, drawn, hover_texts
from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.experiments import examine
from twinrank.reports.run_curves import learning_figures
from twinrank.reports.run_figures import calibration_figure, confusion_figure, misses_figure
from twinrank.reports.run_page import run_page, write_report
from twinrank.reports.run_tables import (
    confused_pairs,
    metric_rows,
    miss_rows,
    overlap_rows,
    quality_rows,
    setting_rows,
)
from twinrank.training import train


def shown(value):
    return f"{value:.3f}".removeprefix("0")


@pytest.fixture(scope="module")
def examination(recipes, help_centre, tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    for name in ("fused", "towers", "bm25", "zero-shot"):
        train(help_centre, recipes[name], out=home / name, store=FeatureStore())
    names = ("towers", "fused", "bm25", "zero-shot")
    return examine([home / name for name in names], store=FeatureStore())


@pytest.fixture(scope="module")
def nasty(recipes, help_centre, tmp_path_factory):
    """A report on data whose every text, title and type holds a script tag."""
    home = tmp_path_factory.mktemp("nasty")
    text = pl.lit(NASTY + " ") + pl.col("text")
    kind = pl.col("type") + "<script>alert(1)</script>"
    data = Dataset(
        name="data",
        answers=help_centre.answers.with_columns(title=pl.lit(NASTY) + pl.col("title")),
        queries=help_centre.queries.with_columns(text=text, type=kind),
        labels=help_centre.labels,
    )
    data.save(home / "data")
    train(Dataset.load(home / "data"), recipes["towers"], out=home / "run", store=FeatureStore())
    return run_page(examine([home / "run"], store=FeatureStore()))


def alone(examination, name):
    """A report on one of the runs."""
    (run,) = (run for run in examination.runs if run.name == name)
    return type(examination)(examination.dataset, examination.description, "test", (run,), [])


def headings(text):
    return re.findall(r'<h2 id="heading-\d+">(.*?)</h2>', text)


def test_the_page_of_one_run_has_every_part(examination):
    one = alone(examination, "towers")
    text = run_page(one)
    assert headings(text) == [
        *("In short", "Quality for each type of query", "Recipe", "Data", "Learning"),
        *("Confidence", "Answers mistaken for each other", "The worst misses", "Geometry"),
        *("Model card", "How it was measured"),
    ]
    seen = " ".join(Seen(text).texts)
    found = one.runs[0].evaluation
    for kind in ("question", "conversation"):
        low, high = found.intervals["types"][kind]["map@10"]
        assert f"{shown(found.types[kind]['map@10'])} ({shown(low)}-{shown(high)})" in seen
    assert len(drawn(text)["figures"]) == 6
    assert len(text.encode()) < 6e6


def test_words_alone_have_neither_curves_nor_space(examination):
    text = run_page(alone(examination, "bm25"))
    assert "Geometry" not in headings(text)
    assert "Nothing was trained for bm25." in text
    assert learning_figures(alone(examination, "bm25").runs) == []


def test_several_runs_stand_side_by_side(examination, tmp_path):
    file = tmp_path / "report.html"
    write_report(examination, file)
    text = file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    heads = headings(text)
    assert [h for h in heads if "worst misses" in h] == [
        f"{run.name}: the worst misses" for run in examination.runs
    ]
    (curves,) = learning_figures(examination.runs)
    assert {trace.legendgroup for trace in curves.data} >= {"towers", "fused"}
    rows = quality_rows(examination.runs)
    assert [row[0] for row in rows] == ["run", "towers", "fused", "bm25", "zero-shot"]
    assert len(text.encode()) < 6e6


def test_misses_are_told_with_their_texts(examination):
    (run,) = alone(examination, "fused").runs
    head, *rows = miss_rows(run, run.mistakes.worst(3))
    titles = dict(run.ranker.answers.select("id", "title").iter_rows())
    for row, miss in zip(rows, run.mistakes.worst(3).to_dicts(), strict=True):
        told = dict(zip(head, row, strict=True))
        assert told["query"] == miss["text"]
        assert told["right answer"] == titles[miss["right"]]
        assert told["given first"] == titles[miss["first"]]
        assert told["its rank"] == str(miss["rank"])
    points = sum(len(trace.x) for trace in misses_figure(run).data)
    assert points == run.mistakes.misses.height


def test_bars_of_a_pair_add_up_to_its_misses(examination):
    (run,) = alone(examination, "bm25").runs
    pairs = confused_pairs(run, 6)
    assert 0 < len(pairs) <= 6
    assert min(pair["misses"] for pair in pairs) > 1
    bars = confusion_figure(run, pairs).data
    totals = [a + b for a, b in zip(*(trace.x for trace in bars), strict=True)]
    assert totals == [pair["misses"] for pair in pairs]


def test_what_one_run_has_right_and_another_not_is_counted(examination):
    rows = overlap_rows(examination.runs)
    first, other = (run.evaluation.per_query["accuracy@3"] for run in examination.runs[:2])
    both, it_alone, the_other, neither = map(int, rows[1][2:])
    assert both + it_alone == other.sum()
    assert both + the_other == first.sum()
    assert both + it_alone + the_other + neither == len(first)


def test_recipes_are_told_by_what_differs(examination):
    tables = dict(setting_rows(examination.runs))
    differ = {row[0]: row[1:] for row in tables["Choices that differ"]}
    assert differ["encoder.answers"] == ["whole", "sections", "-", "whole"]
    assert "seed" not in differ
    assert ["seed", "0"] in tables["Choices they share"]


def test_every_metric_has_its_row(examination):
    head, *rows = metric_rows(examination.runs[0].evaluation)
    assert head == ["type", "queries", "top-1", "top-3", "top-10", "MAP@3", "MAP@10", "loss"]
    names = [row[0] for row in rows]
    assert names == ["overall", "conversation", "question", "worst type", "gap"]


def test_a_ranker_without_confidence_is_reported_too(examination):
    one = alone(examination, "bm25")
    (run,) = one.runs
    rows = run.evaluation.per_query.drop("confidence")
    bare = type(run.evaluation)(
        **{**vars(run.evaluation), "per_query": rows, "confidence": {}},
    )
    from twinrank.evaluation import mistakes

    known = type(run)(**{**vars(run), "evaluation": bare, "mistakes": mistakes(rows)})
    text = run_page(type(one)(one.dataset, one.description, "test", (known,), []))
    assert "Confidence" not in headings(text)
    assert "The surest of a wrong answer" not in text
    both = calibration_figure([*examination.runs[:1], run])
    assert {trace.legendgroup for trace in both.data} == {None, "towers", "bm25"}


def test_what_people_wrote_stays_text(nasty):
    seen = Seen(nasty)
    assert len(seen.of("script")) == 3
    assert not seen.of("b")
    assert any("alert('x')" in text for text in seen.texts)
    for text in hover_texts(nasty):
        assert "<script" not in text
    for figure in drawn(nasty)["figures"]:
        for trace in figure["data"]:
            assert "<script" not in str(trace.get("name", ""))
        assert "<script" not in str(figure["layout"])


def test_many_points_are_thinned_and_that_is_said(examination, monkeypatch):
    monkeypatch.setattr("twinrank.reports.run_tables.DRAWN", 50)
    monkeypatch.setattr("twinrank.reports.run_figures.DRAWN", 50)
    monkeypatch.setattr("twinrank.reports.run_text.DRAWN", 50)
    one = alone(examination, "towers")
    text = run_page(one)
    assert "No more than 50 queries, and as many centroids, are drawn." in text
    misses = one.runs[0].mistakes.misses.height
    assert f"Of {misses} misses, 50 are drawn, by lot." in text
    (space,) = (f for f in drawn(text)["figures"] if len(f["layout"].get("annotations", ())) == 3)
    drawn_queries = sum(len(t["x"]) for t in space["data"] if t.get("marker", {}).get("size") == 4)
    assert drawn_queries == 3 * 50
