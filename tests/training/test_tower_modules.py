import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import logsumexp
from torch.nn import functional

from twinrank.ranking import Passages, pool_passages
from twinrank.training.tower_modules import (
    Dropout,
    Memory,
    Past,
    Projection,
    Towers,
    pool_over_passages,
)

ANSWERS = 5
SIDES = st.fixed_dictionaries({name: st.booleans() for name in ("dual", "base", "memory")})


def perturbed(kind, seed, **sides):
    """Towers in eval mode whose weights and running statistics are all random."""
    torch.manual_seed(seed)
    base = sides.pop("base", False)
    towers = Towers(kind, 12, **sides)
    if base:
        towers.stand_on(Towers(kind, 12))
    with torch.no_grad():
        for name, tensor in towers.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.3, 3)
            elif tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn(tensor.shape))
    return towers.eval()


def case(seed, n=4, p=7, d=3):
    """Unit vectors; each past query votes for one or two answers, and none for the last."""
    rng = np.random.default_rng(seed)
    queries, past = (torch.as_tensor(rng.normal(size=(k, d))) for k in (n, p))
    votes = [(i, j) for i in range(p) for j in rng.choice(ANSWERS - 1, 1 + i % 2, replace=False)]
    voters, answers = (torch.tensor(column) for column in zip(*votes, strict=True))
    unit = functional.normalize
    return unit(queries, dim=1), Past(unit(past, dim=1), voters, answers)


@given(st.sampled_from(["projection", "residual", "none"]), SIDES, st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_frozen_towers_compute_what_the_modules_compute(kind, sides, seed):
    sides["memory"] &= kind == "residual"  # it takes unit vectors
    towers = perturbed(kind, seed, **sides)
    towers.add_offsets(3)
    towers.add_projector(4)
    features = torch.randn(9, 12)
    frozen = towers.freeze()
    with torch.no_grad():
        queries, answers = towers.query(features), towers.answer(features)
        towers.log_scale.add_(1)  # the frozen towers are copies
    projected = frozen.project_queries(features.numpy()), frozen.project_answers(features.numpy())
    for got, expected in zip(projected, (queries, answers), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert frozen.scale == pytest.approx(towers.scale.item() / np.e, rel=1e-5)
    assert frozen.project_answers(np.empty((0, 12), np.float32)).shape == (0, 12)
    if towers.memory:
        voters, labelled = torch.arange(9), torch.arange(9) % 3
        with torch.no_grad():
            votes = towers.memory(queries, Past(queries, voters, labelled), 4)
        labels = sparse.csr_array((np.ones(9, np.float32), (voters, labelled)), shape=(9, 4))
        got = frozen.vote(projected[0], projected[0], labels)
        np.testing.assert_allclose(got, votes.numpy(), rtol=1e-3, atol=1e-4)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.sampled_from([1.0, 300.0]))
@settings(deadline=None, max_examples=30)
def test_an_answer_scores_the_logsumexp_of_its_passages(counts, spread):
    owner = np.repeat(np.arange(len(counts)), counts)
    scores = np.random.default_rng(sum(counts)).normal(size=(3, len(owner))) * spread
    table = torch.tensor(scores, requires_grad=True)
    got = pool_over_passages(table, torch.as_tensor(owner), len(counts))
    parts = torch.split(table, counts, dim=1)
    expected = np.stack([logsumexp(part.detach(), axis=1) for part in parts], axis=1)
    np.testing.assert_allclose(got.detach(), expected)
    np.testing.assert_allclose(pool_passages(scores, owner, len(counts)), expected)
    weights = torch.rand(3, len(counts), dtype=torch.double)
    (slope,) = torch.autograd.grad((weights * got).sum(), table)
    naive = torch.stack([part.logsumexp(dim=1) for part in parts], dim=1)
    torch.testing.assert_close(slope, torch.autograd.grad((weights * naive).sum(), table)[0])


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_the_memory_is_the_formula_a_vote_at_a_time(seed):
    queries, past = case(seed)
    blind = torch.as_tensor(np.random.default_rng(seed).random((4, 7)) < 0.3)
    memory = Memory().double()
    sharpness, floor = memory.log_sharpness.exp().item(), memory.log_floor.exp().item()
    with torch.no_grad():
        memory.weight.fill_(0.7)
    got = memory(queries, past, ANSWERS, blind)
    for i in range(4):
        sums = np.zeros(ANSWERS)
        for v, a in zip(past.voters.tolist(), past.answers.tolist(), strict=True):
            if not blind[i, v]:
                cosine = float(queries[i] @ past.vectors[v])
                sums[a] += np.exp(sharpness * (cosine - 1)) / floor
        assert got[i].tolist() == pytest.approx((0.7 * np.log(1 + sums)).tolist(), rel=1e-9)
    assert (got[:, -1] == 0).all()  # an answer without a past
    places = np.array([3, 0, 4])
    some, voters = past.among(places, ANSWERS)
    torch.testing.assert_close(memory(queries, some, 3, blind[:, voters]), got[:, places])
    got.sum().backward()
    assert all(parameter.grad is not None for parameter in memory.parameters())


def test_residual_starts_as_the_untrained_encoder():
    features = torch.randn(5, 16) * 3
    residual, none = Towers("residual", 16).eval(), Towers("none", 16).eval()
    torch.testing.assert_close(residual.query(features), none.query(features))
    torch.testing.assert_close(residual.scale, none.scale)
    torch.testing.assert_close(none.query(features).norm(dim=1), torch.ones(5))
    projection = Towers("projection", 16)
    assert projection.scale.item() == 1.0 and not projection.log_scale.requires_grad


def test_projection_equals_the_formula_in_eval_mode():
    head = Projection(6, 0.5).double()
    head(torch.randn(50, 6, dtype=torch.float64) * 2 + 1)  # moves the running statistics
    head.eval()
    x = torch.randn(4, 6, dtype=torch.float64)
    first, norm, _, _, last, norm2 = head

    def standardised(y, bn):
        return (y - bn.running_mean) / (bn.running_var + bn.eps).sqrt() * bn.weight + bn.bias

    hidden = functional.relu(standardised(x @ first.weight.T + first.bias, norm))
    expected = standardised(hidden @ last.weight.T + last.bias, norm2)
    torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.999])
