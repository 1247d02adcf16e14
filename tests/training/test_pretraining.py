import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import DataError
from twinrank.evaluation import evaluate
from twinrank.ranking import Ranker, read_card
from twinrank.recipe import Recipe
from twinrank.training import fit, resume, stages


@pytest.fixture(scope="module")
def make(recipes):
    """A tiny recipe that pre-trains."""

    def made(use, *, kind="residual", dual=False, **pretraining):
        values = recipes["towers"].values()
        values["towers"] = {"kind": kind, "dual": dual, "dropout": 0.1}
        own = {} if use == "joint" else {"epochs": 3, "learning_rate": 1e-3}
        values["pretraining"] = {"use": use, "batch_size": 32, **own, **pretraining}
        if use == "zero-shot":
            del values["training"]
        return Recipe.validated({**values, "name": f"tiny-{use}"}, source="test")

    return made


def records(folder, stage=None):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k != "seconds"}
        for line in lines
        if stage in (None, line["stage"])
    ]


USES = [
    ("zero-shot", {}),
    ("zero-shot", {"pairing": "thread", "projector": 16}),
    ("inherit", {"dual": True}),
    ("inherit", {"dual": True, "sides": "query", "pairing": "within-answer"}),
    ("freeze", {"kind": "projection", "dual": True, "pairing": "within-answer"}),
    ("freeze", {"pairing": "thread", "projector": 16}),
    ("joint", {"pairing": "thread", "projector": 16, "weight": 0.1}),
    ("joint", {"kind": "projection"}),
]


@pytest.mark.parametrize(("use", "settings"), USES)
def test_every_use_leaves_a_ranker_that_loads_and_ranks_alike(
    make, help_centre, tmp_path, use, settings
):
    ranker = fit(help_centre, make(use, **settings), out=tmp_path, store=FeatureStore())
    texts = ["reset my password", "User: hello\nAgent: hi\nUser: where is my invoice"]
    again = Ranker.load(tmp_path, store=FeatureStore())
    assert (ranker.scores(texts) == again.scores(texts)).all()
    stages = {stage for stage in ("pretraining", "ranking") if records(tmp_path, stage)}
    expected = {"zero-shot": {"pretraining"}, "joint": {"ranking"}}
    assert stages == expected.get(use, {"pretraining", "ranking"})
    assert {path.name for path in tmp_path.iterdir()} == {
        *(".lock", "README.md", "metrics.jsonl", "ranker.json"),
        *read_card(tmp_path).named,
    }
    assert not any("projector" in name for name in again.dense.towers.tensors)
    assert evaluate(again, help_centre, split="validation").overall["loss"] == pytest.approx(
        again.origin.quality["loss"], rel=1e-4
    )


def weights(ranker, prefix=""):
    tensors = ranker.dense.towers.tensors
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def test_frozen_means_frozen(make, help_centre):
    settings = {"kind": "projection", "pairing": "within-answer"}
    ranker = fit(help_centre, make("freeze", dual=True, **settings), store=FeatureStore())
    bare = fit(help_centre, make("zero-shot", **settings), store=FeatureStore())
    base, head = weights(ranker, "base."), weights(bare, "query_tower.")
    assert base.keys() == head.keys() != set()
    for name, value in head.items():
        assert np.array_equal(base[name], value), name


def test_inheriting_starts_where_pretraining_ended(make, help_centre, tmp_path):
    bare = fit(help_centre, make("zero-shot"), out=tmp_path / "bare", store=FeatureStore())
    fit(help_centre, make("inherit"), out=tmp_path / "heir", store=FeatureStore())
    last = records(tmp_path / "bare")[-1]
    first = records(tmp_path / "heir", "ranking")[0]
    assert first["map@10"] == pytest.approx(last["map@10"])
    assert bare.origin.quality["map@10"] == pytest.approx(last["map@10"])


def test_no_label_and_no_held_out_query_is_read_by_pairing_by_thread(make, help_centre, tmp_path):
    """Other labels in train, and other texts in test, leave the pre-trained tower as it is."""
    recipe = make("zero-shot", pairing="thread")
    fit(help_centre, recipe, out=tmp_path / "as-is", store=FeatureStore())
    held_out = [q for s in ("validation", "test") for q in help_centre.split(s).frame["id"]]
    scrambled = pl.when(pl.col("id").is_in(held_out)).then(pl.lit("nothing")).otherwise("text")
    train = help_centre.labels.filter(pl.col("split") == "train")
    others = train.with_columns(pl.col("answer").shuffle(seed=1))
    held = help_centre.labels.filter(pl.col("split") != "train")
    changed = replace(
        help_centre,
        queries=help_centre.queries.with_columns(text=scrambled),
        labels=pl.concat([others, held]),
    )
    fit(changed, recipe, out=tmp_path / "changed", store=FeatureStore())
    a, b = (weights(Ranker.load(tmp_path / n), "query_tower.") for n in ("as-is", "changed"))
    assert all(np.array_equal(value, b[name]) for name, value in a.items())
    mutated = replace(help_centre, queries=help_centre.queries.with_columns(text=pl.lit("same")))
    fit(mutated, recipe, out=tmp_path / "mutated", store=FeatureStore())
    c = weights(Ranker.load(tmp_path / "mutated"), "query_tower.")
    assert not np.array_equal(a["mlp.1.weight"], c["mlp.1.weight"])


