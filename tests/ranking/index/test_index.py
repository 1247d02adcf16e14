"""What every room of the index has in common."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ranking.index.conftest import DIM, answers, assert_found, best_products, milvus
from twinrank.ranking import among
from twinrank.ranking.index import LocalIndex
from twinrank.ranking.index.interface import checksums

COUNTS = st.lists(st.integers(1, 5), min_size=1, max_size=30)
QUERIES = np.random.default_rng(7).standard_normal((3, DIM)).astype(np.float32)
HERE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "save", "open"]), st.sets(st.integers(0, 11))),
    max_size=12,
)


def put(index, counts, places=None, seed=0):
    ids, passages = answers(counts, seed)
    places = np.arange(len(ids)) if places is None else np.array(sorted(places), np.int64)
    index.add([ids[place] for place in places], among(passages, places))
    return ids, passages


@settings(max_examples=40, **HERE)
@given(counts=COUNTS, k=st.integers(1, 40))
def test_a_folder_finds_what_a_search_over_all_finds(tmp_path, counts, k):
    index = LocalIndex(tmp_path, "flat", "mine", DIM)
    ids, passages = put(index, counts)
    for query, found in zip(QUERIES, index.search(QUERIES, k), strict=True):
        assert_found(found, best_products(ids, passages, query), k)


@settings(max_examples=4, **HERE)
@given(counts=COUNTS, k=st.integers(1, 40))
def test_milvus_finds_what_a_search_over_all_finds(tmp_path, counts, k):
    index = milvus(tmp_path / "answers.db")
    ids, passages = put(index, counts)
    for query, found in zip(QUERIES, index.search(QUERIES, k), strict=True):
        assert_found(found, best_products(ids, passages, query), k)


def test_an_answer_with_many_good_passages_takes_one_place(room):
    make, _ = room
    index = make()
    ids, passages = answers([1, 200, 1])
    query = passages.rows[passages.owner == 1].mean(axis=0)
    passages.rows[passages.owner == 1] = query / np.linalg.norm(query)
    index.add(ids, passages)
    (found,) = index.search(query[None], 3)
    assert_found(found, best_products(ids, passages, query), 3)


@settings(max_examples=60, **HERE)
@given(steps=STEPS)
def test_whatever_came_and_went_a_folder_is_as_a_fresh_one(tmp_path, steps):
    counts = [1 + i % 3 for i in range(12)]
    index = LocalIndex(tmp_path, "flat", "mine", DIM)
    index.save()
    expected = set()
    for step, places in steps:
        if step == "add":
            put(index, counts, places)
            expected |= places
        elif step == "remove":
            index.remove([f"a{place}" for place in places])
            expected -= places
        else:
            index.save()
            index = LocalIndex.open(tmp_path) if step == "open" else index
    same_as_fresh(index, counts, expected)


def test_whatever_came_and_went_milvus_is_as_a_fresh_one(tmp_path):
    counts = [1 + i % 3 for i in range(12)]
    index = milvus(tmp_path / "answers.db")
    put(index, counts, range(8))
    index.remove(["a1", "a5", "nobody"])
    index.save()
    put(index, counts, {5, 6, 9})
    index.remove(["a9"])
    same_as_fresh(index, counts, {0, 2, 3, 4, 5, 6, 7})


def same_as_fresh(index, counts, places):
    ids, passages = answers(counts)
    places = np.array(sorted(places), np.int64)
    ids, passages = [ids[place] for place in places], among(passages, places)
    assert len(index) == len(passages.rows)
    assert index.held() == checksums(ids, passages)
    for query, found in zip(QUERIES, index.search(QUERIES, 12), strict=True):
        assert_found(found, best_products(ids, passages, query), 12)


def test_vectors_are_read_back_as_they_were(room):
    make, reopen = room
    index = make()
    _, passages = put(index, [2, 1, 3])
    index.save()
    index.close()
    index = reopen()
    assert (index.fingerprint, index.dim, len(index)) == ("mine", DIM, 6)
    last, none, first = index.read(["a2", "nobody", "a0"])
    np.testing.assert_array_equal(last, passages.rows[3:])
    np.testing.assert_array_equal(first, passages.rows[:2])
    assert none.shape == (0, DIM)


def test_an_empty_index_finds_nothing(room):
    make, reopen = room
    make().save()
    index = reopen()
    assert len(index) == 0
    assert index.held() == {}
    assert [found.answers for found in index.search(QUERIES, 3)] == [[], [], []]


@pytest.mark.parametrize("change", ["a vector", "its number", "one less"])
def test_checksums_tell_vectors_apart(change):
    ids, passages = answers([3, 2])
    rows = passages.rows.copy()
    if change == "one less":
        other = passages.of(rows)
        other = among(other, np.array([0, 1]))
        other = type(other)(rows[[0, 1, 3, 4]], np.array([0, 0, 1, 1]), 2)
    else:
        rows[:2] = rows[[1, 0]] if change == "its number" else rows[:2] * 0.5
        other = passages.of(rows)
    before, after = checksums(ids, passages), checksums(ids, other)
    assert before["a0"] != after["a0"]
    assert before["a1"] == after["a1"]
