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
from twinrank.experiments.epochs import by_stage, kept_epoch
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe
from twinrank.training import read_records, train


@pytest.fixture(scope="module")
def home(recipes, help_centre, tmp_path_factory):
    """Finished runs, by name."""
    home = tmp_path_factory.mktemp("runs")
    values = recipes["towers"].values()
    values["training"] |= {"keep": "worst-type"}
    even = Recipe.validated(values | {"name": "evened"}, source="evened")
    for name, recipe in {"bm25": recipes["bm25"], "towers": recipes["towers"]}.items():
        train(help_centre, recipe, out=home / name, store=FeatureStore())
    train(help_centre, recipes["towers"], seed=1, out=home / "again", store=FeatureStore())
    train(help_centre, even, out=home / "evened", store=FeatureStore())
    return home


def test_it_measures_as_evaluate_does(home, help_centre):
    folders = [home / "towers", home / "bm25"]
    found = examine(folders, split="validation", store=FeatureStore())
    assert [run.name for run in found.runs] == ["towers", "bm25"]
    for folder, run in zip(folders, found.runs, strict=True):
        own = evaluate(Ranker.load(folder), help_centre, split="validation")
        assert run.evaluation.overall == pytest.approx(own.overall, rel=1e-4)
        assert run.mistakes.misses.height == (own.per_query["accuracy@1"] == 0).sum()
    assert found.runs[0].geometry.queries == len(help_centre.split("validation"))
    assert found.runs[1].geometry is None
    assert found.runs[1].stages == {}


def test_others_are_tested_against_the_first(home):
    found = examine([home / "bm25", home / "towers", home / "evened"], store=FeatureStore())
    assert {(d["arm"], d["without"]) for d in found.differences} == {
        ("towers", "bm25"),
        ("evened", "bm25"),
    }
    first, second = (run.evaluation for run in found.runs[:2])
    (expected,) = (d for d in differences(second, first, ["map@10"]) if d.kind is None)
    (got,) = (
        d
        for d in found.differences
        if (d["arm"], d["metric"], d["type"]) == ("towers", "map@10", None)
    )
    assert (got["difference"], got["p"]) == (expected.mean, expected.p)
    assert got["p_holm"] >= got["p"]
    told = json.loads(json.dumps(found.as_dict()))
    assert set(told["runs"]) == {"bm25", "towers", "evened"}


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
        found = examine([tmp_path / "run"], data=folder, store=FeatureStore())
    assert "trained on other data" in caplog.text
    assert found.dataset.fingerprint == changed.fingerprint
    with pytest.raises(RankerError, match=r"trained on other data than .*fingerprints"):
        train(Dataset.load(folder), recipes["bm25"], out=tmp_path / "other")
        examine([home / "bm25", tmp_path / "other"], store=FeatureStore())


def test_epochs_are_read_by_stage(home):
    records = by_stage(read_records(home / "towers"))["ranking"]
    assert [record["epoch"] for record in records] == list(range(len(records)))
    assert read_records(home / "bm25") == []


@pytest.mark.parametrize("name", ["towers", "evened"])
def test_the_epoch_that_was_kept_is_the_rankers(home, name):
    """What it reached on validation is what the ranker says of itself."""
    ranker = Ranker.load(home / name)
    records = by_stage(read_records(home / name))["ranking"]
    kept = kept_epoch(ranker.recipe, "ranking", records)
    assert records[kept]["loss"] == pytest.approx(ranker.origin.quality["loss"], rel=1e-4)
    assert kept_epoch(ranker.recipe, "pretraining", records) is None
