from datetime import timedelta

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import distributed
from torch.distributed import TCPStore

from tests.processes import heard, started
from tests.training.test_encoder_tuning import tune
from twinrank.encoding import Encoder
from twinrank.ranking import Passages
from twinrank.recipe import PretrainingSettings, Recipe, TrainingSettings
from twinrank.training import TrainingData, is_main, train
from twinrank.training.pretraining import Groups, PairedQueries
from twinrank.training.tower_modules import Towers
from twinrank.training.tower_training import TowerTrainer
from twinrank.training.training_data import Examples

pytestmark = pytest.mark.slow

N, M, DIM = 23, 7, 16
CASES = {
    "residual": ({"kind": "residual", "memory": True}, {}),
    "dual projection": ({"kind": "projection", "dual": True}, {}),
    "stale index": ({"kind": "projection"}, {"index": "stale", "answer_batch": 5}),
    "sampled index": (
        {"kind": "residual", "memory": True},
        {"index": "sampled", "answer_sample": 4},
    ),
    "joint": ({"kind": "residual"}, {}),
}


def fit_towers(case):
    """Towers fitted on made-up data, and the records."""
    rng = np.random.default_rng(0)
    labels = sparse.csr_array((np.ones(N), (np.arange(N), np.arange(N) % M)), shape=(N, M))
    features = rng.normal(size=(N, DIM)).astype(np.float32)
    examples = Examples(features, labels, np.arange(N) // 2)
    owner = np.repeat(np.arange(M), 2)
    answers = Passages(rng.normal(size=(2 * M, DIM)).astype(np.float32), owner, M)
    of_towers, of_training = CASES[case]
    pairs = None
    if case == "joint":
        settings = PretrainingSettings(use="joint", pairing="across-answers", batch_size=4)
        groups = Groups.of(np.arange(N), np.arange(N) // 2, np.arange(N) % 2)
        pairs = PairedQueries(features, groups, settings)
    torch.manual_seed(0)
    towers = Towers(dim=DIM, dropout=0.0, **of_towers)
    if case == "sampled index":
        towers.add_offsets(M)
    settings = TrainingSettings(epochs=3, batch_size=6, learning_rate=3e-3, **of_training)
    history = TowerTrainer(
        towers, TrainingData(answers, examples, pairs=pairs), settings, validate
    ).run()
    # A bias before BatchNorm, or of all answers alike, has no gradient but rounding, which Adam
    # makes steps of.
    idle = (
        ("0.bias", "4.bias", "answer_tower.5.bias", "running_mean")
        if of_towers["kind"] == "projection"
        else ()
    )
    state = {name: t.numpy() for name, t in towers.state_dict().items() if not name.endswith(idle)}
    return state, history


def validate(towers):
    assert is_main()
    return {"loss": float(towers.query(torch.ones(3, DIM))[0, 0] - towers.scale)}


def tune_encoder(model, data):
    encoder = Encoder(model, max_tokens=32, precision="fp32", device="cpu")
    tuned, history = tune(encoder, data, memory=True)
    return {name: t.numpy() for name, t in tuned.state_dict().items()}, history


def train_ranker(data, recipe, out):
    """A ranker's towers by the whole of `train`, and its records."""
    records = []
    ranker = train(data, recipe, out=out, on_record=records.append, device="cpu")
    return ranker.dense.towers.tensors, records


def second_process(function, args, port, pipe):
    torch.set_num_threads(1)
    join(TCPStore("127.0.0.1", port), 1)
    try:
        pipe.send(function(*args))
    finally:
        distributed.destroy_process_group()


def join(store, number):
    timeout = timedelta(seconds=60)
    distributed.init_process_group("gloo", store=store, world_size=2, rank=number, timeout=timeout)


def in_two_processes(function, *args):
    """What a call gives in each of two processes that make it together."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    process, pipe = started(second_process, function, args, store.port)
    join(store, 0)
    try:
        first = function(*args)
    finally:
        distributed.destroy_process_group()
    (second,) = heard(pipe)
    process.join()
    return first, second


def check_alike(states, **tolerance):
    first, second = states
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_allclose(second[name], array, **tolerance, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_fit_the_towers_of_one(case):
    alone, course = fit_towers(case)
    (first, history), (second, records) = in_two_processes(fit_towers, case)
    check_alike((alone, first), atol=2e-5, rtol=1e-3)
    check_alike((first, second), atol=1e-6, rtol=1e-5)
    losses = [[record["train_loss"] for record in run[1:]] for run in (course, history, records)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert losses[1] == losses[2]
    assert [record["loss"] for record in history] == [record["loss"] for record in records]


def test_two_processes_give_the_encoder_of_one(tiny_model, help_centre):
    alone, _ = tune_encoder(str(tiny_model), help_centre)
    (first, _), (second, _) = in_two_processes(tune_encoder, str(tiny_model), help_centre)
    check_alike((alone, first), atol=2e-5, rtol=1e-3)
    check_alike((first, second), atol=1e-6, rtol=1e-5)


def test_train_runs_as_it_is_in_each_of_two_processes(help_centre, recipes, tmp_path):
    values = recipes["fused"].values()
    values["towers"]["dropout"] = 0.0  # each process draws its own
    recipe = Recipe.validated(values, source="test")
    alone, course = train_ranker(help_centre, recipe, tmp_path / "alone")
    (first, records), (second, others) = in_two_processes(
        train_ranker, help_centre, recipe, tmp_path / "together"
    )
    check_alike((alone, first), atol=1e-4, rtol=1e-3)
    check_alike((first, second), atol=1e-6, rtol=1e-5)
    assert [record["epoch"] for record in records] == [record["epoch"] for record in course]
    assert others == []
    assert (tmp_path / "together" / "current.json").exists()
