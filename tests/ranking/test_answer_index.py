"""Answer indexes: FAISS in the ranker's folder, and Milvus Lite; what both have in common."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinrank.errors import (
    AnswerIndexError,
    NoAnswerIndexError,
    OtherAnswerIndexError,
    TwinrankError,
)
from twinrank.ranking import Passages, among, faiss_index
from twinrank.ranking.answer_index import answer_checksums, check_index, update_index
from twinrank.ranking.faiss_index import FaissIndex, kind_for
from twinrank.ranking.index_place import MilvusPlace, place_of
from twinrank.ranking.milvus_index import MilvusIndex

DIM = 8
MINE, YOURS, THEIRS = "a" * 32, "b" * 32, "c" * 32  # fingerprints of rankers
QUERIES = np.random.default_rng(7).standard_normal((3, DIM)).astype(np.float32)
COUNTS = st.lists(st.integers(1, 5), min_size=1, max_size=30)
HERE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def answers(counts, seed=0):
    """Passages of so many answers, and their ids."""
    rows = np.random.default_rng(seed).standard_normal((sum(counts), DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    owner = np.repeat(np.arange(len(counts)), counts)
    return [f"a{i}" for i in range(len(counts))], Passages(rows, owner, len(counts))


def chosen(counts, rows, seed=0):
    ids, passages = answers(counts, seed)
    rows = np.array(sorted(rows), np.int64)
    return [ids[row] for row in rows], among(passages, rows)


def milvus(file, fingerprint=MINE, dim=DIM):
    """An index in Milvus that was published, and is emptied if it was there before."""
    index = MilvusIndex.create(MilvusPlace.parse(str(file)), fingerprint, dim=dim)
    index.remove(index.checksums())
    index.publish()
    return index


@pytest.fixture(params=["faiss", "milvus"])
def make(request, tmp_path):
    if request.param == "faiss":
        return lambda: FaissIndex(DIM, "flat")
    return lambda: milvus(tmp_path / "answers.db")


def best_products(ids, passages, query):
    """Of each answer the best of its passages' products, in float64."""
    products = passages.rows.astype(np.float64) @ query.astype(np.float64)
    return {id_: products[passages.owner == i].max() for i, id_ in enumerate(ids)}


def assert_found(index, ids, passages, k, queries=QUERIES):
    """The k best answers by a search over all, best first, whichever of those that tie."""
    for query, found in zip(queries, index.search(queries, k), strict=True):
        expected = best_products(ids, passages, query)
        best = sorted(expected.values(), reverse=True)[:k]
        np.testing.assert_allclose(found.scores, best, atol=1e-5)
        assert len(set(found.answers)) == len(found.answers) == len(best)
        np.testing.assert_allclose([expected[id_] for id_ in found.answers], best, atol=1e-5)


@settings(max_examples=40, **HERE)
@given(counts=COUNTS, k=st.integers(1, 40))
def test_faiss_finds_what_a_search_over_all_finds(counts, k):
    index = FaissIndex(DIM, "flat")
    index.add(*answers(counts))
    assert_found(index, *answers(counts), k)


@settings(max_examples=4, **HERE)
@given(counts=COUNTS, k=st.integers(1, 40))
def test_milvus_finds_what_a_search_over_all_finds(tmp_path, counts, k):
    index = milvus(tmp_path / "answers.db")
    index.add(*answers(counts))
    assert_found(index, *answers(counts), k)


def test_an_answer_with_many_good_passages_takes_one_place(make):
    index = make()
    ids, passages = answers([1, 200, 1])
    query = passages.rows[passages.owner == 1].mean(axis=0)
    passages.rows[passages.owner == 1] = query / np.linalg.norm(query)
    index.add(ids, passages)
    assert_found(index, ids, passages, 3, query[None])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "settle", "write", "copy"]), st.sets(st.integers(0, 11))
    ),
    max_size=12,
)


@settings(max_examples=40, **HERE)
@given(steps=STEPS, many=st.sampled_from([1, 8, 8_192]))
def test_whatever_came_and_went_faiss_is_as_a_fresh_one(tmp_path, steps, many):
    counts = [1 + i % 3 for i in range(12)]
    index, expected, copies = FaissIndex(DIM, "flat"), set(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_index, "MAX_NEW_VECTORS", many)
        for number, (step, rows) in enumerate(steps):
            if step == "add":
                index.add(*chosen(counts, rows))
                expected = expected | rows
            elif step == "remove":
                index.remove([f"a{row}" for row in rows])
                expected = expected - rows
            elif step == "settle":
                index.settle()
            elif step == "copy":  # which later changes do not touch
                copies.append((index, expected))
                index = index.__copy__()
            else:
                ids = [f"a{row}" for row in sorted(expected, reverse=True)]
                file = tmp_path / f"{number}.faiss"  # one that is mapped is never written to
                index.write(file, ids)
                assert not index.unsaved
                index = FaissIndex.open(file, ids)
        for made, rows in [*copies, (index, expected)]:
            assert_as_fresh(made, counts, rows)


