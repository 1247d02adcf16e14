import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tests.exploration.conftest import sample_of, unit
from twinrank.exploration import neighbours
from twinrank.exploration.neighbours import (
    count_overlap,
    find_answer_twins,
    find_query_twins,
    nearest,
)
from twinrank.exploration.relations import RELATIONS, relate_pairs

TURNS = np.array([0, 5, 10, 90, 95, 180])  # degrees: within 25 is nearer than .9


@pytest.mark.parametrize(("n", "v"), [(10, 7), (0, 3), (3, 0), (2, 1)])
def test_nearest_are_those_of_a_full_sort(n, v, monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS_PER_BLOCK", 3)
    rng = np.random.default_rng(0)
    points, others = (rng.normal(size=(count, 4)) for count in (n, v))
    points, others = unit(points), unit(others)
    columns, cosines = nearest(points, others, 3)
    products = points @ others.T
    assert (columns == np.argsort(-products, axis=1)[:, :3]).all()
    np.testing.assert_allclose(cosines, -np.sort(-products, axis=1)[:, :3], rtol=1e-6)


def test_others_of_an_equal_code_do_not_count():
    points, codes = unit(np.ones((4, 3))), np.array([0, 0, 1, 1])
    columns, cosines = nearest(points, points, 4, apart=(codes, codes))
    assert [set(row) for row in columns[:, :2].tolist()] == [{2, 3}, {2, 3}, {0, 1}, {0, 1}]
    np.testing.assert_allclose(cosines[:, :2], 1, rtol=1e-6)
    assert np.isneginf(cosines[:, 2:]).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_every_pair_is_related_once_as_a_double_loop_does_it(n, seed):
    rng = np.random.default_rng(seed)
    points = unit(rng.normal(size=(n, 3)) + 1e-3)
    labels = (rng.random((n, 4)) < 0.4).astype(np.float32)
    types, threads = rng.integers(0, 2, n), rng.integers(0, max(n // 2, 1), n)
    pairs = relate_pairs(points, sparse.csr_array(labels), types, threads)
    assert pairs.height == n * (n - 1) // 2
    for (i, j), row in zip(
        itertools.combinations(range(n), 2), pairs.iter_rows(named=True), strict=True
    ):
        shared = (labels[i] * labels[j]).any()
        answer = "same answer" if shared else "other answer"
        kind = "same type" if types[i] == types[j] else "other type"
        expected = RELATIONS[0] if threads[i] == threads[j] else f"{answer}, {kind}"
        assert (row["relation"], row["shared"]) == (expected, shared)
        assert row["cosine"] == pytest.approx(points[i] @ points[j], abs=1e-5)


@pytest.fixture
def sample():
    angles = np.radians(TURNS)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = [[1, 0], [1, 0], [0, 1], [1, 0], [0, 0], [0, 1]]
    splits = ["train", "test", "test", "train", None, "validation"]
    return sample_of(points, labels, points[:2], splits=splits)


def test_pairs_of_queries_are_listed_once_the_nearest_first(sample):
    twins = find_query_twins(sample)
    assert twins["cosine"].is_sorted(descending=True)
    cosine = twins.filter(first=0, second=2)["cosine"].item()
    assert cosine == pytest.approx(np.cos(np.radians(10)))
    rows = twins.select("first", "second", "labelled", "agree").rows()
    assert {(a, b): (labelled, agree) for a, b, labelled, agree in rows} == {
        (0, 1): (True, True),
        (1, 2): (True, False),
        (0, 2): (True, False),
        (3, 4): (False, False),
    }


def test_a_thread_has_no_twins_in_itself(sample):
    alike = sample_of(
        sample.points, sample.labels.toarray(), sample.answer_points, threads=["one"] * 6
    )
    assert find_query_twins(alike).is_empty()


def test_overlap_counts_queries_with_a_twin_in_train(sample):
    assert count_overlap(sample, find_query_twins(sample)) == {
        "validation": {"queries": 1, "twins": 0, "agree": 0},
        "test": {"queries": 2, "twins": 2, "agree": 1},
    }


def test_answers_show_how_many_words_they_share(sample):
    twins = find_answer_twins(sample)
    assert twins.select("first", "second").rows() == [(0, 1)]
    assert twins["words"].item() == pytest.approx(2 / 4)  # a0 a1 text of


def test_nothing_is_a_twin_of_nothing():
    empty = sample_of(np.zeros((0, 2)), np.zeros((0, 1)), np.ones((1, 2)))
    assert find_query_twins(empty).is_empty()
    assert count_overlap(empty, find_query_twins(empty)) == {}
    assert find_answer_twins(empty).is_empty()
