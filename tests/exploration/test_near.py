import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tests.exploration.conftest import unit
from twinrank.exploration import near
from twinrank.exploration.near import BINS, RELATIONS, kinship, nearest


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(near, "ROWS_A_BLOCK", 3)


def test_nearest_are_those_of_a_full_sort():
    rng = np.random.default_rng(0)
    points, others = unit(rng.normal(size=(10, 4))), unit(rng.normal(size=(7, 4)))
    found, cosines = nearest(points, others, 3)
    products = points @ others.T
    assert (found == np.argsort(-products, axis=1)[:, :3]).all()
    np.testing.assert_allclose(cosines, -np.sort(-products, axis=1)[:, :3], rtol=1e-6)


def test_those_of_ones_own_code_do_not_count():
    points = unit(np.ones((4, 3)))
    codes = np.array([0, 0, 1, 1])
    found, cosines = nearest(points, points, 2, apart=(codes, codes))
    assert [set(row) for row in found.tolist()] == [{2, 3}, {2, 3}, {0, 1}, {0, 1}]
    np.testing.assert_allclose(cosines, 1, rtol=1e-6)
    _, cosines = nearest(points, points, 4, apart=(codes, codes))
    assert np.isneginf(cosines[:, 2:]).all()


@pytest.mark.parametrize(("n", "v"), [(0, 3), (3, 0), (2, 1)])
def test_fewer_than_asked(n, v):
    points, others = np.zeros((n, 2), np.float32), np.zeros((v, 2), np.float32)
    found, cosines = nearest(points, others, 5)
    assert found.shape == cosines.shape == (n, min(v, 5))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_kinship_counts_every_pair_once_as_a_double_loop_does(n, seed):
    rng = np.random.default_rng(seed)
    points = unit(rng.normal(size=(n, 3)) + 1e-3)
    labels = (rng.random((n, 4)) < 0.4).astype(np.float32)
    types, threads = rng.integers(0, 2, n), rng.integers(0, max(n // 2, 1), n)
    found = kinship(points, sparse.csr_array(labels), types, threads)

    expected = {name: [] for name in RELATIONS}
    for i, j in itertools.combinations(range(n), 2):
        answer = "same answer" if (labels[i] * labels[j]).any() else "other answer"
        kind = "same type" if types[i] == types[j] else "other type"
        name = "same thread" if threads[i] == threads[j] else f"{answer}, {kind}"
        expected[name].append(float(points[i] @ points[j]))
    assert found.counts.sum() == n * (n - 1) // 2
    for name, counts, mean in zip(RELATIONS, found.counts, found.means, strict=True):
        assert counts.sum() == len(expected[name])
        assert counts.shape == (BINS,)
        if expected[name]:
            assert mean == pytest.approx(np.mean(expected[name]), abs=1e-5)
        else:
            assert np.isnan(mean)
    pairs, same = found.agreement()
    assert pairs.sum() == sum(map(len, expected.values())) - len(expected["same thread"])
    assert same.sum() == sum(len(expected[name]) for name in RELATIONS[1:3])