def test_whatever_came_and_went_milvus_is_as_a_fresh_one(tmp_path):
    counts = [1 + i % 3 for i in range(12)]
    index = milvus(tmp_path / "answers.db")
    index.add(*chosen(counts, range(8)))
    index.remove(["a1", "a5", "nobody"])
    index.save()
    for _ in range(2):  # adding the same again changes nothing
        index.add(*chosen(counts, {5, 6, 9}))
    index.remove(["a9"])
    assert_as_fresh(index, counts, {0, 2, 3, 4, 5, 6, 7})


def assert_as_fresh(index, counts, rows):
    ids, passages = chosen(counts, rows)
    assert len(index) == len(passages.rows)
    assert index.checksums() == answer_checksums(ids, passages)
    assert_found(index, ids, passages, 12)
    vectors = index.read([*ids, "nobody"])
    assert vectors.pop().shape == (0, DIM)
    np.testing.assert_array_equal(np.concatenate([passages.rows[:0], *vectors]), passages.rows)


def test_new_vectors_are_found_in_a_graph_before_and_after_they_are_put_into_it(monkeypatch):
    monkeypatch.setattr(faiss_index, "MAX_NEW_VECTORS", 25)
    index = FaissIndex(DIM, "hnsw")
    for start in range(0, 40, 5):
        index.add(*chosen([2] * 40, range(start, start + 5)))
        assert_found(index, *chosen([2] * 40, range(start + 5)), 5)


def test_a_graph_finds_nearly_all_also_when_much_was_removed(tmp_path):
    ids, passages = answers([1] * 2000, seed=1)
    index = FaissIndex(DIM, "hnsw")
    index.add(ids, passages)
    index.settle()
    queries = np.random.default_rng(3).standard_normal((20, DIM)).astype(np.float32)
    for share in (0.1, 0.5):  # removed vectors stay in the graph; then it is built again
        rest = np.arange(int(share * 2000), 2000)
        index.remove(ids[: rest[0]])
        index.write(tmp_path / "index.faiss", ids[rest[0] :])
        index = FaissIndex.open(tmp_path / "index.faiss", ids[rest[0] :])
        assert (index.kind, len(index)) == ("hnsw", len(rest))
        hits = 0
        for query, found in zip(queries, index.search(queries, 10), strict=True):
            best = rest[np.argsort(passages.rows[rest] @ query)[-10:]]
            hits += len(set(found.answers) & {ids[row] for row in best})
        assert hits >= 0.95 * 200


def test_many_vectors_are_a_graph():
    assert (kind_for(200_000), kind_for(200_001)) == ("flat", "hnsw")


def test_a_file_that_is_no_index_of_these_answers_is_refused_in_a_line(tmp_path):
    index, file = FaissIndex(DIM, "flat"), tmp_path / "index.faiss"
    index.add(*answers([2, 1]))
    index.write(file, ["a0", "a1"])
    with pytest.raises(AnswerIndexError, match=r"^.*index\.faiss: holds other answers"):
        FaissIndex.open(file, ["a0", "a1", "a2"])
    file.write_bytes(b"nothing")
    with pytest.raises(AnswerIndexError, match=rf"^{re.escape(str(file))}: .*$"):
        FaissIndex.open(file, ["a0", "a1"])


def test_only_what_changed_is_done_again(make):
    index, counts = make(), [1 + i % 3 for i in range(60)]
    ids, vectors = answers(counts)
    assert update_index(index, ids, vectors) == (60, 0)
    assert update_index(index, ids, vectors) == (0, 0)
    assert check_index(index, ids, vectors, sample=256) == len(vectors.rows)
    rows = vectors.rows.copy()
    rows[vectors.owner == 5] *= 0.5  # another text
    vectors, ids = among(vectors.of(rows), np.arange(3, 60)), ids[3:]
    with pytest.raises(AnswerIndexError, match=r"holds 120 vectors, the ranker has 114;.*date"):
        check_index(index, ids, vectors)
    assert update_index(index, ids, vectors) == (1, 4)
    check_index(index, ids, vectors, sample=57)
    index.remove(["a7"])
    index.add(*chosen(counts, {7}, seed=1))
    with pytest.raises(AnswerIndexError, match=r"holds other vectors than the ranker;.*date"):
        check_index(index, ids, vectors, sample=57)


