import numpy as np
import pytest
import torch
from scipy import sparse
from torch.distributed import TCPStore

from tests.processes import heard, started
from twinrank.ranking import Passages
from twinrank.recipe import PretrainingSettings, TrainingSettings
from twinrank.training import Examples, Groups, Sightings, Team, TeamLostError, fit_towers
from twinrank.training.tower_modules import Towers

N, M, D = 23, 7, 16
RECIPES = {
    "residual": ({"kind": "residual", "memory": True}, {}),
    "offsets": ({"kind": "residual"}, {}),
    "dual projection": ({"kind": "projection", "dual": True}, {}),
    "stale index": ({"kind": "projection"}, {"index": "stale", "answer_batch": 5}),
    "sampled index": (
        {"kind": "residual", "memory": True},
        {"index": "sampled", "answer_sample": 4},
    ),
    "joint": ({"kind": "residual"}, {}),
}


def fitted(name, team):
    """Towers fitted on made-up data, and the records."""
    rng = np.random.default_rng(0)
    labels = sparse.csr_array((np.ones(N), (np.arange(N), np.arange(N) % M)), shape=(N, M))
    features = rng.normal(size=(N, D)).astype(np.float32)
    types = [("question", "conversation")[i % 2] for i in range(N)]
    train = Examples(features, labels, np.arange(N) // 2, types)
    owner = np.repeat(np.arange(M), 2)
    answers = Passages(rng.normal(size=(2 * M, D)).astype(np.float32), owner, M)
    of_towers, of_training = RECIPES[name]
    settings = TrainingSettings(epochs=3, batch_size=6, learning_rate=3e-3, **of_training)
    joint = None
    if name == "joint":
        pairs = PretrainingSettings(use="joint", pairing="across-answers", batch_size=4)
        groups = Groups.of(np.arange(N), np.arange(N) // 2, np.arange(N) % 2)
        joint = Sightings(features, groups, pairs)
    torch.manual_seed(0)
    towers = Towers(dim=D, dropout=0.3, **of_towers)
    towers.take_offsets(M if name in ("offsets", "sampled index") else None)
    history = fit_towers(
        towers,
        train,
        answers,
        settings,
        lambda towers: measured(towers, team),
        joint=joint,
        team=team,
    )
    # A bias before BatchNorm, or of all answers alike, has no gradient but rounding, which Adam
    # makes steps of.
    idle = (
        ("0.bias", "4.bias", "answer_tower.5.bias", "running_mean")
        if of_towers["kind"] == "projection"
        else ()
    )
    return {k: t for k, t in towers.state_dict().items() if not k.endswith(idle)}, history


def measured(towers, team):
    assert team.number == 0
    return {"loss": float(towers.query(torch.ones(3, D))[0, 0] - towers.scale)}


def second(name, port, says):
    torch.set_num_threads(1)
    team = Team.met(TCPStore("127.0.0.1", port), 2, 1, patience_s=60.0)
    try:
        state, history = fitted(name, team)
        says.send(([tensor.numpy() for tensor in state.values()], history))
    finally:
        team.leave()


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_fit_the_towers_of_one(name):
    alone, course = fitted(name, Team())
    place = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    process, hears = started(second, name, place.port)
    team = Team.met(place, 2, 0, patience_s=60.0)
    try:
        state, history = fitted(name, team)
    finally:
        team.leave()
    ((theirs, told),) = heard(hears)
    process.join()
    for (key, tensor), other in zip(state.items(), theirs, strict=True):
        torch.testing.assert_close(tensor, alone[key], atol=2e-5, rtol=1e-3)
        torch.testing.assert_close(torch.as_tensor(other), tensor, atol=1e-6, rtol=1e-5, msg=key)
    losses = [[record["train_loss"] for record in own[1:]] for own in (course, history, told)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert losses[1] == losses[2]
    assert [record["loss"] for record in history] == [record["loss"] for record in told]


def vanish(port, says):
    Team.met(TCPStore("127.0.0.1", port), 2, 1, patience_s=60.0)
    says.send("met")


def test_a_process_that_is_gone_is_told_from_other_errors():
    place = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    process, hears = started(vanish, place.port)
    team = Team.met(place, 2, 0, patience_s=20.0)
    try:
        assert heard(hears) == ["met"]
        process.join()
        with pytest.raises(TeamLostError, match="not heard of"):
            team.sum_gradients([ones()])
    finally:
        team.leave()


def ones():
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    return weight
