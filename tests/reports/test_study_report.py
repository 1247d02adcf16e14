import copy
import json

import pytest
from plotly.offline import get_plotlyjs
from rich.console import Console

from tests.reports.test_page import NASTY, Seen, drawn
from twinrank.reports.study_figures import (
    draw_controls,
    draw_differences,
    draw_labels,
    draw_learning,
    draw_pretraining,
)
from twinrank.reports.study_findings import (
    BATCHES,
    collect_findings,
    find_controls,
    find_mend,
    find_mixing,
    find_worth,
    judge_pretraining,
)
from twinrank.reports.study_report import study_page, study_tables, write_study
from twinrank.reports.terminal import figure, reached

pytestmark = pytest.mark.slow


@pytest.fixture
def results(study):
    """A copy of its own, as it is read from results.json."""
    return json.loads(json.dumps(study.results))


def arm(results, name):
    (values,) = (arm for arm in results["arms"] if arm["name"] == name)
    return values


def without(results, *names):
    """As if these recipes had not been carried out."""
    left = copy.deepcopy(results)
    left["arms"] = [arm for arm in left["arms"] if arm["name"] not in names]
    known = {arm["name"] for arm in left["arms"]}
    for part in ("differences", "reading"):
        left[part] = [d for d in left[part] if {d["arm"], d["without"]} <= known]
    return left


def words(text):
    return " ".join(" ".join(Seen(text).texts).split())


def test_the_page_says_what_was_measured(results, study):
    text = study_page(results, study.views)
    read = words(text)
    for name in ("zero-shot-cls", "handover-barlow-zero-shot", "control-across"):
        assert reached(arm(results, name)) in read
    assert f"{results['labels']:,} labels" in read
    assert "trained with 2 seeds (1 with fewer labels)" in read
    assert f"{results['queries']['overall']} queries" in read
    reason = results["left_out"]["control-large-answers"]
    assert f"control-large-answers was left out: {reason}" in read
    assert "private support queries in Danish" in read and "2.09" in read
    for name in study.views:
        assert f"The space of {name}" in read
    assert text.count(get_plotlyjs()) == 1
    assert len(drawn(text)["figures"]) == 6 + len(study.views)
    assert len(text.encode()) < 6e6


def test_figures_draw_the_results(results):
    values = {}
    for bars in draw_controls(results).data:
        ends = zip(bars.x, bars.error_x.arrayminus, bars.error_x.array, strict=True)
        values |= {round(x, 9): (x - less, x + more) for x, less, more in ends}
    for name in ("zero-shot-cls", "handover-barlow-zero-shot", "control-across"):
        shown = arm(results, name)
        bounds = shown["intervals"]["overall"]["accuracy@3"]
        assert values[round(shown["overall"]["accuracy@3"], 9)] == pytest.approx(bounds)
    rows = [r for r in results["fewer_labels"]["rows"] if r["fewer_of"] is None]
    assert sorted(y for line in draw_labels(results).data for y in line.y) == pytest.approx(
        sorted(row["overall"][metric] for row in rows for metric in ("accuracy@3", "map@10"))
    )
    top_3 = [d["difference"] for d in results["differences"] if d["metric"] == "accuracy@3"]
    marks = [x for dots in draw_differences(results).data for x in dots.x]
    assert sorted(marks) == pytest.approx(sorted(top_3))


def test_losses_are_relative_and_a_mean_ends_where_its_first_seed_stops(results):
    name = "handover-barlow-zero-shot"
    seeds = arm(results, name)["epochs"]["pretraining"]
    thick = [t for t in draw_pretraining(results).data if t.name == name and t.line.width > 2]
    losses = [seed["barlow_loss"][1:] for seed in seeds]
    expected = [sum(s[i] / s[0] for s in losses) / len(losses) for i in range(len(losses[0]))]
    assert list(thick[0].y) == pytest.approx(expected)
    seeds = arm(results, "residual")["epochs"]["ranking"]
    for values in seeds[0].values():
        del values[-1]
    (mean,) = (t for t in draw_learning(results).data if t.name == "residual" and t.line.width > 2)
    assert list(mean.x) == seeds[0]["epoch"] != seeds[1]["epoch"]


