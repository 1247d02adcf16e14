import json

import pytest

from twinrank.encoding import FeatureStore
from twinrank.evaluation import evaluate
from twinrank.experiments import handover_study, run_study
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe, recipe_names
from twinrank.training.tower_training import TowerTrainer

pytestmark = pytest.mark.slow

NAMED = {
    *(*handover_study.RECIPES, *handover_study.CONTROLS, *handover_study.FEW_LABELS),
    *(*handover_study.PICTURED, *(name for pair in handover_study.READING for name in pair)),
}


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


@pytest.fixture(scope="module", autouse=True)
def plan(files):
    choices = {
        "RECIPES": tuple(files[name] for name in ("bm25", "bare", "plain", "heir")),
        "CONTROLS": (files["asis"], files["large"]),
        "FEW_LABELS": (files["plain"], files["heir"]),
        "SHARES": (0.3,),
        "RARE_SHARE": 0.5,
        "MAX_FEW_SEEDS": 2,
        "PICTURED": ("heir",),
        "READING": (),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in choices.items():
            patch.setattr(handover_study, name, value)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(help_centre, home):
    return run_study(help_centre, seeds=2, out=home, store=FeatureStore(), workers=2)


def test_every_recipe_is_measured_as_evaluate_would(study, help_centre, home):
    arms = {arm["name"]: arm for arm in study.results["arms"]}
    parts = {name: arm["part"] for name, arm in arms.items()}
    assert list(parts) == ["bm25", "bare", "plain", "heir", "asis"]
    assert list(parts.values()) == ["recipes"] * 4 + ["controls"]
    rankers = [Ranker.load(f, store=FeatureStore()) for f in home.glob("heir-*/seed-1")]
    (ranker,) = [r for r in rankers if r.origin.data_fingerprint == help_centre.fingerprint]
    expected = evaluate(ranker, help_centre)
    assert arms["heir"]["seeds"]["1"]["overall"] == pytest.approx(expected.overall)
    assert json.loads(json.dumps(study.results, allow_nan=False)) == study.results
    curves = {name: arm["epochs"] for name, arm in arms.items()}
    assert [len(curves[n]["pretraining"]) for n in ("plain", "heir", "asis")] == [0, 2, 2]
    assert [len(curves[n]["ranking"]) for n in ("bare", "plain", "heir")] == [0, 2, 2]
    assert curves["heir"]["pretraining"][0]["epoch"] == [0, 1, 2]
    assert arms["bm25"]["geometry"] is None
    assert 0 <= arms["heir"]["geometry"]["type_auc"]["mean"] <= 1
    assert list(study.pictured) == ["heir"]


def test_a_control_the_data_cannot_do_is_left_out_and_said(study):
    assert list(study.results["left_out"]) == ["large"]
    assert "in groups of 99 or more" in study.results["left_out"]["large"]


def test_each_is_compared_with_the_same_recipe_without_pretraining(study):
    differences = study.results["differences"]
    assert {(d["arm"], d["without"]) for d in differences} == {("heir", "plain")}
    arms = {arm["name"]: arm for arm in study.results["arms"]}
    for d in (d for d in differences if d["type"] is None):
        value, bare = (arms[d[key]]["overall"][d["metric"]] for key in ("arm", "without"))
        assert d["difference"] == pytest.approx(value - bare)
        assert d["p_holm"] >= d["p"]


def test_fewer_labels_of_all_and_of_each_type(study):
    rows = study.results["fewer_labels"]["rows"]
    parts = [(0.3, None), (0.5, "conversation"), (0.5, "question"), (1.0, None)]
    expected = [(*part, name) for part in parts for name in ("plain", "heir")]
    assert [(row["share"], row["fewer_of"], row["name"]) for row in rows] == expected
    complete = {arm["name"]: arm["overall"] for arm in study.results["arms"]}
    assert [row["overall"] for row in rows[-2:]] == [complete["plain"], complete["heir"]]
    assert rows[0]["overall"] != complete["plain"]


def test_one_more_recipe_is_all_that_a_second_call_computes(
    study, help_centre, home, files, monkeypatch
):
    values = {**Recipe.load(files["heir"]).values(), "name": "more"}
    training = Recipe.load(files["plain"]).training
    more = Recipe.validated(values, source="test").model_copy(update={"training": training})
    fitted, run = [], TowerTrainer.run

    def count(trainer, **kwargs):
        fitted.append(trainer.seed)
        return run(trainer, **kwargs)

    monkeypatch.setattr(TowerTrainer, "run", count)
    added, store = [more, Recipe.load(files["plain"])], FeatureStore()
    again = run_study(help_centre, added=added, seeds=2, out=home, store=store, workers=1)
    assert fitted == [0, 1]
    assert again.results["arms"][-1]["part"] == "added"
    assert again.results["arms"][:5] == study.results["arms"]


def test_the_handover_study_names_recipes_that_are_there():
    assert set(recipe_names()) >= NAMED
