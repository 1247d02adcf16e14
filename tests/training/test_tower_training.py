from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from twinrank.errors import DivergedError
from twinrank.ranking import Passages
from twinrank.recipe import TrainingSettings
from twinrank.training import TrainingData
from twinrank.training import negatives as negatives_module
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.losses import cross_entropy
from twinrank.training.tower_modules import Towers
from twinrank.training.tower_training import TowerTrainer, matmul_precision
from twinrank.training.training_data import Examples

DIM = 8


def problem(queries=90, answers=12, passages=1):
    """Queries are noisy views of a hidden rotation of their answers; some have two passages."""
    rng = np.random.default_rng(0)
    owner = np.sort(
        np.concatenate([np.arange(answers), *[np.arange(0, answers, 2)] * (passages - 1)])
    )
    rows = rng.normal(size=(len(owner), DIM)).astype(np.float32)
    rotation, _ = np.linalg.qr(rng.normal(size=(DIM, DIM)))
    target = rng.integers(answers, size=queries)
    first = np.searchsorted(owner, target)
    features = (rows @ rotation)[first] + 0.3 * rng.normal(size=(queries, DIM))
    labels = np.eye(answers)[target]
    labels[0, (target[0] + 1) % answers] = 1  # a query with two right answers
    examples = Examples(
        features.astype(np.float32), sparse.csr_array(labels), np.arange(queries) // 2
    )
    return TrainingData(Passages(rows, owner if passages > 1 else None, answers), examples)


def validation_loss(data):
    right = torch.as_tensor(data.train.labels.toarray() > 0)

    def validate(towers):
        queries = towers.query(torch.as_tensor(data.train.features))
        passages = data.answers.of(towers.answer(torch.as_tensor(data.answers.rows)))
        scores = towers.scores(queries, towers.add_offsets_to(passages))
        return {"loss": cross_entropy(scores, right).mean().item()}

    return validate


def train_towers(data=None, *, kind="residual", offsets=False, run=None, validate=None, **changes):
    data = data or problem()
    of_towers = {name: changes.pop(name) for name in ("dual", "memory") if name in changes}
    dropout = changes.pop("dropout", 0.1)
    torch.manual_seed(0)
    towers = Towers(kind, DIM, dropout=dropout, **of_towers)
    if offsets:
        towers.add_offsets(data.answers.answers)
    values = {"batch_size": 16, "learning_rate": 1e-2, "epochs": 6, **changes}
    settings = TrainingSettings(**values)
    trainer = TowerTrainer(towers, data, settings, validate or validation_loss(data), seed=3)
    return towers, trainer.run(**(run or {}))


def check_equal(towers, others, **tolerance):
    for name, tensor in towers.state_dict().items():
        if tolerance:
            torch.testing.assert_close(tensor, others.state_dict()[name], **tolerance, msg=name)
        else:
            assert torch.equal(tensor, others.state_dict()[name]), name


@pytest.mark.parametrize("index", ["exact", "stale", "sampled"])
@pytest.mark.parametrize("kind", ["residual", "projection"])
def test_training_lowers_the_loss(kind, index):
    dual = (kind == "projection") != (index == "stale")
    answers = {"answer_batch": 5, "answer_sample": 6}
    _, history = train_towers(kind=kind, dual=dual, index=index, epochs=20, **answers)
    losses = [record["loss"] for record in history]
    assert min(losses) < 0.6 * losses[0]


