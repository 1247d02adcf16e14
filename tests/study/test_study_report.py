import copy
import json

import pytest
from plotly.offline import get_plotlyjs
from rich.console import Console

from tests.reports.test_page import Seen, drawn
from twinrank.reports.study_expectations import list_expectations
from twinrank.reports.study_figures import draw_controls
from twinrank.reports.study_findings import collect_findings, judge_pretraining
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
    text = study_page(results, study.pictured)
    read = words(text)
    for name in ("zero-shot-cls", "handover-barlow-zero-shot", "control-across"):
        assert reached(arm(results, name)) in read
    assert f"{results['labels']:,} labels" in read
    assert "trained with 2 seeds (1 with fewer labels)" in read
    assert f"{results['queries']['overall']} queries" in read
    reason = results["left_out"]["control-large-answers"]
    assert f"control-large-answers was left out: {reason}" in read
    assert "private support queries in Danish" in read and "2.09" in read
    assert text.count(get_plotlyjs()) == 1
    assert len(drawn(text)["figures"]) == 3
    assert len(text.encode()) < 6e6
    cause = collect_findings(results)["In short"][0]
    published = arm(results, "handover-barlow-zero-shot")
    assert f"the loss to expect is {published['expected_loss']:.0f}" in cause
    assert f"over {published['steps']:,} steps" in cause


def test_figures_draw_the_results(results):
    values = {}
    for bars in draw_controls(results).data:
        ends = zip(bars.x, bars.error_x.arrayminus, bars.error_x.array, strict=True)
        values |= {round(x, 9): (x - less, x + more) for x, less, more in ends}
    for name in ("zero-shot-cls", "handover-barlow-zero-shot", "control-across"):
        shown = arm(results, name)
        bounds = shown["intervals"]["overall"]["accuracy@3"]
        assert values[round(shown["overall"]["accuracy@3"], 9)] == pytest.approx(bounds)


def test_every_guess_of_theirs_has_figures_and_a_verdict(results):
    head, *rows = list_expectations(results)
    assert len(rows) == 12 and all(len(row) == len(head) and all(row) for row in rows)
    scale = next(row for row in rows if row[0].startswith("The scale"))
    before = arm(results, "handover-dual")["epochs"]["ranking"][0]["loss"][0]
    assert f"the dual's {before:,.1f}" in scale[2]
    published = arm(results, "handover-barlow-zero-shot")
    for cosine, verdict in ((0.0, "a symptom"), (1.0, "it may be the cause")):
        published["signs"]["cosine_accuracy"]["mean"] = cosine
        assert any(row[3].startswith(verdict) for row in list_expectations(results))
    untested = {**results, "differences": []}
    assert len(list_expectations(untested)) == len(rows)  # and the head: no verdict without a test
    arm(results, "handover-dual")["overall"]["accuracy@3"] = 0.99
    assert list_expectations(results)[11][3] == "reproduced"
    arm(results, "handover-dual")["overall"]["accuracy@3"] = 0.0
    assert "worse" in list_expectations(results)[11][3]


def test_controls_take_as_many_steps(results):
    steps = [
        arm(results, name)["steps"] for name in ("handover-barlow-zero-shot", "control-no-steps")
    ]
    assert steps[0] == steps[1]
    across = arm(results, "control-across")
    batches = across["epochs"]["pretraining"][0]["batches"][1]
    assert abs(across["steps"] - steps[0]) <= batches / 2
    assert all(len(seed) == across["steps"] for seed in across["losses"])


@pytest.mark.parametrize(
    ("value", "outcome"), [(0.09, "collapsed"), (0.1, "worse"), (0.19, "worse"), (0.2, "whole")]
)
def test_a_collapse_and_its_mend_are_told_by_the_results(results, value, outcome):
    arm(results, "zero-shot-cls")["intervals"]["overall"]["accuracy@3"] = [0.2, 0.4]
    arm(results, "handover-barlow-zero-shot")["overall"]["accuracy@3"] = 0.01
    arm(results, "control-across")["overall"]["accuracy@3"] = value
    arms = {a["name"]: a for a in results["arms"]}
    assert judge_pretraining("control-across", arms) == outcome
    cause, mend = collect_findings(results)["In short"][:2]
    assert "handover-barlow-zero-shot) collapses: its top-3 accuracy" in cause
    assert any(figure(value) in line for line in collect_findings(results)["The controls"])
    verdicts = {"collapsed": "collapses:", "worse": "ranks worse", "whole": "does not collapse:"}
    assert verdicts[outcome] in mend and figure(value) in mend
    arm(results, "handover-barlow-zero-shot")["overall"]["accuracy@3"] = 0.9
    assert "does not collapse" in collect_findings(results)["In short"][0]


def test_only_a_sure_difference_is_one(results):
    for d in results["differences"]:
        d["p_holm"] = 0.05
    (nothing,) = collect_findings(results)["What pre-training is worth"]
    assert "makes no difference that the queries measured could show (8 comparisons)" in nothing
    for d in results["differences"]:
        if (d["arm"], d["metric"], d["type"]) == ("barlow-inherit", "map@10", None):
            d |= {"p_holm": 0.049, "difference": -0.1}
    (sure,) = collect_findings(results)["What pre-training is worth"]
    assert "beyond chance in 1 of 8 comparisons: barlow-inherit against residual: MAP@10" in sure
    assert "-.100 (" in sure and "p .049" in sure and "top-3" not in sure


def test_every_single_arm_may_be_missing(results):
    for missing in results["arms"]:
        text = " ".join(Seen(study_page(without(results, missing["name"]), {})).texts)
        assert text.count("None") == text.count("nan") == 0
    names = [a["name"] for a in results["arms"] if a["name"] not in ("residual", "bm25")]
    arm(results, "residual")["part"] = "added"
    left = without(results, *names) | {"fewer_labels": {"rows": [], "differences": []}}
    assert "Added" in words(study_page(left, {}))


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
    assert "gap between types" not in text


def test_a_study_on_disk_and_at_a_terminal(results, study, tmp_path):
    home = tmp_path / "deep" / "study"
    written = write_study(results, study.pictured, home)
    assert {path.name for path in home.iterdir()} == {"results.json", "index.html"}
    assert sorted(written) == sorted(home.iterdir())
    assert json.loads((home / "results.json").read_text()) == results
    console = Console(width=80, record=True)
    with console.capture() as shown:
        console.print(study_tables(results))
    assert max(map(len, shown.get().splitlines())) <= 80
    assert "- Partners drawn at random" in shown.get()
