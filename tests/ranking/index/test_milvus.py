import subprocess
import sys

import numpy as np
import pytest

from tests.ranking.index.conftest import DIM, answers, milvus
from twinrank.errors import AnswerIndexError, NoAnswerIndexError
from twinrank.ranking.index import MilvusIndex, MilvusPlace
from twinrank.ranking.index.milvus_place import shown

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


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "answers.db")


def opened(to, fingerprint="mine"):
    return MilvusIndex.open(MilvusPlace.of(to), fingerprint)


def test_an_id_may_hold_anything(file):
    index = milvus(file)
    _, passages = answers([1] * len(ODD))
    index.add(ODD, passages)
    assert set(index.held()) == set(ODD)
    for row, id_ in enumerate(ODD):
        assert index.search(passages.rows[[row]], 1)[0].answers == [id_]
        np.testing.assert_array_equal(index.read([id_])[0], passages.rows[[row]])
    index.remove(ODD[:5])
    assert set(index.held()) == set(ODD[5:])


def test_adding_the_same_again_changes_nothing(file):
    index = milvus(file)
    ids, passages = answers([2, 3])
    for _ in range(3):
        index.add(ids, passages)
    assert len(index) == 5


def test_two_collections_share_a_file(file):
    milvus(f"{file}#one").add(*answers([1]))
    milvus(f"{file}#two", "other").add(*answers([1, 1]))
    assert len(opened(f"{file}#one")) == 1
    assert opened(f"{file}#two").fingerprint == "other"


def test_what_is_not_there_is_not_made_by_looking(tmp_path, file):
    with pytest.raises(NoAnswerIndexError, match=r"answers\.db: not there; make it"):
        opened(file)
    assert not list(tmp_path.iterdir())
    milvus(file)
    with pytest.raises(NoAnswerIndexError, match=r"no collection 'two'.*answers\.db#two"):
        opened(f"{file}#two")


def test_somebody_elses_collection_is_left_alone(file):
    from pymilvus import MilvusClient

    MilvusClient(file).create_collection("twinrank", dimension=DIM)
    with pytest.raises(AnswerIndexError, match="was not made by twinrank; name another"):
        opened(file)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:1", "ftp://127.0.0.1", "http://me:secret@127.0.0.1:1"]
)
def test_a_server_that_does_not_answer_is_one_line_without_secrets(uri):
    with pytest.raises(AnswerIndexError) as error:
        opened(uri)
    assert str(error.value).startswith(shown(uri))
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_kill_left_half_of_the_search_files_is_made_anew(tmp_path, file):
    """A process of its own, since Milvus Lite keeps what this one has open."""
    subprocess.run([sys.executable, "-c", FILL, file], check=True)
    (half,) = tmp_path.rglob("*.idx")
    half.write_bytes(half.read_bytes()[:200])
    index = opened(file)
    ids, passages = answers([2] * 20)
    assert len(index) == 40
    assert index.search(passages.rows[:1], 1)[0].answers == ids[:1]


FILL = """
import sys
from tests.ranking.index.conftest import answers, milvus
index = milvus(sys.argv[1])
index.add(*answers([2] * 20))
index.save()
"""


def test_a_file_that_another_process_has_open_is_one_line(file):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, file],
        stdin=subprocess.PIPE,  # a pipe of our own: a suite run with none would let it go at once
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(
            AnswerIndexError, match=r"^.*answers\.db: .*another process may have it"
        ):
            opened(file)
    finally:
        holder.kill()
        holder.wait()


HOLD = """
import sys
from tests.ranking.index.conftest import milvus
milvus(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""