CASES = {
    "residual, exact, memory, offsets": {"memory": True, "offsets": True},
    "dual projection, stale": {
        "kind": "projection",
        "dual": True,
        "index": "stale",
        "answer_batch": 5,
    },
    "residual, sampled, memory": {"index": "sampled", "answer_sample": 4, "memory": True},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_going_on_from_any_epoch_gives_the_same_bits(tmp_path, case):
    files = []

    def save(checkpoint):
        files.append(tmp_path / f"{len(files)}.safetensors")
        checkpoint.save(files[-1], {"what": "this"})

    whole, history = train_towers(problem(passages=2), run={"on_epoch": save}, **case)
    assert len(files) == len(history) == 7
    for file in files[::3]:
        saved = Checkpoint.load(file, {"what": "this"})
        again, records = train_towers(problem(passages=2), run={"saved": saved}, **case)
        check_equal(whole, again)
        assert [r["loss"] for r in records] == [r["loss"] for r in history]


def test_keeps_the_best_epoch_and_stops_after_patience():
    towers, history = train_towers(epochs=200, patience=3, learning_rate=0.3)
    losses = [record["loss"] for record in history]
    assert validation_loss(problem())(towers)["loss"] == pytest.approx(min(losses))
    assert len(losses) - 1 - losses.index(min(losses)) == 3


def test_keeps_the_epoch_whose_worst_type_ranks_best():
    worst = iter([0.9, 0.2, 0.5, 0.4, 0.1, 0.3])

    def validate(_):
        figures = {"map@10": next(worst)}
        return {"loss": 1.0, "types": {"question": figures, "conversation": {"map@10": 0.8}}}

    epochs = []
    towers, _ = train_towers(
        validate=validate,
        run={"on_epoch": lambda checkpoint: epochs.append(deepcopy(checkpoint.learned))},
        keep="worst-type",
        patience=3,
    )
    assert len(epochs) == 6  # epoch 0 does not compete; epoch 2 is best; three were no better
    for name, tensor in towers.state_dict().items():
        assert torch.equal(tensor, epochs[2][name])


@pytest.mark.parametrize(("kind", "dual"), [("residual", False), ("projection", True)])
def test_with_all_answers_fresh_or_drawn_every_index_is_the_exact_one(kind, dual):
    towers = {"kind": kind, "dual": dual, "dropout": 0.0, "epochs": 4}
    exact, history = train_towers(index="exact", **towers)
    stale, _ = train_towers(index="stale", answer_batch=12, **towers)
    check_equal(exact, stale, rtol=1e-5, atol=1e-6)
    if kind == "residual":  # a projection's BatchNorm sees the answers in another order
        towers |= {"memory": True, "offsets": True}
        data = problem(passages=2)
        exact, history = train_towers(data, index="exact", **towers)
        sampled, records = train_towers(data, index="sampled", answer_sample=12, **towers)
        check_equal(exact, sampled, rtol=2e-3, atol=2e-4)
        losses = [[record["train_loss"] for record in run[1:]] for run in (history, records)]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_a_last_batch_of_one_query_does_not_break_batchnorm():
    _, history = train_towers(problem(queries=17), kind="projection", epochs=1)
    assert len(history) == 2


def test_bf16_products_round_no_more_than_the_factors_and_in_the_block_alone():
    torch.manual_seed(0)
    a, b = torch.randn(64, 256), torch.randn(256, 64)
    exact = a @ b
    with pytest.raises(ZeroDivisionError), matmul_precision("bf16", torch.device("cpu")):
        rounded = a @ b
        raise ZeroDivisionError
    assert torch.equal(a @ b, exact)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 2**-8 * exact.norm()
    for precision, device in (("fp32", "cpu"), ("bf16", "cuda")):
        with matmul_precision(precision, torch.device(device)):
            assert torch.equal(a @ b, exact)


def test_a_query_is_blind_to_its_own_thread():
    """Where all queries are of one thread, the memory sees nothing and learns nothing."""
    start = Towers("residual", DIM, memory=True).memory.state_dict()
    data = problem()
    for threads, learns in ((np.zeros(90, int), False), (np.arange(90), True)):
        examples = replace(data.train, threads=threads)
        towers, _ = train_towers(replace(data, train=examples), memory=True, epochs=2)
        end = towers.memory.state_dict()
        assert any(not torch.equal(start[name], end[name]) for name in start) is learns


def test_a_training_that_diverges_stops_in_a_line_that_names_the_field():
    epochs = []
    with pytest.raises(DivergedError, match=r"epoch 1: train_loss is .*training\.learning_rate = "):
        train_towers(
            learning_rate=1e35, run={"on_epoch": lambda c: epochs.append(c.history[-1]["epoch"])}
        )
    assert epochs == [0]
    losses = iter([1.0, np.nan])
    with pytest.raises(DivergedError, match="epoch 1: loss is nan"):
        train_towers(validate=lambda _: {"loss": next(losses)})


def test_the_choice_of_an_index_is_logged_and_stays_where_training_goes_on(caplog, monkeypatch):
    caplog.set_level("INFO")
    checkpoints = []
    auto = {"index": "auto", "answer_sample": 2}
    take = {"on_epoch": lambda checkpoint: checkpoints.append(deepcopy(checkpoint))}
    whole, history = train_towers(run=take, **auto)
    assert "sample" not in caplog.text
    assert history[0]["index"] == "exact"
    monkeypatch.setattr(negatives_module, "_free_bytes", lambda device: 0)
    assert train_towers(**auto)[1][0]["index"] == "sampled"
    assert "12 answers: steps score against a sample" in caplog.text
    again, records = train_towers(run={"saved": checkpoints[0]}, **auto)
    assert records[0]["index"] == "exact"
    check_equal(whole, again)