@pytest.mark.parametrize("change", ["a vector", "its number", "one less"])
def test_checksums_tell_vectors_apart(change):
    ids, passages = answers([3, 2])
    rows = passages.rows.copy()
    if change == "one less":
        changed = Passages(rows[[0, 1, 3, 4]], np.array([0, 0, 1, 1]), 2)
    else:
        rows[:2] = rows[[1, 0]] if change == "its number" else rows[:2] * 0.5
        changed = passages.of(rows)
    before, after = answer_checksums(ids, passages), answer_checksums(ids, changed)
    assert before["a0"] != after["a0"]
    assert before["a1"] == after["a1"]


# Milvus


def opened(to, fingerprint=MINE):
    return MilvusIndex.open(MilvusPlace.parse(str(to)), fingerprint)


def built(to, fingerprint, counts, *, fresh=False):
    """As `Ranker.build_index` does it, instead of other rankers' indexes."""
    try:
        index = None if fresh else opened(to, fingerprint)
    except (NoAnswerIndexError, OtherAnswerIndexError):
        index = None
    index = index or MilvusIndex.create(MilvusPlace.parse(str(to)), fingerprint, dim=DIM)
    done = update_index(index, *answers(counts))
    check_index(index, *answers(counts))
    index.publish()
    return done


@pytest.fixture
def file(tmp_path):
    return tmp_path / "answers.db"


ODD = [
    '"',
    "\\",
    "a'b",
    "x\ny",
    "æøå",
    '"] or true or answer in ["',
    "🙂" * 50,
    " ",
    "%",
    "a" * 2000,
]


def test_an_id_may_hold_anything(file):
    index = milvus(file)
    _, passages = answers([1] * len(ODD))
    index.add(ODD, passages)
    assert set(index.checksums()) == set(ODD)
    for row, id_ in enumerate(ODD):
        assert index.search(passages.rows[[row]], 1)[0].answers == [id_]
        np.testing.assert_array_equal(index.read([id_])[0], passages.rows[[row]])
    index.remove(ODD[:5])
    assert set(index.checksums()) == set(ODD[5:])


def test_another_rankers_is_made_apart_and_the_former_one_stays(file):
    built(file, MINE, [2] * 10)
    reader = opened(file)
    with pytest.raises(OtherAnswerIndexError, match=r"index of another ranker .*--fresh$"):
        opened(file, YOURS)
    built(file, YOURS, [1] * 12)
    check_index(reader, *answers([2] * 10))  # a search goes on
    built(file, THEIRS, [3] * 8)
    check_index(opened(file, YOURS), *answers([1] * 12))
    with pytest.raises(OtherAnswerIndexError):
        opened(file)
    assert built(file, YOURS, [1] * 12) == (0, 0)  # back again, and nothing is to be done
    check_index(opened(file, THEIRS), *answers([3] * 8))


def test_made_anew_it_takes_the_place_when_it_is_whole(file):
    built(file, MINE, [2] * 30)
    reader = opened(file)
    index = MilvusIndex.create(MilvusPlace.parse(str(file)), MINE, dim=DIM)
    index.add(*chosen([2] * 30, range(10)))
    index.save()  # and it is killed
    check_index(opened(file), *answers([2] * 30))
    assert built(file, MINE, [2] * 30, fresh=True) == (20, 0)
    check_index(opened(file), *answers([2] * 30))
    assert reader.search(answers([2] * 30)[1].rows[:1], 1)[0].answers == ["a0"]
    assert len(reader._client.list_collections()) == 1


def test_names_do_not_take_each_others(file):
    for name, fingerprint in [("a_b", MINE), ("a_b_1", MINE), ("a", MINE), ("a", YOURS)]:
        built(f"{file}#{name}", fingerprint, [2] * 4)
    built(f"{file}#a", THEIRS, [2] * 4)
    for name in ("a_b", "a_b_1"):
        check_index(opened(f"{file}#{name}"), *answers([2] * 4))


def test_looking_makes_nothing(tmp_path, file):
    with pytest.raises(NoAnswerIndexError, match=r"answers\.db: not there; make it"):
        opened(file)
    assert not list(tmp_path.iterdir())
    milvus(file)
    with pytest.raises(NoAnswerIndexError, match=r"no collection 'two'.*answers\.db#two"):
        opened(f"{file}#two")


def test_somebody_elses_collection_is_left_alone(file):
    from pymilvus import MilvusClient

    client = MilvusClient(str(file))
    client.create_collection("twinrank", dimension=DIM)
    for make in (opened, milvus):
        with pytest.raises(AnswerIndexError, match=r"not made by twinrank; name another: .*#NAME"):
            make(file)
    assert client.list_collections() == ["twinrank"]


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:1", "ftp://127.0.0.1", "http://me:secret@127.0.0.1:1"]
)
def test_a_server_that_does_not_answer_is_one_line_without_secrets(uri):
    with pytest.raises(AnswerIndexError) as error:
        opened(uri)
    assert str(error.value).startswith(uri.replace("me:secret@", ""))
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(file):
    """kill -9 after three batches of six, and again a batch later; then it is finished."""
    for batches in (3, 1):
        worker = begun(SLOW, file)
        for batch in range(batches):
            if batch:
                worker.stdin.write("go on\n")
            assert worker.stdout.readline() == "batch\n"
        worker.kill()
        worker.wait()
    added, removed = built(file, MINE, [2] * 60)
    assert 0 < added <= 60 - 4 * 10 + 10
    assert removed <= 10  # a batch that was cut
    check_index(opened(file), *answers([2] * 60), sample=60)


