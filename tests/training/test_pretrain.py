import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse

from twinrank.errors import DivergedError
from twinrank.ranking import Passages
from twinrank.recipe import PretrainingSettings, TrainingSettings
from twinrank.training import Checkpoint, Examples, Groups, Sightings, fit_towers, pretrain
from twinrank.training.tower_modules import Towers

DIM = 16
THINGS = 60


def world(noise=0.5):
    """Each thing is seen by two types, which differ by an offset; half of DIM is noise."""
    rng = np.random.default_rng(0)
    things = rng.normal(size=(THINGS, DIM)) * (np.arange(DIM) < DIM // 2)
    thing, kind = np.repeat(np.arange(THINGS), 6), np.tile([0, 0, 0, 1, 1, 1], THINGS)
    offset = 0.3 * rng.normal(size=DIM)
    seen = things[thing] + np.outer(kind, offset) + noise * rng.normal(size=(len(thing), DIM))
    return seen.astype(np.float32), thing, kind


def sightings(features=None, **changes):
    seen, thing, kind = world()
    values = {"use": "zero-shot", "batch_size": 32, **changes}
    if values["use"] != "joint":  # a joint training has its own
        values = {"learning_rate": 3e-3, "epochs": 12, **values}
    groups = Groups.of(np.arange(len(seen)), thing, kind)
    return Sightings(seen if features is None else features, groups, PretrainingSettings(**values))


def towers(kind="projection", projector=None, seed=0, **changes):
    torch.manual_seed(seed)
    made = Towers(kind, DIM, **changes)
    made.take_projector(projector)
    return made


def tells_things_apart(made) -> float:
    """Share of queries of one type whose nearest of the other type is of the same thing.

    Each type is taken about its own mean: the loss is blind to where a whole view lies.
    """
    seen, thing, kind = world()
    with torch.inference_mode():
        vectors = made.eval().query(torch.as_tensor(seen)).numpy()
    one, other = (vectors[kind == k] - vectors[kind == k].mean(axis=0) for k in (0, 1))
    one, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (one, other))
    near = np.argmax(one @ other.T, axis=1)
    return float((thing[kind == 0] == thing[kind == 1][near]).mean())


def nothing(_):
    return {}


@pytest.mark.parametrize("kind", ["projection", "residual"])
@pytest.mark.parametrize("projector", [None, 16])
def test_across_groups_it_learns_what_both_types_share(kind, projector):
    made = towers(kind, projector)
    before = tells_things_apart(made)
    history = pretrain(made, sightings(), nothing)
    losses = [record["barlow_loss"] for record in history[1:]]
    assert losses[-1] < 0.3 * losses[0]
    # A projection starts from random weights, a residual tower from all that features tell.
    assert tells_things_apart(made) > before * (1.5 if kind == "projection" else 1)
    assert not made.training


def test_within_one_group_it_forgets_what_tells_groups_apart():
    """The collapse, in eight dimensions: all else is as in the test above."""
    made = towers()
    pretrain(made, sightings(pairing="within-answer", epochs=40), nothing)
    healthy = towers()
    pretrain(healthy, sightings(epochs=40), nothing)
    assert tells_things_apart(made) < 0.6 * tells_things_apart(healthy)


def test_shuffled_partners_teach_nothing():
    made = towers()
    pretrain(made, sightings(shuffled=True, epochs=40), nothing)
    healthy = towers()
    pretrain(healthy, sightings(epochs=40), nothing)
    assert tells_things_apart(made) < 0.6 * tells_things_apart(healthy)


def test_the_record_counts_pairs_batches_and_collisions():
    record = pretrain(towers(), sightings(epochs=1), nothing)[1]
    assert record["pairs"] == 3 * THINGS
    assert record["batches"] == 6
    # 180 pairs in 6 batches of 30, three of each thing dealt to three different batches
    assert record["collisions"] == 0
    record = pretrain(towers(), sightings(epochs=1, pairing="within-answer"), nothing)[1]
    assert (record["pairs"], record["batches"]) == (3 * THINGS, THINGS)
    assert record["collisions"] == pytest.approx(2 / 3, abs=1e-4)


