import re
from dataclasses import replace

import pytest

from tests.reports.test_page import drawn
from twinrank.encoding import FeatureStore
from twinrank.evaluation import mistakes
from twinrank.experiments import examine
from twinrank.reports.run_report import draw_quality, run_page
from twinrank.reports.terminal import figure, reached
from twinrank.training import train


@pytest.fixture(scope="module")
def examination(recipes, help_centre, tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    names = ("towers", "fused", "bm25")
    for name in names:
        train(help_centre, recipes[name], out=home / name, store=FeatureStore())
    return examine([home / name for name in names], store=FeatureStore())


def alone(examination, name):
    """The report of one of the runs."""
    (run,) = (run for run in examination.runs if run.name == name)
    return replace(examination, runs=(run,), differences=[])


def headings(text):
    return re.findall(r'<h2 id="heading-\d+">(.*?)</h2>', text)


def tables(text):
    """The cells of each table, row by row, by its caption."""
    by_caption = {}
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        caption = re.search(r"<caption.*?<span>(.*?)</span>", table)
        by_caption[caption[1] if caption else "folded"] = cells
    return by_caption


def test_the_page_of_one_run_has_every_section(examination):
    report = alone(examination, "towers")
    text = run_page(report)
    assert headings(text) == [
        *("In short", "Quality for each type of query", "Confidence"),
        *("Answers mistaken for each other", "The worst misses", "Geometry", "Learning"),
        *("Recipe", "Data", "How it was measured"),
    ]
    (figures,) = (rows for title, rows in tables(text).items() if "Every figure" in title)
    head, overall, *types, _worst, _gap = figures
    assert head[1:] == ["top-1", "top-3", "top-10", "MAP@3", "MAP@10", "loss"]
    values = report.runs[0].evaluation.as_dict()
    for kind, row in zip((None, "conversation", "question"), (overall, *types), strict=True):
        assert row[5] == reached(values, "map@10", kind)
    first = text[text.index("<dl") : text.index("</dl>")]
    assert first.count("<dt>") == 2 * len(values["types"]) + 2
    assert len(drawn(text)["figures"]) == 3
    assert len(text.encode()) < 6e6


def test_words_alone_have_neither_curves_nor_space(examination):
    text = run_page(alone(examination, "bm25"))
    assert "Geometry" not in headings(text)
    assert "Nothing was trained for bm25." in text


def test_several_runs_stand_side_by_side(examination):
    text = run_page(examination)
    runs = examination.runs
    worst = [heading for heading in headings(text) if "worst misses" in heading]
    assert worst == [f"{run.name}: The worst misses" for run in runs]
    marks = {trace.name: trace for trace in draw_quality(runs).data if trace.xaxis == "x"}
    for run in runs:
        assert marks[run.name].y[0] == run.evaluation.overall["accuracy@3"]
    assert tables(text)["Differences"][0][:2] == ["difference", "queries"]
    choices = {row[0]: row[1:] for row in tables(text)["Every choice"]}
    assert choices["encoder.answers"] == ["whole", "sections", "-"]
    assert choices["seed"] == ["0"] * 3
    assert len(text.encode()) < 6e6


def test_misses_are_listed_with_their_texts(examination):
    report = alone(examination, "fused")
    (run,) = report.runs
    head, *rows = tables(run_page(report))["The highest loss"]
    titles = dict(run.ranker.answers.select("id", "title").iter_rows())
    for row, miss in zip(rows, run.mistakes.worst(10).to_dicts(), strict=True):
        cells = dict(zip(head, row, strict=True))
        assert cells["loss"] == figure(miss["loss"])
        assert cells["right answer"] == titles[miss["right"]]
        assert cells["its rank"] == str(miss["rank"])


def test_a_ranker_without_confidence_is_reported_too(examination):
    report = alone(examination, "bm25")
    (run,) = report.runs
    rows = run.evaluation.per_query.drop("confidence")
    bare = replace(run.evaluation, per_query=rows, confidence={})
    silent = replace(run, evaluation=bare, mistakes=mistakes(rows))
    text = run_page(replace(report, runs=(silent,)))
    assert "Confidence" not in headings(text)
    assert "The surest of a wrong answer" not in text
    both = run_page(replace(examination, runs=(examination.runs[0], silent)))
    assert "towers: its confidence" in both


def test_many_points_are_thinned_and_that_is_said(examination, monkeypatch):
    monkeypatch.setattr("twinrank.reports.run_report.MAX_POINTS", 50)
    report = alone(examination, "towers")
    text = run_page(report)
    assert "No more than 50 queries, and as many centroids, are drawn." in text
    traces = [trace for figure in drawn(text)["figures"] for trace in figure["data"]]
    queries = [trace for trace in traces if trace.get("marker", {}).get("size") == 4]
    assert sum(len(trace["x"]) for trace in queries) == 50
