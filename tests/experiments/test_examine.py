import json
import logging
import shutil
from dataclasses import replace

import pytest

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.evaluation import differences, evaluate
from twinrank.experiments import examine
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe
from twinrank.training import train


@pytest.fixture(scope="module")
def home(recipes, help_centre, tmp_path_factory):
    """Finished runs, by name."""
    home = tmp_path_factory.mktemp("runs")
    values = recipes["towers"].values()
    values["training"] |= {"keep": "worst-type"}
    even = Recipe.validated(values | {"name": "evened"}, source="evened")
    runs = {"bm25": recipes["bm25"], "towers": recipes["towers"], "evened": even}
    for name, recipe in runs.items():
        train(help_centre, recipe, out=home / name, store=FeatureStore())
    train(help_centre, recipes["towers"], seed=1, out=home / "again", store=FeatureStore())
    return home


def test_it_measures_as_evaluate_does_and_tests_the_others_against_the_first(home, help_centre):
    names = ["bm25", "towers", "evened"]
    examination = examine([home / name for name in names], split="validation", store=FeatureStore())
    assert [run.name for run in examination.runs] == names
    bm25, towers, _ = examination.runs
    expected = evaluate(Ranker.load(towers.folder), help_centre, split="validation")
    assert towers.evaluation.overall == pytest.approx(expected.overall, rel=1e-4)
    assert towers.mistakes.misses.height == (expected.per_query["accuracy@1"] == 0).sum()
    assert (bm25.geometry, bm25.stages) == (None, {})
    assert towers.geometry.queries == len(help_centre.split("validation"))
    tested = {(d["arm"], d["without"]) for d in examination.differences}
    assert tested == {("towers", "bm25"), ("evened", "bm25")}
    (expected,) = (
        d for d in differences(towers.evaluation, bm25.evaluation, ["map@10"]) if d.kind is None
    )
    key = ("towers", "map@10", None)
    (got,) = (d for d in examination.differences if (d["arm"], d["metric"], d["type"]) == key)
    assert (got["difference"], got["p"]) == (expected.mean, expected.p)
    assert got["p_holm"] >= got["p"]
    assert set(json.loads(json.dumps(examination.as_dict()))["runs"]) == set(names)


def test_runs_of_one_recipe_are_told_apart(home):
    seeds = examine([home / "towers", home / "again"], store=FeatureStore())
    assert [run.name for run in seeds.runs] == ["towers, seed 0", "towers, seed 1"]
    shutil.copytree(home / "towers", home / "copy")
    copies = examine([home / "towers", home / "copy"], store=FeatureStore())
    assert [run.name for run in copies.runs] == [str(home / "towers"), str(home / "copy")]
    with pytest.raises(RankerError, match="given twice"):
        examine([home / "towers", home / "towers"], store=FeatureStore())


def test_data_that_changed_is_an_error_unless_given(home, help_centre, recipes, tmp_path, caplog):
    folder = tmp_path / "data"
    help_centre.save(folder)
    train(Dataset.load(folder), recipes["bm25"], out=tmp_path / "run")
    changed = replace(help_centre, labels=help_centre.labels.head(-1))
    changed.save(folder)
    with pytest.raises(RankerError, match=r"no longer the data .* give --data"):
        examine([tmp_path / "run"], store=FeatureStore())
    with caplog.at_level(logging.WARNING):
        examination = examine([tmp_path / "run"], data=folder, store=FeatureStore())
    assert "trained on other data" in caplog.text
    assert examination.dataset.fingerprint == changed.fingerprint
    train(Dataset.load(folder), recipes["bm25"], out=tmp_path / "other")
    with pytest.raises(RankerError, match=r"trained on other data than .* report them apart"):
        examine([home / "bm25", tmp_path / "other"], store=FeatureStore())


def test_the_best_epoch_is_the_rankers(home):
    """Its loss on validation is the one that the ranker names."""
    (run,) = examine([home / "evened"], store=FeatureStore()).runs
    records = run.stages["ranking"]
    assert [record["epoch"] for record in records] == list(range(len(records)))
    loss = records[run.find_best_epoch("ranking")]["loss"]
    assert loss == pytest.approx(run.ranker.origin.quality["loss"], rel=1e-4)
