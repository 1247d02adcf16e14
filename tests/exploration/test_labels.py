import numpy as np
import pytest

from tests.exploration.conftest import made
from twinrank.exploration.labels import DOUBTED, check_by_planting, doubtful_labels

ANSWERS = 6


def clusters(each=12, wrong=(), *, seed=0, noise=0.15, pairs=True):
    """Answers at right angles, their queries around them, two to a thread; some labelled wrong."""
    rng = np.random.default_rng(seed)
    centres = np.eye(ANSWERS)
    right = np.repeat(np.arange(ANSWERS), each)
    points = centres[right] + rng.normal(size=(len(right), ANSWERS)) * noise
    given = right.copy()
    for row in wrong:
        given[row] = (right[row] + 1) % ANSWERS
    labels = np.eye(ANSWERS)[given]
    threads = [f"t{i // 2 if pairs else i}" for i in range(len(right))]
    return made(points, labels, centres, threads=threads)


def test_a_wrong_label_comes_first_and_its_rival_is_the_right_answer():
    found = doubtful_labels(clusters(wrong=(5, 40)))
    assert set(found["query"].head(2)) == {5, 40}
    assert found["doubted"].sum() == 2
    rivals = dict(found.select("query", "rival").head(2).iter_rows())
    assert rivals == {5: 5 // 12, 40: 40 // 12}
    assert (found["odds"].head(2) >= DOUBTED).all()
    assert found["odds"].is_sorted(descending=True)


def test_without_wrong_labels_none_is_doubted_and_shares_are_shares():
    found = doubtful_labels(clusters())
    assert found.height == ANSWERS * 12
    assert not found["doubted"].any()
    assert found["own"].is_between(0, 1).all() and found["rivals"].is_between(0, 1).all()
    assert (found["own"] + found["rivals"] <= 1 + 1e-6).all()


def test_a_query_is_blind_to_its_own_thread():
    """Two wrong labels of one thread do not vouch for each other."""
    apart, together = clusters(wrong=(4, 5), pairs=False), clusters(wrong=(4, 5))
    own = [doubtful_labels(sample).filter(query=4)["own"].item() for sample in (apart, together)]
    assert own[1] < own[0]


def test_one_of_several_right_answers_is_not_the_rival_of_another():
    points = np.eye(3)[[0, 0, 0, 1, 1, 1]]
    labels = [[1, 1, 0]] * 3 + [[0, 1, 0]] * 3
    found = doubtful_labels(made(points, labels, np.eye(3)))
    assert found.filter(query=0)["rival"].to_list() == [2, 2]


def test_swapped_labels_are_found():
    check = check_by_planting(clusters(each=100, noise=0.05))
    assert check is not None
    assert check.planted >= 20
    assert check.found > 0.7  # a wrong label of another query may vouch for it
    assert check.others < 0.01


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_labels_or_none(n):
    sample = made(np.ones((n, 2)), np.ones((n, 1)), np.ones((1, 2)))
    assert doubtful_labels(sample).height == n
    assert check_by_planting(sample) is None
    unlabelled = made(np.ones((n, 2)), np.zeros((n, 1)), np.ones((1, 2)))
    assert doubtful_labels(unlabelled).is_empty()
    assert check_by_planting(unlabelled) is None
