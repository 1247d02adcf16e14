import numpy as np
import polars as pl
import pytest

from tests.exploration.conftest import made
from twinrank.exploration.twins import answer_twins, overlap, query_twins

TURNS = np.array([0, 5, 10, 90, 95, 180])  # degrees: within 25 is nearer than .9


@pytest.fixture
def sample():
    angles = np.radians(TURNS)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = [[1, 0], [1, 0], [0, 1], [1, 0], [0, 0], [0, 1]]
    threads = ["a", "b", "c", "d", "e", "f"]
    splits = ["train", "test", "test", "train", None, "validation"]
    return made(points, labels, points[:2], threads=threads, splits=splits)


def test_pairs_of_queries_are_listed_once_the_nearest_first(sample):
    found = query_twins(sample)
    assert {(a, b) for a, b in found.select("one", "other").iter_rows()} == {
        (0, 1),
        (1, 2),
        (0, 2),
        (3, 4),
    }
    assert found["cosine"].is_sorted(descending=True)
    assert found.filter(one=0, other=2)["cosine"].item() == pytest.approx(np.cos(np.radians(10)))
    agree = {
        (a, b): (c, d) for a, b, c, d in found.select("one", "other", "labelled", "agree").rows()
    }
    assert agree == {
        (0, 1): (True, True),
        (1, 2): (True, False),
        (0, 2): (True, False),
        (3, 4): (False, False),
    }


def test_a_thread_has_no_twins_in_itself(sample):
    frame = sample.frame.with_columns(thread=pl.lit("one"))
    alike = made(sample.points, sample.labels.toarray(), sample.answer_points)
    alike = type(alike)(frame, *(getattr(alike, f) for f in list(alike.__dataclass_fields__)[1:]))
    assert query_twins(alike).is_empty()


def test_overlap_counts_queries_with_a_twin_in_train(sample):
    assert overlap(sample, query_twins(sample)) == {
        "validation": {"queries": 1, "twins": 0, "agree": 0},
        "test": {"queries": 2, "twins": 2, "agree": 1},
    }


def test_answers_show_how_many_words_they_share(sample):
    found = answer_twins(sample)
    assert found.select("one", "other").rows() == [(0, 1)]
    assert found["words"].item() == pytest.approx(2 / 4)  # a0 a1 text of


def test_nothing_is_a_twin_of_nothing():
    empty = made(np.zeros((0, 2)), np.zeros((0, 1)), np.ones((1, 2)))
    assert query_twins(empty).is_empty()
    assert overlap(empty, query_twins(empty)) == {}
    assert answer_twins(empty).is_empty()
