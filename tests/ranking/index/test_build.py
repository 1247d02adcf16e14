import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from tests.ranking.index.conftest import answers
from twinrank.errors import AnswerIndexError, NoAnswerIndexError, TwinrankError
from twinrank.ranking import Passages, among
from twinrank.ranking.index import (
    MilvusPlace,
    build,
    build_index,
    check,
    local,
    make_index,
    open_index,
    place,
    place_of,
)

COUNTS = [1 + i % 3 for i in range(60)]


@pytest.fixture(params=["local", "answers.db"])
def to(request, tmp_path):
    return request.param if request.param == "local" else str(tmp_path / request.param)


def built(tmp_path, to, counts=COUNTS, *, seed=0, fingerprint="mine", fresh=False):
    ids, vectors = answers(counts, seed)
    return build_index(
        to, home=tmp_path, fingerprint=fingerprint, ids=ids, vectors=vectors, fresh=fresh
    )


def test_what_is_built_is_there_and_is_built_once(tmp_path, to):
    first, again = built(tmp_path, to), built(tmp_path, to)
    assert (first.answers, first.added, first.removed, first.compared) == (60, 60, 0, sum(COUNTS))
    assert (again.vectors, again.added, again.removed) == (sum(COUNTS), 0, 0)
    check(open_index(to, home=tmp_path, fingerprint="mine"), *answers(COUNTS))


def test_only_what_changed_is_done_again(tmp_path, to):
    built(tmp_path, to)
    ids, vectors = answers(COUNTS)
    rows = vectors.rows.copy()
    rows[vectors.owner == 5] *= 0.5  # another text
    vectors, ids = among(vectors.of(rows), np.arange(3, 60)), ids[3:]
    again = build_index(to, home=tmp_path, fingerprint="mine", ids=ids, vectors=vectors)
    assert (again.answers, again.added, again.removed) == (57, 1, 4)
    check(open_index(to, home=tmp_path, fingerprint="mine"), ids, vectors, sample=57)


def test_another_rankers_index_is_refused_until_told(tmp_path, to):
    built(tmp_path, to)
    with pytest.raises(AnswerIndexError, match=r"^.*index of another ranker .*--fresh$"):
        built(tmp_path, to, fingerprint="yours")
    with pytest.raises(AnswerIndexError, match="index of another ranker"):
        open_index(to, home=tmp_path, fingerprint="yours")
    assert built(tmp_path, to, [2, 2], fingerprint="yours", fresh=True).vectors == 4
    check(open_index(to, home=tmp_path, fingerprint="yours"), *answers([2, 2]))


def test_what_differs_from_the_ranker_is_told(tmp_path, to):
    built(tmp_path, to)
    index = open_index(to, home=tmp_path, fingerprint="mine")
    ids, vectors = answers(COUNTS)
    with pytest.raises(AnswerIndexError, match=r"holds 120 vectors, the ranker has 117;.*date"):
        check(index, ids[:-1], among(vectors, np.arange(59)))
    with pytest.raises(AnswerIndexError, match=r"holds other vectors than the ranker;.*date"):
        check(index, *answers(COUNTS, seed=1))


def test_a_folder_of_many_vectors_is_a_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "EXACT_UP_TO", 100)
    assert place.EXACT_UP_TO != local.EXACT_UP_TO
    made = {"home": tmp_path, "fingerprint": "mine", "dim": 8}
    assert make_index("local", **made, vectors=100).kind == "flat"
    assert make_index("local", **made, vectors=101).kind == "hnsw"


def test_where_is_told_by_one_rule(tmp_path):
    found = {
        "local": tmp_path / "index",
        "some/where?#": place.Path("some/where?#"),
        "a.db": MilvusPlace(uri="a.db"),
        "b/a.db#mine": MilvusPlace(uri="b/a.db", name="mine"),
        "http://host:19530": MilvusPlace(uri="http://host:19530"),
        "https://host?shards=3#mine": MilvusPlace(uri="https://host", shards=3, name="mine"),
    }
    assert {to: place_of(to, tmp_path) for to in found} == found


@pytest.mark.parametrize(("to", "extra"), [("local", "index"), ("a.db", "milvus")])
def test_what_to_install_is_said(to, extra, tmp_path, monkeypatch):
    monkeypatch.setattr("twinrank.extras.find_spec", lambda name: None)
    with pytest.raises(TwinrankError, match=rf"pip install 'twinrank\[{extra}\]'"):
        open_index(to, home=tmp_path, fingerprint="mine")


def test_killed_in_the_middle_it_goes_on(tmp_path, to):
    """kill -9 after three batches of six, and again a batch later; then it is finished."""
    for batches in (3, 1):
        command = [sys.executable, "-c", SLOW, to, str(tmp_path)]
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for batch in range(batches):
            if batch:
                worker.stdin.write("go on\n")
            assert worker.stdout.readline() == "batch\n"
        worker.kill()
        worker.wait()
    ids, vectors = answers([2] * 60)
    indexed = build_index(to, home=tmp_path, fingerprint="mine", ids=ids, vectors=vectors)
    assert 0 < indexed.added <= 60 - 4 * 10 + 10
    assert indexed.removed <= 10  # a batch that was cut
    check(open_index(to, home=tmp_path, fingerprint="mine"), ids, vectors, sample=60)


SLOW = """
import sys
from pathlib import Path
from tests.ranking.index.conftest import answers
from twinrank.ranking.index import LocalIndex, MilvusIndex, build

def slowly(add):
    def added(self, ids, passages):
        add(self, ids, passages)
        if type(self) is LocalIndex:
            self.save()
        print("batch", flush=True)
        input()
    return added

build.AT_ONCE = 20
for room in (LocalIndex, MilvusIndex):
    room.add = slowly(room.add)
ids, vectors = answers([2] * 60)
build.build_index(sys.argv[1], home=Path(sys.argv[2]), fingerprint="mine", ids=ids, vectors=vectors)
"""


def test_work_is_saved_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "AT_ONCE", 20)
    monkeypatch.setattr(build, "SAVED_EVERY_S", 0)
    saves = []
    save = local.LocalIndex.save
    monkeypatch.setattr(local.LocalIndex, "save", lambda self: (saves.append(1), save(self)))
    ids, _ = answers([1] * 60)
    rows = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    build_index(
        "local", home=tmp_path, fingerprint="mine", ids=ids, vectors=Passages(rows, None, 60)
    )
    assert len(saves) == 3 + 2  # each batch; all; and what had changed since


def test_what_changed_while_it_was_made_is_done_before_it_is_published(tmp_path, to):
    (ids, vectors), order = answers(COUNTS), []

    @contextmanager
    def last():
        order.append("locked")
        with pytest.raises(NoAnswerIndexError):
            open_index(to, home=tmp_path, fingerprint="mine")
        yield ids[3:], among(vectors, np.arange(3, 60))
        order.append("free")

    before = among(vectors, np.arange(50))
    how = {"home": tmp_path, "fingerprint": "mine", "ids": ids[:50], "vectors": before}
    indexed = build_index(to, **how, last=last)
    assert order == ["locked", "free"]
    assert (indexed.answers, indexed.added, indexed.removed) == (57, 60, 3)
    index = open_index(to, home=tmp_path, fingerprint="mine")
    check(index, ids[3:], among(vectors, np.arange(3, 60)), sample=57)
