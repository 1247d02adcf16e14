import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from twinrank.training import barlow_twins, cross_entropy


def test_one_right_answer_is_torchs_cross_entropy():
    scores = torch.randn(7, 11, dtype=torch.float64)
    target = torch.randint(11, (7,))
    right = functional.one_hot(target, 11).bool()
    expected = functional.cross_entropy(scores, target, reduction="none")
    torch.testing.assert_close(cross_entropy(scores, right), expected)


def test_several_right_answers_count_by_their_mass_together():
    scores = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    right = torch.tensor([[True, False, True, False]])
    assert cross_entropy(scores, right).item() == pytest.approx(torch.tensor(2.0).log().item())


def test_all_answers_right_costs_nothing():
    scores = torch.randn(3, 5)
    loss = cross_entropy(scores, torch.ones(3, 5, dtype=torch.bool))
    torch.testing.assert_close(loss, torch.zeros(3))


def test_gradient():
    scores = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    right = torch.rand(4, 6) < 0.4
    right[:, 0] = True
    assert torch.autograd.gradcheck(lambda s: cross_entropy(s, right), scores)


def test_huge_scores_stay_finite():
    scores = torch.tensor([[1e4, -1e4, 0.0]])
    right = torch.tensor([[False, True, False]])
    assert cross_entropy(scores, right).item() == pytest.approx(2e4)


def test_a_column_with_a_weight_counts_as_if_it_were_there_as_often():
    scores = torch.randn(3, 4, dtype=torch.float64)
    right = torch.tensor([[True, False, False, False]] * 3)
    weights = torch.tensor([1.0, 3.0, 1.0, 2.0], dtype=torch.float64)
    often = torch.tensor([0, 1, 1, 1, 2, 3, 3])
    got = cross_entropy(scores, right, weights=weights)
    expected = cross_entropy(scores[:, often], right[:, often])
    torch.testing.assert_close(got, expected)


def barlow_in_numpy(f, g, off_diagonal, around=None):
    """The paper's equations 1 and 2, entry by entry, in float64."""
    (n, d), (of, og) = f.shape, around or (f, g)
    loss = 0.0
    for i in range(d):
        for j in range(d):
            a = (f[:, i] - of[:, i].mean()) / of[:, i].std()
            b = (g[:, j] - og[:, j].mean()) / og[:, j].std()
            c = (a * b).sum() / n
            loss += (1 - c) ** 2 if i == j else off_diagonal * c**2
    return loss


def views(n=12, d=5, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [torch.as_tensor(scale * rng.normal(size=(n, d)) + 3) for _ in range(2)]


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


def test_barlow_twins_gradient():
    f, g = (view.requires_grad_() for view in views())
    assert torch.autograd.gradcheck(barlow_twins, (f, g))


@given(st.floats(0.1, 100), st.floats(-100, 100), st.integers(0, 100))
def test_barlow_twins_minds_neither_scale_nor_place_nor_order(scale, shift, seed):
    f, g = views(seed=seed)
    order = torch.randperm(len(f))
    moved = barlow_twins(scale * f[order] + shift, g[order])
    assert moved.item() == pytest.approx(barlow_twins(f, g).item())
    assert barlow_twins(g, f).item() == pytest.approx(barlow_twins(f, g).item())


def test_equal_views_cost_their_redundancy_alone():
    f, _ = views(200, 2)
    c = np.corrcoef(f.numpy().T)[0, 1]
    assert barlow_twins(f, f).item() == pytest.approx(2 * 5e-3 * c**2)


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
    crossed = [(g[:, 0] - g[:, 0].mean()) / g[:, 0].std(correction=0)]
    others = (f[:, 1:] - f[:, 1:].mean(0)) / f[:, 1:].std(0, correction=0)
    crossed = 5e-3 * ((others.T @ crossed[0] / len(f)) ** 2).sum().item()
    assert loss.item() == pytest.approx(rest + 1 + crossed, rel=1e-3)


def test_lightlys_correlations_are_smaller_by_the_sample_deviation():
    """Its loss, written from its definition: deviations over n - 1, c over n."""
    f, g = views(9, 4)
    n, d = f.shape
    c = ((f - f.mean(0)) / f.std(0)).T @ ((g - g.mean(0)) / g.std(0)) / n
    ours = np.array([[np.corrcoef(f[:, i], g[:, j])[0, 1] for j in range(d)] for i in range(d)])
    np.testing.assert_allclose(c.numpy(), ours * (n - 1) / n)
    lambdas = np.where(np.eye(d) > 0, 1, 5e-3)
    expected = (lambdas * (ours - np.eye(d)) ** 2).sum()
    assert barlow_twins(f, g).item() == pytest.approx(expected)


def test_two_pairs_are_the_fewest():
    f, g = views(2)
    assert torch.isfinite(barlow_twins(f, g))
    with pytest.raises(ValueError, match="1 pair in a Barlow Twins batch"):
        barlow_twins(f[:1], g[:1])


def test_cross_entropy_is_torchs():
    scores = torch.randn(6, 9, dtype=torch.double)
    right = torch.randint(9, (6,))
    got = cross_entropy(scores, functional.one_hot(right, 9) > 0)
    torch.testing.assert_close(got, functional.cross_entropy(scores, right, reduction="none"))