@pytest.mark.parametrize("pairing", ["across-answers", "within-answer"])
def test_held_out_queries_are_read_by_no_pairing(make, help_centre, pairing):
    recipe = make("zero-shot", pairing=pairing)
    held_out = [q for s in ("validation", "test") for q in help_centre.split(s).frame["id"]]
    scrambled = pl.when(pl.col("id").is_in(held_out)).then(pl.lit("nothing")).otherwise("text")
    changed = replace(help_centre, queries=help_centre.queries.with_columns(text=scrambled))
    states = [
        weights(fit(data, recipe, store=FeatureStore()), "query_tower.")
        for data in (help_centre, changed)
    ]
    assert all(np.array_equal(value, states[1][name]) for name, value in states[0].items())


def test_pairing_by_thread_needs_no_label_at_all(make, help_centre):
    bare = replace(help_centre, labels=help_centre.labels.clear())
    ranker = fit(bare, make("zero-shot", pairing="thread"), store=FeatureStore())
    assert ranker.origin.quality is None
    assert len(ranker.rank("reset my password", k=3)[0]) == 3


def test_nothing_to_pair_is_one_clear_line(make, help_centre):
    one_type = replace(
        help_centre, queries=help_centre.queries.with_columns(type=pl.lit("question"))
    )
    for pairing in ("across-answers", "within-answer", "thread"):
        with pytest.raises(DataError, match=r"of different types to pair.*give queries a `type`"):
            fit(one_type, make("zero-shot", pairing=pairing), store=FeatureStore())
    with pytest.raises(DataError, match="in groups of 900 or more"):
        fit(help_centre, make("zero-shot", pairing="within-answer", min_pairs=900))


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("stage", "after"), [("pretrain", 0), ("pretrain", 2), ("pretrain", 3), ("fit_towers", 0)]
)
@pytest.mark.parametrize("use", ["freeze", "inherit"])
def test_killed_in_either_stage_it_goes_on_to_the_same_bits(
    make, help_centre, tmp_path, monkeypatch, stage, after, use
):
    recipe = make(use, projector=16, dual=True)
    fit(help_centre, recipe, out=tmp_path / "whole", store=FeatureStore())
    real = getattr(stages, stage)

    def dying(*args, on_epoch, **kwargs):
        def on_epoch_and_die(checkpoint):
            on_epoch(checkpoint)
            if checkpoint.history[-1]["epoch"] == after:
                raise Killed

        return real(*args, on_epoch=on_epoch_and_die, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(stages, stage, dying)
        patched.setattr(resume, "SAVED_EVERY_S", 0)
        fit(help_centre, recipe, out=tmp_path / "killed", store=FeatureStore())
    fit(help_centre, recipe, out=tmp_path / "killed", store=FeatureStore())
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    whole, killed = (read_card(tmp_path / n).files for n in ("whole", "killed"))
    assert whole == killed


def test_runs_that_begin_alike_share_their_pretraining(make, help_centre, tmp_path, monkeypatch):
    calls = []
    real = stages.pretrain

    def counted(*args, saved, **kwargs):
        calls.append(saved is None)
        return real(*args, saved=saved, **kwargs)

    monkeypatch.setattr(stages, "pretrain", counted)
    store = FeatureStore()
    recipe, other = make("inherit", pairing="thread"), make("freeze", pairing="thread")
    fewer = help_centre.fewer_labels(0.3)
    runs = [(help_centre, recipe, 0), (help_centre, other, 0), (fewer, recipe, 0)]
    runs += [(help_centre, recipe, 1), (help_centre, make("inherit"), 0)]
    alone = fit(help_centre, other, store=store)
    calls.clear()
    shared = [fit(data, r, seed=seed, store=store, shared=tmp_path) for data, r, seed in runs]
    assert calls == [True, False, False, True, True]
    other = weights(shared[1])
    assert all(np.array_equal(value, other[name]) for name, value in weights(alone).items())


def test_a_data_set_without_threads_or_types_says_so(make, tmp_path, help_centre):
    plain = help_centre.queries.with_columns(type=pl.lit("query"), thread=pl.col("id"))
    replace(help_centre, queries=plain).save(tmp_path / "plain")
    with pytest.raises(DataError, match=r"queries.jsonl: too few queries of one thread"):
        fit(Dataset.load(tmp_path / "plain"), make("zero-shot", pairing="thread"))
