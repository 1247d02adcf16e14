from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.decomposition import PCA

from tests.processes import Killed
from twinrank.encoding import FeatureStore
from twinrank.errors import DataError
from twinrank.evaluation import evaluate
from twinrank.ranking import Passages, Ranker, read_manifest
from twinrank.recipe import PretrainingSettings, Recipe, TrainingSettings
from twinrank.training import TrainingData, checkpoint, read_records, train
from twinrank.training.losses import flat_loss
from twinrank.training.pretraining import (
    Groups,
    PairedQueries,
    Pretrainer,
    first_axis,
    warn_of_collapse,
)
from twinrank.training.tower_modules import Towers
from twinrank.training.tower_training import TowerTrainer
from twinrank.training.training_data import Examples

DIM = 16
THINGS = 60


def world(noise=0.5):
    """Each thing is seen by two types, which differ by an offset; half of DIM is noise."""
    rng = np.random.default_rng(0)
    things = rng.normal(size=(THINGS, DIM)) * (np.arange(DIM) < DIM // 2)
    thing, kind = np.repeat(np.arange(THINGS), 6), np.tile([0, 0, 0, 1, 1, 1], THINGS)
    offset = 0.3 * rng.normal(size=DIM)
    views = things[thing] + np.outer(kind, offset) + noise * rng.normal(size=(len(thing), DIM))
    return views.astype(np.float32), thing, kind


def pair_queries(noise=0.5, **changes):
    features, thing, kind = world(noise)
    values = {"use": "zero-shot", "batch_size": 32, **changes}
    if values["use"] != "joint":  # a joint training has its own
        values = {"learning_rate": 3e-3, "epochs": 12, **values}
    groups = Groups.of(np.arange(len(features)), thing, kind)
    return PairedQueries(features, groups, PretrainingSettings(**values))


def build_towers(kind="projection", projector=None, seed=0, **changes):
    torch.manual_seed(seed)
    towers = Towers(kind, DIM, **changes)
    towers.add_projector(projector)
    return towers


def pretrain(towers, **changes):
    return Pretrainer(towers, pair_queries(**changes), lambda _: {}).run()


def tell_things_apart(towers) -> float:
    """Share of queries of one type whose nearest of the other type is of the same thing.

    Each type is taken about its own mean: the loss is blind to where a whole view lies.
    """
    features, thing, kind = world()
    with torch.inference_mode():
        vectors = towers.eval().query(torch.as_tensor(features)).numpy()
    f, g = (vectors[kind == k] - vectors[kind == k].mean(axis=0) for k in (0, 1))
    f, g = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (f, g))
    nearest = np.argmax(f @ g.T, axis=1)
    return float((thing[kind == 0] == thing[kind == 1][nearest]).mean())


@pytest.mark.parametrize("kind", ["projection", "residual"])
@pytest.mark.parametrize("projector", [None, 16])
def test_across_groups_it_learns_what_both_types_share(kind, projector):
    towers = build_towers(kind, projector)
    before = tell_things_apart(towers)
    history = pretrain(towers)
    losses = [record["barlow_loss"] for record in history[1:]]
    assert losses[-1] < 0.3 * losses[0]
    # A projection starts from random weights, a residual tower from all that features tell.
    assert tell_things_apart(towers) > before * (1.5 if kind == "projection" else 1)
    assert not towers.training


@pytest.mark.slow
@pytest.mark.parametrize("control", [{"pairing": "within-answer"}, {"shuffled": True}])
def test_within_one_group_or_with_shuffled_partners_it_forgets_what_tells_groups_apart(control):
    towers, healthy = build_towers(), build_towers()
    pretrain(towers, epochs=40, **control)
    pretrain(healthy, epochs=40)
    assert tell_things_apart(towers) < 0.6 * tell_things_apart(healthy)


