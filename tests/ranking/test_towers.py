import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from twinrank.ranking import Passages, Towers
from twinrank.ranking.layers import BatchNorm, Dropout
from twinrank.ranking.towers import Projection, _UnitSum


def test_residual_starts_as_the_untrained_encoder():
    features = torch.randn(5, 16) * 3
    residual, none = Towers("residual", 16).eval(), Towers("none", 16).eval()
    torch.testing.assert_close(residual.query(features), none.query(features))
    torch.testing.assert_close(residual.scale, none.scale)


@pytest.mark.parametrize("kind", ["residual", "none"])
def test_unit_vectors(kind):
    towers = Towers(kind, 16, dual=True)
    for parameter in towers.parameters():
        nn.init.normal_(parameter)
    for project in (towers.query, towers.answer):
        lengths = project(torch.randn(9, 16)).norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones(9))


def test_projection_is_the_handovers_head():
    kinds = [type(layer) for layer in Projection(8, 0.11)]
    assert kinds == [nn.Linear, BatchNorm, nn.ReLU, Dropout, nn.Linear, BatchNorm]


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


def test_single_shares_its_tower_and_dual_does_not():
    x = torch.randn(3, 8)
    single, dual = Towers("projection", 8).eval(), Towers("projection", 8, dual=True).eval()
    torch.testing.assert_close(single.query(x), single.answer(x))
    assert not torch.allclose(dual.query(x), dual.answer(x))
    assert sum(p.numel() for p in dual.parameters()) > 1.9 * sum(
        p.numel() for p in single.parameters()
    )


def test_scores_are_scaled_dot_products():
    towers = Towers("none", 4)
    q, a = torch.randn(2, 4), torch.randn(3, 4)
    torch.testing.assert_close(towers.scores(q, a), 20.0 * q @ a.T)


def test_a_projections_scale_is_one_and_stays():
    towers = Towers("projection", 4)
    assert towers.scale.item() == 1.0
    assert not towers.log_scale.requires_grad


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(500, 400, requires_grad=True)
    layer = Dropout(p).train()
    y = layer(x)
    values = y.detach().unique()
    assert len(values) <= 2
    dropped = (y == 0).double().mean().item()
    assert dropped == pytest.approx(p, abs=1 / 512 + 4 * (0.25 / x.numel()) ** 0.5)
    assert y.mean().item() == pytest.approx(1, abs=0.05 if p < 0.99 else 0.5)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert torch.equal(layer.eval()(x), x)


def test_dropout_draws_anew_and_by_the_seed():
    layer, x = Dropout(0.5).train(), torch.ones(7, 9)
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_dropout_is_independent_between_places():
    torch.manual_seed(0)
    drawn = (Dropout(0.5).train()(torch.ones(4000, 16)) == 0).double()
    correlation = torch.corrcoef(drawn.T) - torch.eye(16)
    assert correlation.abs().max() < 5 / 4000**0.5


@pytest.mark.parametrize("owner", [None, np.array([0, 0, 1])])
def test_an_offset_moves_every_passage_of_its_answer(owner):
    towers = Towers("residual", 4)
    passages = Passages(torch.randn(3, 4), owner, 3 if owner is None else 2)
    assert towers.shifted(passages) is passages
    towers.take_offsets(passages.answers)
    torch.testing.assert_close(towers.shifted(passages).rows, passages.rows)
    with torch.no_grad():
        towers.offsets[1] += 1
    moved = [0, 1, 0] if owner is None else [0, 0, 1]
    expected = passages.rows + torch.tensor(moved)[:, None]
    torch.testing.assert_close(towers.shifted(passages).rows, expected)
    towers.take_offsets(None)
    assert towers.shifted(passages) is passages


def test_a_corrected_vector_and_its_slopes_are_those_of_normalize():
    torch.manual_seed(0)
    x, y = (torch.randn(5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = nn.functional.normalize(x + y, dim=-1)
    assert torch.equal(_UnitSum.apply(x, y), expected)
    assert torch.autograd.gradcheck(_UnitSum.apply, (x, y))
