import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse
from scipy.special import logsumexp

from tests.processes import Killed
from twinrank.encoding import Encoder, FeatureStore
from twinrank.errors import DataError, DivergedError, RankerError
from twinrank.evaluation import METRICS
from twinrank.experiments import compare
from twinrank.ranking import Passages, Reader, read_manifest
from twinrank.training import TrainingData, checkpoint, read_records, train
from twinrank.training.loop import Trainer
from twinrank.training.tower_modules import Towers
from twinrank.training.train import _fit_scale
from twinrank.training.training_data import build_reader


def test_a_run_is_a_ranker_with_its_metrics(recipes, help_centre, tmp_path):
    recipe, store = recipes["towers"], FeatureStore()
    ranker = train(help_centre, recipe, out=tmp_path, refit=False, store=store)
    records = read_records(tmp_path)
    assert [record["epoch"] for record in records] == list(range(len(records)))
    assert set(METRICS) < set(records[0])
    assert set(records[0]["types"]) == {"conversation", "question"}
    best = min(record["loss"] for record in records[1:])
    assert ranker.origin.quality["loss"] == pytest.approx(best, rel=1e-5)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def without_seconds(folder):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in read_records(folder)]


def test_what_was_chosen_is_trained_again_on_validation_too(recipes, help_centre, tmp_path):
    store, recipe = FeatureStore(), recipes["fused"]
    chosen = train(help_centre, recipe, refit=False, store=store)
    ranker = train(help_centre, recipe, out=tmp_path, store=store)
    assert (chosen.origin.refit, ranker.origin.refit) == (False, True)
    assert ranker.origin.quality == chosen.origin.quality
    assert ranker.confidence == chosen.confidence
    assert ranker.scoring.weights == chosen.scoring.weights
    records = read_records(tmp_path)
    costs = [-min(of["map@10"] for of in r["types"].values()) for r in records if "types" in r]
    best = 1 + int(np.argmin(costs[1:]))
    assert [r["epoch"] for r in records if r["stage"] == "refit"] == [*range(best + 1)]
    both = [help_centre.split(split) for split in ("train", "validation")]
    assert [*ranker.past.texts] == [text for queries in both for text in queries.texts]
    labels = sparse.vstack([queries.labels for queries in both])
    assert (ranker.past.labels != labels).nnz == 0
    assert not np.allclose(ranker.dense.vectors.rows, chosen.dense.vectors.rows)
    with pytest.raises(RankerError, match="training with another refit"):
        train(help_centre, recipe, out=tmp_path, refit=False, store=store)


def test_validation_is_added_to_train_as_if_it_were_labelled_there(recipes, help_centre):
    recipe, to_train = recipes["fused"], pl.col("split").replace("validation", "train")
    reader = build_reader(help_centre, recipe, FeatureStore(), "cpu")
    moved = replace(help_centre, labels=help_centre.labels.with_columns(to_train))
    added = TrainingData.read(help_centre, recipe, reader).with_validation().train
    expected = moved.split("train")
    order = {text: row for row, text in enumerate(expected.texts)}
    both = [help_centre.split(split).texts for split in ("train", "validation")]
    rows = [order[text] for texts in both for text in texts]
    assert (added.labels != expected.labels[rows]).nnz == 0
    same = added.threads[:, None] == added.threads
    threads = expected.frame["thread"].to_numpy()[rows]
    assert (same == (threads[:, None] == threads)).all()


@pytest.mark.parametrize("after", [1, -1])
def test_a_killed_run_goes_on_to_the_same_bits(recipes, help_centre, tmp_path, monkeypatch, after):
    recipe, store = recipes["towers"], FeatureStore()
    train(help_centre, recipe, out=tmp_path / "whole", store=store)

    def die(record):
        if (record["stage"] == "refit" and after < 0) or record["epoch"] == after:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoint, "CHECKPOINT_EVERY_S", 0)
        train(help_centre, recipe, out=tmp_path / "killed", store=store, on_record=die)
    with pytest.raises(RankerError, match="training has not finished"):
        read_manifest(tmp_path / "killed")
    records = []
    train(help_centre, recipe, out=tmp_path / "killed", store=store, on_record=records.append)

    assert records == read_records(tmp_path / "killed")
    assert without_seconds(tmp_path / "killed") == without_seconds(tmp_path / "whole")
    whole, killed = (read_manifest(tmp_path / run).files for run in ("whole", "killed"))
    assert whole == killed


def test_a_finished_run_is_not_done_again(recipes, help_centre, tmp_path, monkeypatch):
    train(help_centre, recipes["towers"], out=tmp_path, store=FeatureStore())
    monkeypatch.setattr(Trainer, "run", None)
    records = []
    train(
        help_centre, recipes["towers"], out=tmp_path, store=FeatureStore(), on_record=records.append
    )
    assert records == read_records(tmp_path)