@pytest.mark.parametrize(
    ("value", "outcome"), [(0.09, "collapsed"), (0.1, "worse"), (0.19, "worse"), (0.2, "whole")]
)
def test_a_collapse_and_its_mend_are_told_by_the_results(results, value, outcome):
    arm(results, "zero-shot-cls")["intervals"]["overall"]["accuracy@3"] = [0.2, 0.4]
    arm(results, "handover-barlow-zero-shot")["overall"]["accuracy@3"] = 0.01
    arm(results, "control-across")["overall"]["accuracy@3"] = value
    arms = {a["name"]: a for a in results["arms"]}
    assert judge_pretraining("control-across", arms) == outcome
    collapse, mend = collect_findings(results)["In short"][:2]
    assert "handover-barlow-zero-shot) collapses: its top-3 accuracy" in collapse
    assert figure(value) in find_controls(results)[0]
    mended = f"Other batches mend it: {BATCHES['control-across']} (control-across), {figure(value)}"
    assert mend.startswith(mended if outcome == "whole" else "No control mends it.")
    arm(results, "handover-barlow-zero-shot")["overall"]["accuracy@3"] = 0.9
    assert "does not collapse" in collect_findings(results)["In short"][0]
    assert find_mend(results) == []


def test_only_a_sure_difference_is_one(results):
    for d in results["differences"]:
        d["p_holm"] = 0.05
    (nothing,) = find_worth(results)
    assert "makes no difference that the queries measured could show (6 comparisons)" in nothing
    for d in results["differences"]:
        if (d["arm"], d["metric"], d["type"]) == ("barlow-inherit", "map@10", None):
            d |= {"p_holm": 0.049, "difference": -0.1}
    (sure,) = find_worth(results)
    assert "beyond chance in 1 of 6 comparisons: barlow-inherit against residual: MAP@10" in sure
    assert "-.100 (" in sure and "p .049" in sure and "top-3" not in sure


def test_mixing_is_judged_by_the_results(results):
    arms = [a for a in results["arms"] if a["geometry"]]
    for i, a in enumerate(arms):
        a["geometry"]["type_auc"]["mean"] = 0.6 + 0.05 * i
        a["overall"]["accuracy@3"] = 0.1 + 0.1 * i
    assert "not necessary and not sufficient" in find_mixing(results)[0]
    for i, a in enumerate(arms):
        a["overall"]["accuracy@3"] = 0.9 - 0.1 * i
    assert "mixing is not" not in find_mixing(results)[0]


def test_every_single_arm_may_be_missing(results):
    for missing in results["arms"]:
        text = " ".join(Seen(study_page(without(results, missing["name"]), {})).texts)
        assert text.count("None") == text.count("nan") == 0
    names = [a["name"] for a in results["arms"] if a["name"] not in ("residual", "bm25")]
    arm(results, "residual")["part"] = "added"
    left = without(results, *names) | {"fewer_labels": {"rows": [], "differences": []}}
    assert "Added" in words(study_page(left, {}))


def test_a_type_may_be_called_anything(results, study):
    renamed = json.loads(json.dumps(results).replace('"question"', json.dumps(NASTY)))
    text = study_page(renamed, study.views)
    seen = Seen(text)
    assert len(seen.of("script")) == 3 and not seen.of("b")
    assert any(NASTY in part for part in seen.texts)
    assert all("<script" not in line for line in drawn(text)["lines"])
    names = [trace.get("name") or "" for f in drawn(text)["figures"] for trace in f["data"]]
    assert not any("<" in name for name in names)


def test_one_type_alone(results):
    for part in (results, results["fewer_labels"]):
        part["differences"] = [d for d in part["differences"] if d["type"] is None]
    results["queries"]["types"].pop("question")
    rows = results["fewer_labels"]["rows"]  # of one type there is no rare one
    results["fewer_labels"]["rows"] = [row for row in rows if row["fewer_of"] is None]
    for row in results["arms"] + results["fewer_labels"]["rows"]:
        row["types"].pop("question")
        if row.get("geometry"):
            row["geometry"]["type_auc"]["mean"] = None
    text = words(study_page(results, {}))
    assert "gap between types" not in text and "Does it help to mix" not in text


def test_a_study_on_disk_and_at_a_terminal(results, study, tmp_path):
    home = tmp_path / "deep" / "study"
    written = write_study(results, study.views, home)
    assert {path.name for path in home.iterdir()} == {"results.json", "tables.md", "index.html"}
    assert sorted(written) == sorted(home.iterdir())
    assert json.loads((home / "results.json").read_text()) == results
    table = (home / "tables.md").read_text()
    assert "- The published pre-training" in table and "| handover-sections | sections |" in table
    console = Console(width=80, record=True)
    with console.capture() as shown:
        console.print(study_tables(results))
    assert max(map(len, shown.get().splitlines())) <= 80
    assert "- The published pre-training" in shown.get()
