from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from tests.exploration.conftest import sample_of, unit
from twinrank.exploration import neighbours
from twinrank.exploration.neighbours import (
    find_doubtful_labels,
    find_query_twins,
    nearest,
)

ANSWERS = 6
TURNS = np.array([0, 5, 10, 90, 95, 180])  # degrees: within 25 is nearer than .9


@pytest.mark.parametrize(("n", "v"), [(10, 7), (0, 3), (3, 0), (2, 1)])
def test_nearest_are_those_of_a_full_sort(n, v, monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS_PER_BLOCK", 3)
    rng = np.random.default_rng(0)
    points, others = (unit(rng.normal(size=(count, 4))) for count in (n, v))
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


@pytest.mark.parametrize("threads", [None, ["one"] * 6])
def test_queries_of_different_threads_that_are_alike_are_twins(threads):
    angles = np.radians(TURNS)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = [[1, 0], [1, 0], [0, 1], [1, 0], [0, 0], [0, 1]]
    twins = find_query_twins(sample_of(points, labels, points[:2], threads=threads))
    assert twins["cosine"].is_sorted(descending=True)
    pairs = {(0, 1): (True, True), (1, 2): (True, False), (0, 2): (True, False)}
    pairs |= {(3, 4): (False, False)}
    both = {**pairs, **{(b, a): about for (a, b), about in pairs.items()}}
    rows = twins.select("row", "twin", "labelled", "agree").rows()
    assert {(a, b): about for a, b, *about in rows} == (
        {} if threads else {pair: list(about) for pair, about in both.items()}
    )


def clusters(size=12, wrong=(), *, noise=0.15, pairs=True):
    """Answers at right angles, their queries around them, two to a thread; some labelled wrong."""
    centres = np.eye(ANSWERS)
    right = np.repeat(np.arange(ANSWERS), size)
    points = centres[right] + np.random.default_rng(0).normal(size=(len(right), ANSWERS)) * noise
    given = right.copy()
    for row in wrong:
        given[row] = (right[row] + 1) % ANSWERS
    threads = [f"t{i // 2 if pairs else i}" for i in range(len(right))]
    return sample_of(points, np.eye(ANSWERS)[given], centres, threads=threads)


@pytest.mark.parametrize("wrong", [(), (5, 40)])
def test_wrong_labels_come_first_and_their_rival_is_the_right_answer(wrong):
    doubts = find_doubtful_labels(clusters(wrong=wrong))
    assert doubts.height == ANSWERS * 12
    doubted = dict(doubts.filter("doubted").select("query", "rival").iter_rows())
    assert doubted == {query: query // 12 for query in wrong}
    assert doubts["odds"].is_sorted(descending=True)
    shares = doubts["share"], doubts["rival_share"]
    assert all(share.is_between(0, 1).all() for share in shares)
    assert (shares[0] + shares[1] <= 1 + 1e-6).all()


def test_a_query_is_blind_to_its_own_thread():
    """Two wrong labels of one thread do not vouch for each other."""
    apart, together = clusters(wrong=(4, 5), pairs=False), clusters(wrong=(4, 5))
    share = [find_doubtful_labels(s).filter(query=4)["share"].item() for s in (apart, together)]
    assert share[1] < share[0]


def test_one_of_several_right_answers_is_not_the_rival_of_another():
    points = np.eye(3)[[0, 0, 0, 1, 1, 1]]
    labels = [[1, 1, 0]] * 3 + [[0, 1, 0]] * 3
    doubts = find_doubtful_labels(sample_of(points, labels, np.eye(3)))
    assert doubts.filter(query=0)["rival"].to_list() == [2, 2]


def test_swapped_labels_are_found():
    sample, rng = clusters(size=100, noise=0.05), np.random.default_rng(0)
    source = np.arange(len(sample))
    chosen = rng.permutation(len(sample))[: len(sample) // 20]
    source[chosen] = rng.choice(len(sample), len(chosen))
    shared = np.asarray(sample.labels[source].multiply(sample.labels).sum(axis=1)).ravel()
    judged = find_doubtful_labels(replace(sample, labels=sparse.csr_array(sample.labels[source])))
    is_swapped = (shared == 0)[judged["query"].to_numpy()]
    doubted = judged["doubted"].to_numpy()
    assert doubted[is_swapped].mean() > 0.4  # a wrong label of another query may vouch for it
    assert doubted[~is_swapped].mean() < 0.01
