import copy
import json
import re

import pytest
from plotly.offline import get_plotlyjs

from tests.reports.test_page import NASTY, Seen, drawn
from twinrank.reports import write_study
from twinrank.reports.study import READ_ALIKE, reading_tables
from twinrank.reports.study_figures import (
    FIGURES,
    TOLD,
    controls_figure,
    labels_figure,
    learning_figure,
    pretraining_figure,
    space_figure,
    types_figure,
)
from twinrank.reports.study_findings import (
    fate,
    fewer,
    left_out,
    reading,
    short,
    space,
    why,
    worth,
)
from twinrank.reports.study_page import study_page
from twinrank.reports.study_text import CONTROLS


@pytest.fixture
def results(found):
    """One's own copy, as it is read from results.json."""
    return json.loads(json.dumps(found.results))


def arm(results, name):
    (one,) = (arm for arm in results["arms"] if arm["name"] == name)
    return one


def without(results, *names):
    """As if these recipes had not been carried out."""
    left = copy.deepcopy(results)
    left["arms"] = [arm for arm in left["arms"] if arm["name"] not in names]
    there = {arm["name"] for arm in left["arms"]}
    for part in ("differences", "reading"):
        left[part] = [d for d in left[part] if {d["arm"], d["without"]} <= there]
    return left


def renamed(results, old, new):
    """The same with another name for a type."""
    return json.loads(json.dumps(results).replace(json.dumps(old), json.dumps(new)))


def set_top_3(results, name, value):
    arm(results, name)["overall"]["accuracy@3"] = value


def shown(value):
    return f"{value:.3f}".removeprefix("0")


def words(text):
    return " ".join(" ".join(Seen(text).texts).split())


def test_the_page_says_what_was_measured(results, found):
    text = study_page(results, found.views)
    read = words(text)
    for name in ("zero-shot-cls", "handover-barlow-zero-shot", "control-across"):
        own = arm(results, name)
        low, high = own["intervals"]["overall"]["accuracy@3"]
        value = shown(own["overall"]["accuracy@3"])
        assert f"{value} ({shown(low)}-{shown(high)})" in read
    assert f"{results['labels']:,} labels" in read
    assert "trained with 2 seeds (1 with fewer labels)" in read
    assert f"{results['queries']['overall']} queries" in read
    assert results["left_out"]["control-large-answers"] in read
    assert "private support queries in Danish" in read and "2.09" in read
    for name in found.views:
        assert f"The space of {name}" in read
    assert text.count(get_plotlyjs()) == 1
    assert len(drawn(text)["figures"]) == len(FIGURES) + len(found.views)
    assert len(text.encode()) < 6e6


def test_bars_are_the_results_and_end_where_intervals_do(results):
    plot = controls_figure(results)
    names = {label: name for name, label in TOLD.items()}
    bars = {
        names[y]: (x, x - less, x + more)
        for trace in plot.data
        for y, x, less, more in zip(
            trace.y, trace.x, trace.error_x.arrayminus, trace.error_x.array, strict=True
        )
    }
    assert set(bars) == {"zero-shot-cls", "handover-barlow-zero-shot", "control-across"}
    for name, (value, *around) in bars.items():
        own = arm(results, name)
        assert value == own["overall"]["accuracy@3"]
        assert around == pytest.approx(own["intervals"]["overall"]["accuracy@3"])


def test_losses_are_relative_and_means_are_over_seeds(results):
    plot = pretraining_figure(results)
    name = "handover-barlow-zero-shot"
    seeds = arm(results, name)["epochs"]["pretraining"]
    thick = [t for t in plot.data if t.name == name and t.line.width > 2]
    losses = [seed["barlow_loss"][1:] for seed in seeds]
    expected = [sum(s[i] / s[0] for s in losses) / len(losses) for i in range(len(losses[0]))]
    assert list(thick[0].y) == pytest.approx(expected)
    ends = [sum(s["accuracy@3"][i] for s in seeds) / len(seeds) for i in range(3)]
    assert list(thick[1].y) == pytest.approx(ends)


def test_a_mean_ends_where_its_first_seed_stops(results):
    seeds = arm(results, "residual")["epochs"]["ranking"]
    for values in seeds[0].values():
        del values[-1]
    plot = learning_figure(results)
    (mean,) = (t for t in plot.data if t.name == "residual" and t.line.width > 2)
    assert list(mean.x) == seeds[0]["epoch"] != seeds[1]["epoch"]


def test_labels_and_differences_are_drawn_as_they_are(results):
    plot = labels_figure(results)
    rows = [r for r in results["fewer_labels"]["rows"] if r["fewer_of"] is None]
    lines = [t for t in plot.data if t.mode == "lines+markers"]
    assert sorted(y for t in lines for y in t.y) == sorted(
        row["overall"][metric] for row in rows for metric in ("accuracy@3", "map@10")
    )
    dots = types_figure(results).data
    top_3 = [d["difference"] for d in results["differences"] if d["metric"] == "accuracy@3"]
    assert sorted(x for t in dots for x in t.x) == sorted(top_3)
    names = space_figure(results).data[0].text
    assert list(names) == [a["name"] for a in results["arms"] if a["geometry"]]


@pytest.mark.parametrize(
    ("value", "became"), [(0.09, "collapsed"), (0.1, "worse"), (0.19, "worse"), (0.2, "whole")]
)
def test_what_counts_as_collapsed(results, value, became):
    arms = {a["name"]: a for a in results["arms"]}
    arms["zero-shot-cls"]["intervals"]["overall"]["accuracy@3"] = [0.2, 0.4]
    set_top_3(results, "handover-barlow-zero-shot", 0.01)
    set_top_3(results, "control-across", value)
    assert fate(arms["control-across"], arms) == became
    assert CONTROLS["control-across"][1][became] in " ".join(why(results))
    assert fate(arms["control-across"], {}) is None