def test_all_statistics_standardise_a_group_among_all():
    """Far from the others, a group's vectors are far from zero: none is lost to its mean."""
    made = towers("residual")
    alone, among = (
        sightings(pairing="within-answer", statistics=statistics) for statistics in ("batch", "all")
    )
    first = [next(one.losses(made, np.random.default_rng(0)))[0].item() for one in (alone, among)]
    f, g = (torch.as_tensor(alone.features) for _ in range(2))
    assert first[0] != first[1]
    batch = next(alone.batches(np.random.default_rng(0)))
    others = next(among.batches(np.random.default_rng(0)))
    assert batch.f.tolist() == others.f.tolist()
    assert f.shape == g.shape


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_going_on_gives_the_same_bits(stop, tmp_path):
    checkpoints = []
    whole = towers("residual", 16, dropout=0.2)
    pretrain(whole, sightings(epochs=6), nothing, seed=3, on_epoch=checkpoints.append)
    file = tmp_path / "checkpoint.safetensors"

    class Killed(BaseException):
        pass

    def die(checkpoint):
        checkpoint.save(file, {})
        if checkpoint.history[-1]["epoch"] == stop:
            raise Killed

    with pytest.raises(Killed):
        again = towers("residual", 16, dropout=0.2)
        pretrain(again, sightings(epochs=6), nothing, seed=3, on_epoch=die)
    saved, _ = Checkpoint.load(file)
    resumed = towers("residual", 16, dropout=0.2, seed=1)
    pretrain(resumed, sightings(epochs=6), nothing, seed=3, saved=saved)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_projector_is_trained_and_thrown_away():
    made = towers("residual", 16)
    before = made.projector[0].weight.clone()
    pretrain(made, sightings(epochs=1), nothing)
    assert not torch.equal(before, made.projector[0].weight)
    made.take_projector(None)
    assert not any(name.startswith("projector") for name in made.state_dict())


def joint_problem():
    seen, thing, kind = world()
    labels = sparse.csr_array(np.eye(THINGS, dtype=np.float32)[thing])
    answers = np.random.default_rng(1).normal(size=(THINGS, DIM)).astype(np.float32)
    examples = Examples(seen, labels, np.arange(len(seen)), [f"type {k}" for k in kind])
    return examples, Passages(answers, None, THINGS)


def fitted(joint, **changes):
    examples, answers = joint_problem()
    made = towers("residual", joint and joint.settings.projector)
    settings = TrainingSettings(batch_size=40, learning_rate=1e-3, epochs=4, **changes)
    history = fit_towers(made, examples, answers, settings, lambda t: {"loss": 1.0}, joint=joint)
    return made, history


def test_joint_training_adds_the_barlow_loss_by_its_weight():
    alone, _ = fitted(None)
    tiny, records = fitted(sightings(use="joint", weight=1e-12))
    _, heavy_records = fitted(sightings(use="joint", weight=10.0))
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(tiny.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert heavy_records[-1]["barlow_loss"] < records[-1]["barlow_loss"]
    assert heavy_records[-1]["train_loss"] > records[-1]["train_loss"]


def test_two_towers_inherit_one_or_both():
    pretrained = towers(seed=1)
    for answers in (True, False):
        dual = towers(dual=True)
        own = {name: value.clone() for name, value in dual.answer_tower.state_dict().items()}
        dual.start_from(pretrained, answers=answers)
        expected = pretrained.query_tower.state_dict() if answers else own
        for name, value in pretrained.query_tower.state_dict().items():
            assert torch.equal(dual.query_tower.state_dict()[name], value)
            assert torch.equal(dual.answer_tower.state_dict()[name], expected[name])


def test_a_frozen_base_stays_as_it_is_and_in_use():
    pretrained = towers(seed=1)
    above = towers("projection", dual=True)
    above.stand_on(pretrained)
    pretrained.eval()
    above.train()
    assert not above.base.training
    assert above.query_tower.training
    assert not any(p.requires_grad for p in above.base.parameters())
    x = torch.randn(6, DIM)
    above.eval()
    expected = above.answer_tower(pretrained.query(x))
    torch.testing.assert_close(above.answer(x), expected)


def test_pairing_by_thread_reads_types_and_threads_alone():
    frame = pl.DataFrame({"thread": ["a", "a", "b"], "type": ["q", "c", "q"]})
    assert len(Groups.by_thread(frame)) == 1


def test_a_pretraining_that_diverges_stops_and_names_the_field():
    with pytest.raises(
        DivergedError, match=r"barlow_loss is .*pretraining\.learning_rate = 1e\+35"
    ):
        pretrain(towers("residual"), sightings(learning_rate=1e35), nothing)
