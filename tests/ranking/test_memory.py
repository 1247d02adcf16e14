import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twinrank.ranking import Memory, Past

ANSWERS = 5


def case(seed, n=4, p=7, d=3):
    """Unit vectors; each past query votes for one or two answers, and none for the last."""
    rng = np.random.default_rng(seed)
    queries, past = (torch.as_tensor(rng.normal(size=(k, d))) for k in (n, p))
    votes = [(i, j) for i in range(p) for j in rng.choice(ANSWERS - 1, 1 + i % 2, replace=False)]
    voters, answers = (torch.tensor(column) for column in zip(*votes, strict=True))
    unit = torch.nn.functional.normalize
    return unit(queries, dim=1), Past(unit(past, dim=1), voters, answers)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_the_formula_a_vote_at_a_time(seed):
    queries, past = case(seed)
    blind = torch.as_tensor(np.random.default_rng(seed).random((4, 7)) < 0.3)
    memory = Memory().double()
    sharpness, floor = memory.log_sharpness.exp().item(), memory.log_floor.exp().item()
    with torch.no_grad():
        memory.weight.fill_(0.7)
        got = memory(queries, past, ANSWERS, blind).numpy()
    for i in range(4):
        sums = np.zeros(ANSWERS)
        for v, a in zip(past.voters.tolist(), past.answers.tolist(), strict=True):
            if not blind[i, v]:
                cosine = float(queries[i] @ past.vectors[v])
                sums[a] += np.exp(sharpness * (cosine - 1)) / floor
        assert got[i] == pytest.approx(0.7 * np.log(1 + sums), rel=1e-9)
    assert (got[:, -1] == 0).all()  # an answer without a past


def test_every_parameter_learns():
    queries, past = case(1)
    memory = Memory().double()
    memory(queries, past, ANSWERS).sum().backward()
    assert all(parameter.grad.abs() > 0 for parameter in memory.parameters())


def test_the_past_of_some_answers_gives_them_the_votes_they_had_among_all():
    queries, past = case(2)
    blind = torch.rand(4, 7) < 0.3
    places = np.array([3, 0, 4])
    memory = Memory().double()
    some, voters = past.among(places, ANSWERS)
    got = memory(queries, some, len(places), blind[:, voters])
    torch.testing.assert_close(got, memory(queries, past, ANSWERS, blind)[:, places])