SLOW = """
import sys
from tests.ranking.test_answer_index import *
from twinrank.ranking import answer_index
answer_index.VECTORS_A_BATCH = 20
add = MilvusIndex.add
def slowly(self, ids, passages):
    add(self, ids, passages)
    print("batch", flush=True)
    input()
MilvusIndex.add = slowly
built(sys.argv[1], MINE, [2] * 60)
"""


def begun(code, *args):
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def test_what_a_kill_left_half_of_the_search_files_is_made_anew(tmp_path, file):
    """A process of its own, since Milvus Lite keeps what this one has open."""
    code = (
        "import sys; from tests.ranking.test_answer_index import *; "
        "built(sys.argv[1], MINE, [2] * 20)"
    )
    assert begun(code, file).wait() == 0
    (half,) = tmp_path.rglob("*.idx")
    half.write_bytes(half.read_bytes()[:200])
    check_index(opened(file), *answers([2] * 20))
    assert_found(opened(file), *answers([2] * 20), 3)


def test_a_file_that_another_process_has_open_is_one_line(file):
    code = (
        "import sys; from tests.ranking.test_answer_index import *; milvus(sys.argv[1]); "
        "print('open', flush=True); sys.stdin.read()"
    )
    holder = begun(code, file)
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(AnswerIndexError, match=r"^.*answers\.db: .*another process may"):
            opened(file)
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize(("to", "extra"), [("local", "index"), ("a.db", "milvus")])
def test_what_to_install_is_said(to, extra, monkeypatch):
    monkeypatch.setattr("twinrank.extras.find_spec", lambda name: None)
    with pytest.raises(TwinrankError, match=rf"pip install 'twinrank\[{extra}\]'"):
        place_of(to)


def test_where_is_told_by_one_rule():
    assert place_of("local") is None
    for to, expected in {
        "a.db": {"uri": "a.db"},
        "b/a.db#mine": {"uri": "b/a.db", "name": "mine"},
        "http://host:19530": {"uri": "http://host:19530"},
        "https://host?shards=3#mine": {"uri": "https://host", "shards": 3, "name": "mine"},
    }.items():
        assert place_of(to) == MilvusPlace(**expected)
        assert str(place_of(to)) == to
    with pytest.raises(AnswerIndexError, match=r"^a/folder: no index; .*`local`, a file FILE\.db"):
        place_of("a/folder")


def test_settings_stand_between_the_uri_and_the_name():
    to = "https://me:secret@host:19530?shards=4&replicas=2&consistency=bounded#mine"
    place = MilvusPlace.parse(to)
    assert place.model_dump() == {
        "uri": "https://me:secret@host:19530",
        "name": "mine",
        "shards": 4,
        "replicas": 2,
        "consistency": "Bounded",
    }
    shown = "https://host:19530?shards=4&replicas=2&consistency=Bounded#mine"
    assert (str(place), place.option, place.where) == (shown, f"'{shown}'", "https://host:19530")


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ("shards=0", "shards=0: Input should be greater than 0"),
        ("replicas=", "replicas=: Input should be a valid integer"),
        ("shards=2&shards=3", "shards=2 3: Input should be a valid integer"),
        ("consistency=Sometimes", "consistency=Sometimes: Input should be 'Strong', 'Bounded'"),
        ("uri=elsewhere", "'uri' is no setting"),
    ],
)
def test_a_wrong_setting_is_one_line(settings, wrong):
    with pytest.raises(AnswerIndexError) as error:
        MilvusPlace.parse(f"http://me:secret@host:19530?{settings}")
    assert str(error.value).startswith(f"http://host:19530: {wrong}")
    assert str(error.value).endswith(
        "settings are shards=N, replicas=N and consistency=Strong, Bounded, Session or Eventually"
    )


def test_a_file_takes_no_settings_and_a_name_is_an_identifier():
    with pytest.raises(AnswerIndexError, match=r"^a\.db: a file has no shards: settings are for"):
        MilvusPlace.parse("a.db?shards=2")
    for name in ("my-answers", "1st", "æ", "a b"):
        with pytest.raises(AnswerIndexError, match=rf"^http://host: '{name}' names no collection"):
            MilvusPlace.parse(f"http://host#{name}")
