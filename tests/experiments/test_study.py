import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twinrank.encoding import FeatureStore
from twinrank.errors import RecipeError
from twinrank.evaluation import differences, evaluate, holm
from twinrank.experiments import Plan, results, run_study, study_named
from twinrank.experiments.runs import at_once
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe, recipe_names
from twinrank.training import Pretrainer, TowerTrainer


@pytest.fixture(scope="module")
def files(recipe_files, tmp_path_factory):
    """Tiny recipes: without and with pre-training, and a control that no small data can do."""
    folder = tmp_path_factory.mktemp("study-recipes")
    towers = recipe_files["towers"].read_text()
    pairs = 'pairing = "thread"\nepochs = 2\nbatch_size = 32\n'
    within = 'pairing = "within-answer"\nmin_pairs = 99\n'
    bare = towers[: towers.index("[training]")]
    texts = {
        "bm25": recipe_files["bm25"].read_text(),
        "bare": recipe_files["zero-shot"].read_text(),
        "plain": towers,
        "heir": f'{towers}[pretraining]\nuse = "inherit"\n{pairs}',
        "asis": f'{bare}[pretraining]\nuse = "zero-shot"\n{pairs}',
        "large": f'{bare}[pretraining]\nuse = "zero-shot"\n{within}',
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return {name: str(folder / f"{name}.toml") for name in texts}


@pytest.fixture(scope="module")
def plan(files):
    return Plan(
        name="tiny",
        recipes=tuple(files[name] for name in ("bm25", "bare", "plain", "heir")),
        controls=(files["asis"], files["large"]),
        few_labels=(files["plain"], files["heir"]),
        shares=(0.3,),
        rare=0.5,
        few_seeds=2,
        pictured=("heir",),
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(plan, help_centre, home):
    return run_study(plan, help_centre, seeds=2, out=home, store=FeatureStore(), workers=2)


def test_every_recipe_is_measured_as_evaluate_would(study, help_centre, home):
    found = results(study)
    names = [arm["name"] for arm in found["arms"]]
    assert names == ["bm25", "bare", "plain", "heir", "asis"]
    assert [arm["part"] for arm in found["arms"]] == ["recipes"] * 4 + ["controls"]
    rankers = [Ranker.load(f, store=FeatureStore()) for f in home.glob("heir-*/seed-1")]
    (ranker,) = [r for r in rankers if r.origin.data_fingerprint == help_centre.fingerprint]
    expected = evaluate(ranker, help_centre)
    assert found["arms"][3]["seeds"]["1"]["overall"] == pytest.approx(expected.overall)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_control_the_data_cannot_do_is_left_out_and_said(study):
    assert list(study.left_out) == ["large"]
    assert "in groups of 99 or more" in study.left_out["large"]


def test_each_is_compared_with_the_same_recipe_without_pretraining(study):
    found = results(study)["differences"]
    assert {(d["arm"], d["without"]) for d in found} == {("heir", "plain"), ("asis", "bare")}
    entries = {arm.entry.recipe.name: arm.entry for arm in study.arms}
    for metric in ("accuracy@3", "map@10"):
        rows = [d for d in found if d["metric"] == metric]
        assert [d["type"] for d in rows] == [None, "conversation", "question"] * 2
        raw = [
            d
            for a, b in (("heir", "plain"), ("asis", "bare"))
            for d in differences(entries[a].mean, entries[b].mean, [metric])
        ]
        assert [d["difference"] for d in rows] == [d.mean for d in raw]
        assert [d["p_holm"] for d in rows] == pytest.approx(list(holm([d.p for d in raw])))


def test_fewer_labels_of_all_and_of_each_type(study):
    fewer = results(study)["fewer_labels"]
    shown = [(row["share"], row["fewer_of"], row["name"]) for row in fewer["rows"]]
    parts = [(0.3, None), (0.5, "conversation"), (0.5, "question"), (1.0, None)]
    assert shown == [(*part, name) for part in parts for name in ("plain", "heir")]
    whole = {arm.entry.recipe.name: arm.entry.mean.overall for arm in study.arms}
    assert [row["overall"] for row in fewer["rows"][-2:]] == [whole["plain"], whole["heir"]]
    assert fewer["rows"][0]["overall"] != whole["plain"]


def test_curves_and_geometry_are_there_for_each_seed(study):
    arms = {arm["name"]: arm for arm in results(study)["arms"]}
    assert [len(arms[n]["epochs"]["pretraining"]) for n in ("plain", "heir", "asis")] == [0, 2, 2]
    assert [len(arms[n]["epochs"]["ranking"]) for n in ("bare", "plain", "heir")] == [0, 2, 2]
    curve = arms["heir"]["epochs"]["pretraining"][0]
    assert curve["epoch"] == [0, 1, 2]
    assert curve["barlow_loss"][0] is None
    assert arms["bm25"]["geometry"] is None
    assert 0 <= arms["heir"]["geometry"]["type_auc"]["mean"] <= 1
    assert list(study.views) == ["heir"]


def test_one_more_recipe_is_all_that_a_second_call_computes(
    plan, study, help_centre, home, files, monkeypatch
):
    more = Recipe.validated(
        {**Recipe.load(files["heir"]).values(), "name": "more"}, source="test"
    ).model_copy(update={"training": Recipe.load(files["plain"]).training})
    fitted = []
    run = TowerTrainer.run

    def count(trainer, **kwargs):
        fitted.append(trainer.seed)
        return run(trainer, **kwargs)

    def refuse_new(trainer, *, saved, on_epoch):
        assert saved is not None, "pre-training is shared, not done again"
        return run(trainer, saved=saved, on_epoch=on_epoch)

    monkeypatch.setattr(TowerTrainer, "run", count)
    monkeypatch.setattr(Pretrainer, "run", refuse_new)
    again = run_study(
        plan,
        help_centre,
        added=[more, Recipe.load(files["plain"])],
        seeds=2,
        out=home,
        store=FeatureStore(),
        workers=1,
    )
    assert fitted == [0, 1]
    assert [arm.part for arm in again.arms][-1] == "added"
    assert results(again)["arms"][:5] == results(study)["arms"]


def test_the_handover_study_names_recipes_that_are_there():
    plan = study_named("handover")
    named = {*plan.recipes, *plan.controls, *plan.few_labels, *plan.pictured}
    assert named <= set(recipe_names())
    with pytest.raises(RecipeError, match="no study is called 'x'; there is handover"):
        study_named("x")


def double(x):
    return 2 * x, os.getpid()


def test_results_come_in_the_order_of_the_items():
    here = at_once(double, [3, 1, 2], workers=1, device="cpu", label="Doubling")
    there = at_once(double, [3, 1, 2], workers=2, device="cpu", label="Doubling")
    assert [value for value, _ in here] == [value for value, _ in there] == [6, 2, 4]
    assert {pid for _, pid in here} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in there}


SLEEPER = """
import os, sys, time
from pathlib import Path
from twinrank.experiments.runs import at_once

def sleep(name):
    Path(sys.argv[1], name).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    at_once(sleep, ["a", "b"], workers=2, device="cpu", label="Sleeping")
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER.replace("sys.argv[1]", repr(str(tmp_path))))
    parent = subprocess.Popen([sys.executable, str(script)])
    files = [tmp_path / "a", tmp_path / "b"]
    _wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def _wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)
