from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from twinrank.errors import DivergedError
from twinrank.ranking import Passages
from twinrank.recipe import TrainingSettings
from twinrank.training import Checkpoint, Examples, cross_entropy, fit_towers
from twinrank.training.index import ExactIndex, StaleIndex
from twinrank.training.tower_modules import Towers


def problem(dtype=np.float32, queries=90, answers=12, dim=8):
    """Queries are noisy sightings of a hidden rotation of their answers."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(answers, dim)).astype(dtype)
    rotation, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    target = rng.integers(answers, size=queries)
    seen = (features @ rotation)[target] + 0.3 * rng.normal(size=(queries, dim))
    labels = sparse.csr_array(np.eye(answers)[target])
    types = ["question", "conversation"] * (queries // 2) + ["question"] * (queries % 2)
    examples = Examples(seen.astype(dtype), labels, np.arange(queries), types)
    return examples, Passages(features, None, answers)


def validation_loss(examples, answers):
    right = torch.as_tensor(examples.labels.toarray() > 0)

    def validate(towers):
        queries = towers.query(torch.as_tensor(examples.features))
        scores = towers.scores(queries, towers.answer(torch.as_tensor(answers.rows)))
        return {"loss": cross_entropy(scores, right).mean().item()}

    return validate


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**{"batch_size": 16, "learning_rate": 1e-2, "epochs": 8, **changes})


def trained(kind="residual", dual=False, on_epoch=lambda checkpoint: None, saved=None, **changes):
    examples, answers = problem()
    torch.manual_seed(0)
    towers = Towers(kind, 8, dual=dual, dropout=0.1)
    validate = validation_loss(examples, answers)
    history = fit_towers(
        towers,
        examples,
        answers,
        settings(**changes),
        validate,
        seed=3,
        saved=saved,
        on_epoch=on_epoch,
    )
    return towers, history


@pytest.mark.parametrize("index", ["exact", "stale"])
@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("kind", ["residual", "projection"])
def test_training_lowers_the_loss(kind, dual, index):
    _, history = trained(kind, dual, index=index, answer_batch=5, epochs=20)
    losses = [record["loss"] for record in history]
    assert min(losses) < 0.6 * losses[0]


def test_same_seed_same_towers():
    (first, _), (second, _) = trained(), trained()
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_keeps_the_best_epoch_and_stops_after_patience():
    towers, history = trained(epochs=200, patience=3, learning_rate=0.3)
    losses = [record["loss"] for record in history]
    examples, answers = problem()
    assert validation_loss(examples, answers)(towers)["loss"] == pytest.approx(min(losses))
    assert len(losses) - 1 - losses.index(min(losses)) == 3


@pytest.mark.parametrize("kind,index", [("residual", "exact"), ("projection", "stale")])
def test_going_on_from_any_epoch_gives_the_same_bits(tmp_path, kind, index):
    checkpoints = []

    def keep(checkpoint):
        file = tmp_path / f"{len(checkpoints)}.safetensors"
        checkpoint.save(file, {"what": "this"})
        checkpoints.append(file)

    whole, history = trained(kind, True, keep, index=index, answer_batch=5)
    assert len(checkpoints) == len(history)
    for file in checkpoints:
        saved, identity = Checkpoint.load(file)
        assert identity == {"what": "this"}
        again, history_again = trained(kind, True, saved=saved, index=index, answer_batch=5)
        for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
            assert torch.equal(a, b)
        assert [r["loss"] for r in history] == [r["loss"] for r in history_again]


@pytest.mark.parametrize("kind", ["residual", "projection"])
def test_a_stale_index_refreshed_whole_equals_the_exact_one(kind):
    exact, _ = trained(kind, index="exact")
    stale, _ = trained(kind, index="stale", answer_batch=12)
    for a, b in zip(exact.state_dict().values(), stale.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_stale_step_changes_only_its_batch_and_only_it_has_gradients():
    _, answers = problem()
    features = torch.as_tensor(answers.rows)
    towers = Towers("projection", 8).train()
    index = StaleIndex(features, batch=5, seed=0)
    before = index.refresh(towers, 0).detach()
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter))
    vectors = index.refresh(towers, 1)
    changed = (vectors.detach() != before).any(dim=1)
    assert changed.sum() == 5
    (gradient,) = torch.autograd.grad(vectors.sum(), towers.query_tower[5].bias)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 5.0))  # one from each fresh row
    assert not index.state()["vectors"].requires_grad


def test_every_answer_is_refreshed_within_one_round():
    _, answers = problem()
    index = StaleIndex(torch.as_tensor(answers.rows), batch=5, seed=1)
    towers = Towers("projection", 8).train()
    vectors = index.refresh(towers, 0).detach()
    touched = torch.zeros(12, dtype=torch.bool)
    for step in range(1, 4):  # ceil(12 / 5) steps
        with torch.no_grad():
            for parameter in towers.parameters():
                parameter.add_(torch.randn_like(parameter))
        fresh = index.refresh(towers, step).detach()
        touched |= (fresh != vectors).any(dim=1)
        vectors = fresh
    assert touched.all()


def test_starting_a_stale_index_leaves_batchnorm_alone():
    _, answers = problem()
    towers, twin = Towers("projection", 8).train(), Towers("projection", 8).train()
    twin.load_state_dict(towers.state_dict())
    features = torch.as_tensor(answers.rows)
    StaleIndex(features, batch=12, seed=0).refresh(towers, 0)
    ExactIndex(features).refresh(twin, 0)
    torch.testing.assert_close(towers.query_tower[1].running_mean, twin.query_tower[1].running_mean)


def test_a_last_batch_of_one_query_does_not_break_batchnorm():
    examples, answers = problem(queries=17)
    towers = Towers("projection", 8)
    history = fit_towers(
        towers, examples, answers, settings(epochs=1), validation_loss(examples, answers)
    )
    assert len(history) == 2


def test_keeps_the_epoch_whose_worst_type_ranks_best():
    worst = iter([0.9, 0.2, 0.5, 0.4, 0.1, 0.3])

    def validate(_):
        figures = {"map@10": next(worst)}
        return {"loss": 1.0, "types": {"question": figures, "conversation": {"map@10": 0.8}}}

    examples, answers = problem()
    towers = Towers("residual", 8)
    kept = []
    fit_towers(
        towers,
        examples,
        answers,
        settings(keep="worst-type", patience=3),
        validate,
        on_epoch=lambda checkpoint: kept.append(towers.query_tower.mlp[1].weight.clone()),
    )
    assert len(kept) == 6  # epoch 0 does not compete; epoch 2 is best; three were no better
    assert torch.equal(towers.query_tower.mlp[1].weight, kept[2])


def with_memory(on_epoch=lambda checkpoint: None, saved=None, threads=None):
    examples, answers = problem()
    if threads is not None:
        examples = replace(examples, threads=threads)
    torch.manual_seed(0)
    towers = Towers("residual", 8, dropout=0.1, memory=True)
    validate = validation_loss(examples, answers)
    chosen = settings(epochs=4)
    history = fit_towers(
        towers, examples, answers, chosen, validate, saved=saved, on_epoch=on_epoch
    )
    return towers, history


def test_a_memory_goes_on_from_any_epoch_with_the_same_bits(tmp_path):
    files = []

    def keep(checkpoint):
        files.append(tmp_path / f"{len(files)}.safetensors")
        checkpoint.save(files[-1], {})

    whole, _ = with_memory(keep)
    for file in files:
        again, _ = with_memory(saved=Checkpoint.load(file)[0])
        for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_a_query_is_blind_to_its_own_thread():
    """Where all queries are of one thread, the memory sees nothing and learns nothing."""
    start = Towers("residual", 8, memory=True).memory.state_dict()
    for threads, learns in ((np.zeros(90, int), False), (np.arange(90), True)):
        towers, _ = with_memory(threads=threads)
        end = towers.memory.state_dict()
        assert any(not torch.equal(start[name], end[name]) for name in start) is learns


def test_a_training_that_diverges_stops_in_a_line_that_names_the_field():
    reached = []
    with pytest.raises(DivergedError, match=r"epoch 1: train_loss is .*training\.learning_rate = "):
        trained(learning_rate=1e35, on_epoch=lambda c: reached.append(c.history[-1]["epoch"]))
    assert reached == [0]


def test_a_validation_that_is_not_finite_stops_it_too():
    examples, answers = problem()
    losses = iter([1.0, np.nan])
    with pytest.raises(DivergedError, match="epoch 1: loss is nan"):
        fit_towers(
            Towers("residual", 8), examples, answers, settings(), lambda _: {"loss": next(losses)}
        )
