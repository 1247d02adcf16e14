from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from twinrank.training.losses import barlow_twins, cross_entropy, flat_loss


def test_one_right_answer_is_torchs_cross_entropy():
    scores = torch.randn(7, 11, dtype=torch.float64)
    target = torch.randint(11, (7,))
    right = functional.one_hot(target, 11).bool()
    expected = functional.cross_entropy(scores, target, reduction="none")
    torch.testing.assert_close(cross_entropy(scores, right), expected)


@pytest.mark.parametrize(
    ("scores", "right", "expected"),
    [
        ([[0.0, 0.0, 0.0, 0.0]], [[1, 0, 1, 0]], np.log(2)),  # several count by their mass together
        ([[3.0, -1.0]], [[1, 1]], 0.0),
        ([[1e4, -1e4, 0.0]], [[0, 1, 0]], 2e4),
    ],
)
def test_cross_entropy_is_the_mass_on_right_answers(scores, right, expected):
    loss = cross_entropy(torch.tensor(scores), torch.tensor(right) > 0)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_gradients():
    scores = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    right = torch.rand(4, 6) < 0.4
    right[:, 0] = True
    assert torch.autograd.gradcheck(lambda s: cross_entropy(s, right), scores)
    assert torch.autograd.gradcheck(barlow_twins, [v.requires_grad_() for v in views()])


def test_a_column_with_a_weight_counts_as_if_it_were_there_as_often():
    scores = torch.randn(3, 4, dtype=torch.float64)
    right = torch.tensor([[True, False, False, False]] * 3)
    weights = torch.tensor([1.0, 3.0, 1.0, 2.0], dtype=torch.float64)
    often = torch.tensor([0, 1, 1, 1, 2, 3, 3])
    loss = cross_entropy(scores, right, weights=weights)
    torch.testing.assert_close(loss, cross_entropy(scores[:, often], right[:, often]))


def barlow_in_numpy(f, g, off_diagonal, around=None):
    """The paper's equations 1 and 2, entry by entry, in float64."""
    (n, d), (around_f, around_g) = f.shape, around or (f, g)
    loss = 0.0
    for i in range(d):
        for j in range(d):
            a = (f[:, i] - around_f[:, i].mean()) / around_f[:, i].std()
            b = (g[:, j] - around_g[:, j].mean()) / around_g[:, j].std()
            c = (a * b).sum() / n
            loss += (1 - c) ** 2 if i == j else off_diagonal * c**2
    return loss


def views(n=12, d=5, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.as_tensor(rng.normal(size=(n, d)) + 3) for _ in range(2)]


@given(
    st.integers(2, 20), st.integers(1, 6), st.integers(0, 1000), st.sampled_from([0.0, 5e-3, 1.0])
)
def test_barlow_twins_is_the_papers(n, d, seed, off_diagonal):
    f, g = views(n, d, seed)
    expected = barlow_in_numpy(f.numpy(), g.numpy(), off_diagonal)
    assert barlow_twins(f, g, off_diagonal=off_diagonal).item() == pytest.approx(expected)


def test_barlow_twins_around_the_statistics_of_others():
    (f, g), others = views(6), views(40, seed=1)
    expected = barlow_in_numpy(f.numpy(), g.numpy(), 5e-3, [o.numpy() for o in others])
    assert barlow_twins(f, g, around=tuple(others)).item() == pytest.approx(expected)


@given(st.floats(0.1, 100), st.floats(-100, 100), st.integers(0, 100))
def test_barlow_twins_depends_on_neither_scale_nor_shift_nor_order(scale, shift, seed):
    f, g = views(seed=seed)
    order = torch.randperm(len(f))
    moved = barlow_twins(scale * f[order] + shift, g[order])
    assert moved.item() == pytest.approx(barlow_twins(f, g).item())
    assert barlow_twins(g, f).item() == pytest.approx(barlow_twins(f, g).item())


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_feature_has_no_correlation_and_no_nan(constant, dtype):
    f, g = (view.to(dtype) for view in views())
    f[:, 0] = constant
    f.requires_grad_()
    loss = barlow_twins(f, g)
    loss.backward()
    assert torch.isfinite(f.grad).all()
    rest = barlow_twins(f[:, 1:], g[:, 1:]).item()
    first = (g[:, 0] - g[:, 0].mean()) / g[:, 0].std(correction=0)
    others = (f[:, 1:] - f[:, 1:].mean(0)) / f[:, 1:].std(0, correction=0)
    crossed = 5e-3 * ((others.T @ first / len(f)) ** 2).sum().item()
    assert loss.item() == pytest.approx(rest + 1 + crossed, rel=1e-3)


def test_two_pairs_are_the_fewest():
    f, g = views(2)
    assert torch.isfinite(barlow_twins(f, g))
    with pytest.raises(ValueError, match="1 pair in a Barlow Twins batch"):
        barlow_twins(f[:1], g[:1])


@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 1000), st.sampled_from([5e-3, 1.0]))
def test_over_all_matchings_the_loss_is_flat_whatever_the_features(n, d, seed, off_diagonal):
    f, g = views(n, d, seed)
    losses = [
        barlow_twins(f, g[list(order)], off_diagonal=off_diagonal).item()
        for order in permutations(range(n))
    ]
    assert np.mean(losses) == pytest.approx(flat_loss(n, d, off_diagonal))
