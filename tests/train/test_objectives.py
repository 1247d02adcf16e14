import pytest
import torch
from torch.nn import functional

from twinrank.train import cross_entropy


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