@pytest.mark.parametrize("finished", [True, False])
def test_another_training_does_not_go_on_in_the_same_folder(
    recipes, help_centre, tmp_path, finished
):
    recipe, store = recipes["towers"], FeatureStore()

    def die(record):
        if record["epoch"] == 1 and not finished:
            raise Killed

    with nullcontext() if finished else pytest.raises(Killed):
        train(help_centre, recipe, out=tmp_path, store=store, on_record=die)
    if not finished:
        with pytest.raises(RankerError, match="training has not finished"):
            read_manifest(tmp_path)
    with pytest.raises(RankerError, match="another seed"):
        train(help_centre, recipe, seed=1, out=tmp_path, store=store)
    ranker = train(help_centre, recipe, seed=1, out=tmp_path, store=store, resume=False)
    assert ranker.origin.seed == 1


@pytest.mark.parametrize("moment", ["reading", "training"])
def test_killed_while_it_starts_over_it_leaves_the_ranker_and_goes_on(
    recipes, help_centre, tmp_path, monkeypatch, moment
):
    folders, store = [tmp_path / name for name in ("killed", "whole")], FeatureStore()
    train(help_centre, recipes["towers"], out=folders[0], store=store)
    before = read_manifest(folders[0])

    def die(*_, **__):
        raise Killed

    how = {"seed": 1, "store": store}
    with monkeypatch.context() as patched, pytest.raises(Killed):
        if moment == "reading":
            patched.setattr(TrainingData, "read", die)
        train(help_centre, recipes["towers"], out=folders[0], resume=False, on_record=die, **how)
    assert read_manifest(folders[0]) == before
    train(help_centre, recipes["towers"], out=folders[1], **how)
    for _ in range(2):  # the second finds it finished
        train(help_centre, recipes["towers"], out=folders[0], **how)
        assert read_manifest(folders[0]).files == read_manifest(folders[1]).files
    assert without_seconds(folders[0]) == without_seconds(folders[1])
    with pytest.raises(RankerError, match="no previous ranker"):
        read_manifest(folders[0], previous=True)


def test_the_scale_of_pooled_passages_is_the_best_there_is(recipes, help_centre, tiny_model):
    """`log sum exp` of several passages at a scale is not the scale times that of another."""
    validation, rng = help_centre.split("validation"), np.random.default_rng(0)
    right = validation.labels.toarray() > 0
    n, m = right.shape
    rows = rng.normal(size=(2 * m, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[2 * right.argmax(axis=1)] + 0.3 * rng.normal(size=(n, 32)).astype(np.float32)
    passages = Passages(rows, np.repeat(np.arange(m), 2), m)
    data = TrainingData(passages, validation=validation, validation_features=queries)
    towers = Towers.for_recipe(recipes["zero-shot"], 32).eval()
    _fit_scale(towers, Reader(Encoder(str(tiny_model), max_tokens=16), "mean", None), data)
    products = data.embed_validation(towers).vectors @ towers.freeze().project_answers(rows).T

    def loss(factor):
        scores = towers.scale.item() * factor * products.astype(np.float64)
        scores = logsumexp(scores.reshape(n, m, 2), axis=2)
        on_right = np.where(right, scores, -np.inf)
        return float((logsumexp(scores, axis=1) - logsumexp(on_right, axis=1)).mean())

    assert loss(1.0) < min(loss(0.99), loss(1.01))


def test_training_leaves_the_callers_random_numbers_alone(recipes, help_centre, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(help_centre, recipes["towers"], store=FeatureStore(tmp_path))  # nothing stored: encodes
    assert torch.equal(torch.rand(3), expected)


def test_a_recipe_that_trains_needs_both_splits(recipes, help_centre, tmp_path):
    help_centre.save(tmp_path / "data")
    (tmp_path / "data" / "qrels" / "validation.tsv").unlink()
    cut = type(help_centre).load(tmp_path / "data")
    with pytest.raises(DataError, match=r"validation.tsv: no labels; this data set has"):
        train(cut, recipes["towers"], store=FeatureStore())
    assert train(cut, recipes["bm25"]).scoring.words.scale == 1.0


def test_compare_measures_each_recipe_and_does_nothing_twice(
    recipes, help_centre, tmp_path, monkeypatch
):
    chosen, store = list(recipes.values()), FeatureStore()
    first = compare(help_centre, chosen, seeds=2, out=tmp_path, store=store, workers=1)
    assert [entry.seeds for entry in first.entries] == [(0,), (0,), (0, 1), (0, 1)]
    monkeypatch.setattr(Trainer, "run", None)
    second = compare(help_centre, chosen, seeds=2, out=tmp_path, store=store, workers=1)
    assert json.dumps(first.as_dict()) == json.dumps(second.as_dict())
    towers = first.as_dict()["recipes"][2]
    seeds = [towers["seeds"][s]["overall"]["map@10"] for s in ("0", "1")]
    assert towers["overall"]["map@10"] == pytest.approx(sum(seeds) / 2)
    assert towers["spread"]["overall"]["map@10"] == pytest.approx(abs(seeds[0] - seeds[1]) / 2**0.5)


def test_a_run_that_diverges_names_its_recipe(recipes, help_centre):
    recipe = recipes["towers"]
    fast = recipe.training.model_copy(update={"learning_rate": 1e35})
    with pytest.raises(DivergedError, match="towers: training diverged in epoch 1"):
        train(help_centre, recipe.model_copy(update={"training": fast}), store=FeatureStore())