def test_nothing_follows_from_a_control_of_what_did_not_collapse(results):
    set_top_3(results, "handover-barlow-zero-shot", 0.9)
    said = " ".join(why(results))
    assert "control-across" in said
    assert not any(sentence in said for sentence in CONTROLS["control-across"][1].values())


@pytest.mark.parametrize(("change", "word"), [(0.1, "helps"), (-0.1, "hurts")])
def test_only_a_sure_difference_helps_or_hurts(results, change, word):
    for d in results["differences"] + results["fewer_labels"]["differences"]:
        d["p_holm"] = 0.05
    for said in (worth(results), fewer(results), short(results)):
        assert not re.search("helps|hurts", " ".join(said))
        assert "no difference that the queries measured could show" in " ".join(said)
    for d in results["differences"]:
        if (d["arm"], d["metric"], d["type"]) == ("barlow-inherit", "map@10", None):
            d |= {"p_holm": 0.049, "difference": change}
    said = worth(results)[0]
    sign = "+" if change > 0 else "-"
    assert f"{word} the MAP@10 of barlow-inherit ({sign}.100 against residual, p .049)" in said
    assert "top-3" not in said
    assert "of type conversation" in " ".join(fewer(results))


def test_mixing_is_judged_by_the_results(results):
    arms = [a for a in results["arms"] if a["geometry"]]
    for i, a in enumerate(arms):
        a["geometry"]["type_auc"]["mean"] = 0.6 + 0.05 * i
        a["overall"]["accuracy@3"] = 0.1 + 0.1 * i
    assert "not necessary and not sufficient" in space(results)[0]
    for i, a in enumerate(arms):
        a["overall"]["accuracy@3"] = 0.9 - 0.1 * i
    assert "mixing is not" not in space(results)[0]


def test_every_single_arm_may_be_missing(results):
    for one in results["arms"]:
        left = without(results, one["name"])
        text = " ".join(Seen(study_page(left, {})).texts)
        assert text.count("None") == text.count("nan") == 0
    for plot in FIGURES.values():
        plot(without(results, *(a["name"] for a in results["arms"])))


def test_added_recipes_and_studies_without_the_handover(results):
    arm(results, "residual")["part"] = "added"
    names = [a["name"] for a in results["arms"] if a["name"] not in ("residual", "bm25")]
    left = without(results, *names)
    left |= {"left_out": {}, "fewer_labels": {"rows": [], "differences": []}}
    assert "residual" in words(study_page(left, {}))
    assert left_out(left) == ["Nothing: every recipe of the study was carried out on these data."]


def test_a_type_may_be_called_anything(results, found):
    text = study_page(renamed(results, "question", NASTY), found.views)
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
    for one in results["arms"] + results["fewer_labels"]["rows"]:
        one["types"].pop("question")
        if one.get("geometry"):
            one["geometry"]["type_auc"]["mean"] = None
    text = words(study_page(results, {}))
    assert "uneven" not in text and "Does it help to mix" not in text


def test_a_study_on_disk(results, found, tmp_path):
    home = tmp_path / "deep" / "study"
    written = write_study(results, found.views, home)
    assert all(path.is_file() for path in written)
    there = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    figures = {*FIGURES, *(f"space-{name}" for name in found.views)}
    assert there == {
        *("results.json", "tables.md", "index.html", "figures/plotly.min.js"),
        *(f"figures/{name}.html" for name in figures),
    }
    assert json.loads((home / "results.json").read_text()) == results
    for name in figures:
        alone = (home / "figures" / f"{name}.html").read_text(encoding="utf-8")
        assert [a["src"] for a in Seen(alone).of("script") if "src" in a] == ["plotly.min.js"]
        assert len(alone) < 1e6


def test_what_the_encoder_reads_stands_beside_what_was_published(results):
    (head, *rows), published, changes = reading_tables(
        results, [arm(results, name) for name in ("handover-sections", "tfidf-128")]
    ).values()
    assert [row[:3] for row in rows] == [
        ["handover-dual", "head", "64"],
        ["residual", "head", "64"],
        ["handover-sections", "sections", "64"],
        ["tfidf-128", "tfidf", "64"],
    ]
    by_head = dict(zip(head, rows[2], strict=True))
    own = arm(results, "handover-sections")
    top_3, map_3 = (own["types"]["question"][metric] for metric in ("accuracy@3", "map@3"))
    low, high = own["intervals"]["types"]["question"]["accuracy@3"]
    expected = f"{shown(top_3)} ({shown(low)}-{shown(high)}) / {shown(map_3)}"
    assert by_head["question"] == expected
    assert published[2] == [
        *("by section (handover-sections)", ".43 / .33", ".29 / .23", ".49 / .41"),
    ]
    assert [row[0].split("(")[-1] for row in published[1:]] == [f"{n})" for n in READ_ALIKE]
    assert len(changes) == 1 + 2 * 3


def test_reading_is_told_with_its_differences(results):
    told = reading(results)
    difference = results["reading"][0]
    assert (difference["arm"], difference["without"]) == ("handover-sections", "handover-dual")
    assert told[1].startswith("handover-sections against handover-dual: top-3 accuracy ")
    assert f"{abs(difference['difference']):.3f}".removeprefix("0") in told[1]
    for one in results["reading"]:
        one["p_holm"] = 0.5
    assert "none of these 4 differences is more than chance" in reading(results)[-1]
    results["reading"][0]["p_holm"] = 0.01
    assert "1 of these 4 differences is more than chance" in reading(results)[-1]
    assert reading({**results, "reading": []}) == []