def test_dropout_drops_its_share_keeps_the_mean_and_follows_the_seed(p):
    torch.manual_seed(0)
    x = torch.ones(500, 400, requires_grad=True)
    layer = Dropout(p).train()
    y = layer(x)
    assert len(y.detach().unique()) <= 2
    dropped = (y == 0).double()
    assert dropped.mean().item() == pytest.approx(p, abs=1 / 512 + 4 * (0.25 / x.numel()) ** 0.5)
    assert y.mean().item() == pytest.approx(1, abs=0.05 if p < 0.99 else 0.5)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert torch.equal(layer.eval()(x), x)
    layer.train()
    assert p == 0 or not torch.equal(layer(x), y)
    torch.manual_seed(0)
    assert torch.equal(layer(x), y)


@pytest.mark.parametrize("owner", [None, np.array([0, 0, 1])])
def test_an_offset_moves_every_passage_of_its_answer(owner):
    towers = Towers("residual", 4)
    passages = Passages(torch.randn(3, 4), owner, 3 if owner is None else 2)
    towers.add_offsets(passages.answers)
    torch.testing.assert_close(towers.add_offsets_to(passages).rows, passages.rows)
    with torch.no_grad():
        towers.offsets[1] += 1
    moved = [0, 1, 0] if owner is None else [0, 0, 1]
    expected = passages.rows + torch.tensor(moved)[:, None]
    torch.testing.assert_close(towers.add_offsets_to(passages).rows, expected)
