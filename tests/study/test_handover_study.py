import json

import pytest

from tests.study.conftest import CHOICES
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


@pytest.fixture
def arms(study):
    return {arm["name"]: arm for arm in study.results["arms"]}


def test_every_recipe_is_measured_as_evaluate_would(study, arms, help_centre, home):
    controls = [name for name in CHOICES["CONTROLS"] if name != "control-large-answers"]
    assert [n for n in arms if arms[n]["part"] == "recipes"] == list(CHOICES["RECIPES"])
    assert [n for n in arms if arms[n]["part"] == "controls"] == controls
    rankers = [Ranker.load(f, store=FeatureStore()) for f in home.glob("barlow-inherit-*/seed-1")]
    (ranker,) = [r for r in rankers if r.origin.data_fingerprint == help_centre.fingerprint]
    expected = evaluate(ranker, help_centre)
    assert arms["barlow-inherit"]["seeds"]["1"]["overall"] == pytest.approx(expected.overall)
    assert json.loads(json.dumps(study.results, allow_nan=False)) == study.results
    seeds = {name: {k: len(v) for k, v in arm["epochs"].items()} for name, arm in arms.items()}
    for name, pretrained, ranked in [
        *(("zero-shot", 0, 0), ("residual", 0, 2), ("barlow-inherit", 2, 2)),
        ("handover-barlow-zero-shot", 2, 0),
    ]:
        assert (seeds[name]["pretraining"], seeds[name]["ranking"]) == (pretrained, ranked), name
    assert arms["barlow-inherit"]["epochs"]["pretraining"][0]["epoch"] == [0, 1, 2]
    assert arms["bm25"]["geometry"] is None
    assert 0 <= arms["barlow-inherit"]["geometry"]["type_auc"]["mean"] <= 1
    assert list(study.pictured) == list(CHOICES["PICTURED"])


def test_a_control_the_data_cannot_do_is_left_out_and_said(study):
    assert list(study.results["left_out"]) == ["control-large-answers"]
    assert "in groups of" in study.results["left_out"]["control-large-answers"]


def test_each_is_compared_with_the_same_recipe_without_pretraining(study, arms):
    differences = study.results["differences"]
    assert ("barlow-inherit", "residual") in {(d["arm"], d["without"]) for d in differences}
    for d in (d for d in differences if d["type"] is None):
        value, bare = (arms[d[key]]["overall"][d["metric"]] for key in ("arm", "without"))
        assert d["difference"] == pytest.approx(value - bare)
        assert d["p_holm"] >= d["p"]


def test_fewer_labels_of_all_and_of_each_type(study, arms):
    rows = study.results["fewer_labels"]["rows"]
    parts = [(0.25, None), (0.25, "conversation"), (0.25, "question"), (1.0, None)]
    names = CHOICES["FEW_LABELS"]
    expected = [(*part, name) for part in parts for name in names]
    assert [(row["share"], row["fewer_of"], row["name"]) for row in rows] == expected
    assert [row["overall"] for row in rows[-2:]] == [arms[name]["overall"] for name in names]
    assert rows[0]["overall"] != arms["residual"]["overall"]


def test_one_more_recipe_is_all_that_a_second_call_computes(study, help_centre, home, monkeypatch):
    values = {**Recipe.load("barlow-inherit").values(), "name": "more"}
    added = [Recipe.validated(values, source="test"), Recipe.load("residual")]
    fitted, run = [], TowerTrainer.run

    def count(trainer, **kwargs):
        fitted.append(trainer.seed)
        return run(trainer, **kwargs)

    monkeypatch.setattr(TowerTrainer, "run", count)
    store = FeatureStore()
    again = run_study(help_centre, added=added, seeds=2, out=home, store=store, workers=1)
    assert fitted == [0, 1]
    assert again.results["arms"][-1]["part"] == "added"
    assert again.results["arms"][:-1] == study.results["arms"]


def test_the_handover_study_names_recipes_that_are_there():
    assert set(recipe_names()) >= NAMED
