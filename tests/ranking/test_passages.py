import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from twinrank.ranking import over_passages


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.sampled_from([1.0, 300.0]))
@settings(deadline=None, max_examples=30)
def test_an_answer_scores_the_logsumexp_of_its_passages(counts, spread):
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    scores = np.random.default_rng(sum(counts)).normal(size=(3, len(owner))) * spread
    table = torch.tensor(scores, requires_grad=True)
    got = over_passages(table, owner, len(counts))
    for j in range(len(counts)):
        expected = logsumexp(scores[:, (owner == j).numpy()], axis=1)
        assert got[:, j].detach().numpy() == pytest.approx(expected)
    weights = torch.rand(3, len(counts), dtype=torch.double)
    (slope,) = torch.autograd.grad((weights * got).sum(), table)
    parts = torch.split(table, counts, dim=1)
    naive = torch.stack([part.logsumexp(dim=1) for part in parts], dim=1)
    (expected,) = torch.autograd.grad((weights * naive).sum(), table)
    torch.testing.assert_close(slope, expected)


def test_answers_of_one_row_keep_their_scores():
    scores = torch.rand(2, 3)
    assert over_passages(scores, None, 3) is scores
