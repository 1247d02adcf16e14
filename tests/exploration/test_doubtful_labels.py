import numpy as np
import pytest

from tests.exploration.conftest import sample_of
from twinrank.exploration.doubtful_labels import (
    MIN_ODDS,
    find_doubtful_labels,
    measure_by_swapping,
)

ANSWERS = 6


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


def test_a_wrong_label_comes_first_and_its_rival_is_the_right_answer():
    doubts = find_doubtful_labels(clusters(wrong=(5, 40)))
    assert doubts["doubted"].sum() == 2
    rivals = dict(doubts.select("query", "rival").head(2).iter_rows())
    assert rivals == {5: 5 // 12, 40: 40 // 12}
    assert (doubts["odds"].head(2) >= MIN_ODDS).all()
    assert doubts["odds"].is_sorted(descending=True)


def test_without_wrong_labels_none_is_doubted_and_shares_are_shares():
    doubts = find_doubtful_labels(clusters())
    assert doubts.height == ANSWERS * 12
    assert not doubts["doubted"].any()
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
    test = measure_by_swapping(clusters(size=100, noise=0.05))
    assert test is not None
    assert test.swapped >= 20
    assert test.detected > 0.7  # a wrong label of another query may vouch for it
    assert test.others_doubted < 0.01


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("label", [0, 1])
def test_few_labels_or_none(n, label):
    sample = sample_of(np.ones((n, 2)), np.full((n, 1), label), np.ones((1, 2)))
    assert find_doubtful_labels(sample).height == n * label
    assert measure_by_swapping(sample) is None
