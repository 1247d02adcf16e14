import json
from dataclasses import replace

import polars as pl
import pytest
import torch

from twinrank.encoding import FeatureStore
from twinrank.errors import DataError, DivergedError, RankerError
from twinrank.evaluation import METRICS, evaluate
from twinrank.experiments import compare
from twinrank.training import fit, resume, stages
from twinrank.training import train as run_module


def records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_a_run_is_a_ranker_with_its_metrics(recipes, help_centre, tmp_path):
    ranker = fit(help_centre, recipes["towers"], out=tmp_path, store=FeatureStore())
    lines = records(tmp_path)
    assert [line["epoch"] for line in lines] == list(range(len(lines)))
    assert set(METRICS) < set(lines[0])
    assert set(lines[0]["types"]) == {"conversation", "question"}
    best = min(line["loss"] for line in lines[1:])
    assert ranker.origin.quality["loss"] == pytest.approx(best, rel=1e-5)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_training_beats_chance_and_the_untrained_encoder(recipes, help_centre):
    store = FeatureStore()
    trained = fit(help_centre, recipes["towers"], store=store)
    bare = fit(help_centre, recipes["zero-shot"], store=store)
    losses = [evaluate(r, help_centre, split="test").overall["loss"] for r in (trained, bare)]
    assert losses[0] < losses[1]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_killed_run_goes_on_to_the_same_bits(recipes, help_centre, tmp_path, monkeypatch, after):
    recipe, store = recipes["towers"], FeatureStore()
    fit(help_centre, recipe, out=tmp_path / "whole", store=store)

    real = stages.fit_towers

    def dying(*args, on_epoch, **kwargs):
        def on_epoch_and_die(checkpoint):
            on_epoch(checkpoint)
            if checkpoint.history[-1]["epoch"] == after:
                raise Killed

        return real(*args, on_epoch=on_epoch_and_die, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(stages, "fit_towers", dying)
        patched.setattr(resume, "SAVED_EVERY_S", 0)
        fit(help_centre, recipe, out=tmp_path / "killed", store=store)
    with pytest.raises(RankerError, match="training has not finished"):
        run_module.read_card(tmp_path / "killed")
    fit(help_centre, recipe, out=tmp_path / "killed", store=store)

    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    whole, killed = (run_module.read_card(tmp_path / run).files for run in ("whole", "killed"))
    assert whole == killed


def test_a_finished_run_is_not_done_again(recipes, help_centre, tmp_path, monkeypatch):
    fit(help_centre, recipes["towers"], out=tmp_path, store=FeatureStore())
    monkeypatch.setattr(stages, "fit_towers", None)
    fit(help_centre, recipes["towers"], out=tmp_path, store=FeatureStore())


@pytest.mark.parametrize("finished", [True, False])
def test_another_training_does_not_go_on_in_the_same_folder(
    recipes, help_centre, tmp_path, monkeypatch, finished
):
    store = FeatureStore()
    if finished:
        fit(help_centre, recipes["towers"], out=tmp_path, store=store)
    else:
        with monkeypatch.context() as patched, pytest.raises(Killed):

            def killed(*_):
                raise Killed

            patched.setattr(run_module.Ranker, "save", killed)
            fit(help_centre, recipes["towers"], out=tmp_path, store=store)
    with pytest.raises(RankerError, match="another seed"):
        fit(help_centre, recipes["towers"], seed=1, out=tmp_path, store=store)
    assert (
        fit(
            help_centre, recipes["towers"], seed=1, out=tmp_path, store=store, resume=False
        ).origin.seed
        == 1
    )


def test_fitting_leaves_the_callers_random_numbers_alone(recipes, help_centre, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(help_centre, recipes["towers"], store=FeatureStore(tmp_path))  # nothing stored: it encodes
    assert torch.equal(torch.rand(3), expected)


def test_a_recipe_that_trains_needs_both_splits(recipes, help_centre, tmp_path):
    help_centre.save(tmp_path / "data")
    (tmp_path / "data" / "qrels" / "validation.tsv").unlink()
    cut = type(help_centre).load(tmp_path / "data")
    with pytest.raises(DataError, match=r"validation.tsv: no labels; this data set has"):
        fit(cut, recipes["towers"], store=FeatureStore())
    assert fit(cut, recipes["bm25"]).scoring.words.scale == 1.0


def test_compare_measures_each_recipe_and_does_nothing_twice(
    recipes, help_centre, tmp_path, monkeypatch
):
    chosen = list(recipes.values())
    store = FeatureStore()
    first = compare(help_centre, chosen, seeds=2, out=tmp_path, store=store)
    assert [entry.seeds for entry in first.entries] == [(0,), (0,), (0, 1), (0, 1)]
    monkeypatch.setattr(stages, "fit_towers", None)
    second = compare(help_centre, chosen, seeds=2, out=tmp_path, store=store)
    assert json.dumps(first.as_dict()) == json.dumps(second.as_dict())
    towers = first.as_dict()["recipes"][2]
    seeds = [towers["seeds"][s]["overall"]["map@10"] for s in ("0", "1")]
    assert towers["overall"]["map@10"] == pytest.approx(sum(seeds) / 2)
    assert towers["spread"]["overall"]["map@10"] == pytest.approx(abs(seeds[0] - seeds[1]) / 2**0.5)


def test_words_that_are_not_found_in_a_script_are_said_once(recipes, help_centre, caplog):
    text = pl.lit("請求書をダウンロードする")
    japanese = replace(help_centre, queries=help_centre.queries.with_columns(text=text), name="jp")
    for name in ("bm25", "bm25", "zero-shot"):
        fit(japanese, recipes[name], store=FeatureStore())
    said = [line for line in caplog.messages if "script without spaces" in line]
    assert len(said) == 1
    assert said[0].startswith("jp: ")


def test_a_run_that_diverges_names_its_recipe(recipes, help_centre):
    recipe = recipes["towers"]
    fast = recipe.training.model_copy(update={"learning_rate": 1e35})
    with pytest.raises(DivergedError, match="towers: training diverged in epoch 1"):
        fit(help_centre, recipe.model_copy(update={"training": fast}), store=FeatureStore())