@pytest.mark.parametrize(
    ("pairing", "batches"),
    # 180 pairs in 6 batches of 30; or a thing a batch.
    [("across-answers", 6), ("within-answer", THINGS)],
)
def test_the_record_counts_pairs_and_batches(pairing, batches):
    record = pretrain(build_towers(), epochs=1, pairing=pairing)[1]
    assert (record["pairs"], record["batches"]) == (3 * THINGS, batches)


def test_all_statistics_standardise_a_group_among_all():
    towers = build_towers("residual")
    losses = []
    for statistics in ("batch", "all"):
        pairs = pair_queries(pairing="within-answer", statistics=statistics)
        loss, batch = next(pairs.losses(towers, np.random.default_rng(0)))
        losses.append((loss.item(), batch.f.tolist()))
    assert losses[0][0] != losses[1][0]
    assert losses[0][1] == losses[1][1]


def test_joint_training_adds_the_barlow_loss_by_its_weight():
    features, thing, _ = world()
    labels = sparse.csr_array(np.eye(THINGS, dtype=np.float32)[thing])
    answers = np.random.default_rng(1).normal(size=(THINGS, DIM)).astype(np.float32)
    examples = Examples(features, labels, np.arange(len(features)))
    data = TrainingData(Passages(answers, None, THINGS), examples)

    def fit(pairs):
        towers = build_towers("residual")
        settings = TrainingSettings(batch_size=40, learning_rate=1e-3, epochs=4)
        trainer = TowerTrainer(towers, replace(data, pairs=pairs), settings, lambda _: {"loss": 1})
        return towers, trainer.run()[-1]

    alone, _ = fit(None)
    light, record = fit(pair_queries(use="joint", weight=1e-12))
    _, heavy_record = fit(pair_queries(use="joint", weight=10.0))
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(light.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert heavy_record["barlow_loss"] < record["barlow_loss"]
    assert heavy_record["train_loss"] > record["train_loss"]


@pytest.fixture(scope="module")
def make(recipes):
    """A tiny recipe that pre-trains."""

    def build(use, *, kind="residual", dual=False, **pretraining):
        values = recipes["towers"].values()
        values["towers"] = {"kind": kind, "dual": dual, "dropout": 0.1}
        schedule = {} if use == "joint" else {"epochs": 3, "learning_rate": 1e-3}
        values["pretraining"] = {"use": use, "batch_size": 32, **schedule, **pretraining}
        if use == "zero-shot":
            del values["training"]
        return Recipe.validated({**values, "name": f"tiny-{use}"}, source="test")

    return build


def weights(ranker, prefix=""):
    tensors = ranker.dense.towers.tensors
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def query_tower(ranker):
    return weights(ranker, "query_tower.")


def is_equal(state, other):
    return bool(state) and all((value == other[name]).all() for name, value in state.items())


@pytest.mark.parametrize(
    ("use", "settings"),
    [
        ("zero-shot", {"pairing": "thread", "projector": 16}),
        ("inherit", {"dual": True}),
        pytest.param("inherit", {"dual": True, "pairing": "within-answer"}, marks=pytest.mark.slow),
        ("freeze", {"kind": "projection", "dual": True, "pairing": "within-answer"}),
        ("freeze", {"pairing": "thread", "projector": 16}),
        ("joint", {"pairing": "thread", "projector": 16, "weight": 0.1}),
    ],
)
def test_every_use_leaves_a_ranker_that_loads_and_ranks_alike(
    make, help_centre, tmp_path, use, settings
):
    recipe, store = make(use, **settings), FeatureStore()
    ranker = train(help_centre, recipe, out=tmp_path, refit=False, store=store)
    texts = ["reset my password", "User: hello\nAgent: hi\nUser: where is my invoice"]
    again = Ranker.load(tmp_path, store=FeatureStore())
    assert (ranker.scores(texts) == again.scores(texts)).all()
    stages = {"zero-shot": {"pretraining"}, "joint": {"ranking"}}
    assert {record["stage"] for record in read_records(tmp_path)} == stages.get(
        use, {"pretraining", "ranking"}
    )
    assert not list(tmp_path.glob("*checkpoint*")) and not list(tmp_path.glob("pretraining*"))
    assert not any("projector" in name for name in again.dense.towers.tensors)
    assert evaluate(again, help_centre, split="validation").overall["loss"] == pytest.approx(
        again.origin.quality["loss"], rel=1e-4
    )


def test_inheriting_starts_where_pretraining_ended(make, help_centre, tmp_path):
    bare = train(help_centre, make("zero-shot"), store=FeatureStore())
    train(help_centre, make("inherit"), out=tmp_path, store=FeatureStore())
    records = read_records(tmp_path)
    last = [r for r in records if r["stage"] == "pretraining"][-1]
    first = next(r for r in records if r["stage"] == "ranking")
    assert first["map@10"] == pytest.approx(last["map@10"])
    assert bare.origin.quality["map@10"] == pytest.approx(last["map@10"])


@pytest.mark.parametrize("pairing", ["thread", "across-answers", "within-answer"])
def test_no_pairing_reads_held_out_queries_and_that_by_thread_no_label(make, help_centre, pairing):
    recipe = make("zero-shot", pairing=pairing, epochs=1)
    held_out = [q for s in ("validation", "test") for q in help_centre.split(s).frame["id"]]
    scrambled = pl.when(pl.col("id").is_in(held_out)).then(pl.lit("nothing")).otherwise("text")
    labels = help_centre.labels
    if pairing == "thread":
        of_train = labels.filter(pl.col("split") == "train")
        shuffled = of_train.with_columns(pl.col("answer").shuffle(seed=1))
        labels = pl.concat([shuffled, labels.filter(pl.col("split") != "train")])
    queries = help_centre.queries
    changed = replace(help_centre, queries=queries.with_columns(text=scrambled), labels=labels)
    same_text = replace(help_centre, queries=queries.with_columns(text=pl.lit("same")))
    first, second, third = (
        query_tower(train(data, recipe, store=FeatureStore()))
        for data in (help_centre, changed, same_text)
    )
    assert is_equal(first, second)
    assert not is_equal(first, third)


def test_pairing_by_thread_needs_no_label_at_all(make, help_centre):
    bare = replace(help_centre, labels=help_centre.labels.clear())
    ranker = train(bare, make("zero-shot", pairing="thread"), store=FeatureStore())
    assert ranker.origin.quality is None
    assert len(ranker.rank("reset my password", k=3)[0]) == 3


def test_nothing_to_pair_is_one_clear_line(make, help_centre):
    one_type = help_centre.queries.with_columns(type=pl.lit("question"))
    for pairing in ("across-answers", "within-answer", "thread"):
        with pytest.raises(
            DataError,
            match=r"queries.jsonl: too few.*different types to pair.*give queries a `type`",
        ):
            train(replace(help_centre, queries=one_type), make("zero-shot", pairing=pairing))
    with pytest.raises(DataError, match="in groups of 900 or more"):
        train(help_centre, make("zero-shot", pairing="within-answer", min_pairs=900))


@pytest.mark.parametrize(
    ("stage", "after"), [("pretraining", 2), pytest.param("ranking", 0, marks=pytest.mark.slow)]
)
def test_killed_in_either_stage_it_goes_on_to_the_same_bits(
    make, help_centre, tmp_path, monkeypatch, stage, after
):
    recipe = make("freeze", projector=16, dual=True)
    train(help_centre, recipe, out=tmp_path / "whole", store=FeatureStore())

    def die(record):
        if (record["stage"], record["epoch"]) == (stage, after):
            raise Killed

    killed = {"out": tmp_path / "killed", "store": FeatureStore()}
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoint, "CHECKPOINT_EVERY_S", 0)
        train(help_centre, recipe, on_record=die, **killed)
    train(help_centre, recipe, **killed)
    runs = [read_records(tmp_path / name) for name in ("killed", "whole")]
    for record in [*runs[0], *runs[1]]:
        del record["seconds"]
    assert runs[0] == runs[1]
    files = [read_manifest(tmp_path / name).files for name in ("whole", "killed")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("changes", "axis", "says"),
    [
        ({"pairing": "within-answer", "epochs": 4}, 0.2, "it has learned nothing"),
        ({"shuffled": True}, 0.2, "it has learned nothing"),
        ({}, 0.2, None),
        ({}, 0.97, "97% of the variance of the pre-trained vectors lies on one axis"),
    ],
)
def test_a_pretraining_that_learns_nothing_is_said_with_the_mend(changes, axis, says):
    history = pretrain(build_towers(), **changes)
    history[-1]["first_axis"] = axis
    warnings = warn_of_collapse("mine", history)
    assert len(warnings) == (says is not None)
    assert says is None or (warnings[0].startswith("mine: ") and says in warnings[0])
    assert history[-1]["expected_loss"] == pytest.approx(
        np.mean([flat_loss(n, DIM) for n in sizes(**changes)]), rel=0.02
    )
    assert np.mean(history[-1]["losses"]) == pytest.approx(history[-1]["barlow_loss"], abs=1e-2)


def test_a_gain_that_noise_hides_in_one_epoch_is_no_failure():
    """Losses of batches of different sizes spread widely, whether or not they fall."""
    record = {"expected_loss": 10.0, "first_axis": 0.2, "losses": [1.0, 17.0]}
    history = [{**record, "epoch": e, "barlow_loss": loss} for e, loss in enumerate((9, 8, 9, 9.8))]
    assert not warn_of_collapse("mine", history)
    flat = [
        {**record, "barlow_loss": loss} for record, loss in zip(history, (9, 8, 9, 11), strict=True)
    ]
    assert "10 on average over the last 2" in warn_of_collapse("mine", flat)[0]


def test_a_query_with_a_partner_in_one_of_its_groups_is_not_alone():
    groups = Groups.of(np.array([0, 1, 0, 2]), np.array([0, 0, 1, 2]), np.array([0, 1, 0, 0]))
    assert len(groups) == 1 and groups.alone == 1


def sizes(**changes):
    return [len(batch) for batch in pair_queries(**changes).batches(np.random.default_rng(0))]


def test_the_share_of_the_main_axis_is_that_of_pca():
    vectors = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    vectors[:, 2] *= 5
    expected = PCA().fit(vectors).explained_variance_ratio_[0]
    assert first_axis(vectors) == pytest.approx(expected, rel=1e-5)
    assert first_axis(np.ones((4, 3), np.float32)) == 1


@pytest.mark.parametrize(
    ("gradient", "moves", "sees_data"),
    [("none", False, False), ("noise", True, False), ("loss", True, True)],
)
def test_a_control_takes_no_step_or_one_that_the_queries_do_not_guide(gradient, moves, sees_data):
    before = build_towers().state_dict()
    after = []
    for noise in (0.1, 3.0):
        towers = build_towers()
        pretrain(towers, noise=noise, gradient=gradient)
        after.append(towers.state_dict())
    assert any("running_mean" in n for n, v in after[0].items() if not torch.equal(v, before[n]))
    weights = [name for name in before if name.endswith("weight")]
    moved = [not torch.equal(after[0][name], before[name]) for name in weights]
    guided = [not torch.equal(after[0][name], after[1][name]) for name in weights]
    assert any(moved) == moves
    assert any(guided) == sees_data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "warns"), [("handover-barlow-zero-shot", True), ("barlow-zero-shot", False)]
)
def test_train_warns_of_the_published_pretraining_and_not_of_ours(name, warns, help_centre, caplog):
    train(help_centre, name, store=FeatureStore())
    assert ("it has learned nothing" in caplog.text) == warns
    assert ("lies on one axis" in caplog.text) <= warns
