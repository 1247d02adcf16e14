"""What is at a place while one index takes another's place: in a folder, and in Milvus."""

import numpy as np
import pytest

from tests.processes import results
from tests.ranking.index.conftest import DIM, answers
from twinrank.errors import AnswerIndexError, OtherAnswerIndexError
from twinrank.ranking import among
from twinrank.ranking.index import (
    LocalIndex,
    MilvusIndex,
    MilvusPlace,
    build_index,
    check,
    make_index,
    open_index,
)

OF = {"mine": answers([2] * 30, 1), "yours": answers([1] * 40, 2), "theirs": answers([3] * 20, 3)}


@pytest.fixture(params=["local", "answers.db"])
def to(request, tmp_path):
    return request.param if request.param == "local" else str(tmp_path / request.param)


@pytest.fixture
def built(to, tmp_path):
    def built(whose, **how):
        ids, vectors = OF[whose]
        return build_index(to, home=tmp_path, fingerprint=whose, ids=ids, vectors=vectors, **how)

    return built


@pytest.fixture
def opened(to, tmp_path):
    def opened(whose):
        index = open_index(to, home=tmp_path, fingerprint=whose)
        check(index, *OF[whose], sample=60)
        return index

    return opened


def test_another_rankers_is_made_beside_and_the_former_one_stays(built, opened):
    built("mine")
    reader = opened("mine")
    built("yours", instead=True)
    check(reader, *OF["mine"], sample=60)  # who searches goes on
    opened("mine")
    built("theirs", instead=True)
    opened("yours")
    with pytest.raises(OtherAnswerIndexError, match=r"fingerprint \w+, here mine"):
        opened("mine")
    assert built("yours", instead=True).added == 0  # back again, and nothing is to be done
    opened("theirs")


def vectors_built(home, fresh):
    ids, vectors = OF["mine"]
    told = build_index(
        "local", home=home, fingerprint="mine", ids=ids, vectors=vectors, fresh=fresh
    )
    return told.vectors


def test_ten_that_make_one_at_once_do_not_disturb_each_other(tmp_path):
    for fresh in (False, True):
        assert results(vectors_built, tmp_path, fresh) == [60] * 10
        check(open_index("local", home=tmp_path, fingerprint="mine"), *OF["mine"], sample=60)
        assert [folder.name for folder in (tmp_path / "index").iterdir()] == ["mine"]


def test_only_who_says_so_puts_it_in_anothers_place(built, opened):
    built("mine")
    with pytest.raises(OtherAnswerIndexError, match=r"put this one in its place: .*--fresh$"):
        built("yours")
    built("yours", fresh=True)
    opened("yours")


def test_what_is_made_is_not_found_before_it_is_published(to, tmp_path, built, opened):
    built("mine")
    ids, vectors = OF["yours"]
    made = {"home": tmp_path, "fingerprint": "yours", "dim": DIM, "vectors": 40}
    index = make_index(to, **made)
    index.add(ids[:10], among(vectors, np.arange(10)))
    index.save()
    with pytest.raises(OtherAnswerIndexError):
        opened("yours")
    index.add(ids[10:], among(vectors, np.arange(10, 40)))
    index.save()
    index.publish()
    opened("yours")
    opened("mine")


def test_made_anew_it_takes_the_place_when_it_is_whole(to, tmp_path, built, opened):
    built("mine")
    reader, (ids, vectors) = opened("mine"), OF["mine"]
    index = make_index(to, home=tmp_path, fingerprint="mine", dim=DIM, vectors=60)
    index.add(ids[:10], among(vectors, np.arange(10)))
    index.save()  # and it is killed
    opened("mine")
    assert built("mine", fresh=True).added == 20
    opened("mine")
    (found,) = reader.search(vectors.rows[:1], 1)  # who had the old one open
    assert found.answers == ids[:1]


def test_an_index_from_before_there_were_versions_is_read_and_gives_way(tmp_path, built, opened):
    ids, vectors = OF["mine"]
    old = LocalIndex(tmp_path / "index", "flat", "mine", DIM)
    old.add(ids, vectors)
    old.save()
    place = MilvusPlace.of(str(tmp_path / "answers.db"))
    index = MilvusIndex.create(place, "mine", dim=DIM)
    index.add(ids, vectors)
    index._client.rename_collection(index.collection, "twinrank")
    opened("mine")
    assert built("mine").added == 0
    built("yours", instead=True)
    opened("mine")
    opened("yours")


def test_somebody_elses_name_is_not_taken(tmp_path):
    from pymilvus import MilvusClient

    file = str(tmp_path / "answers.db")
    client = MilvusClient(file)
    client.create_collection("twinrank", dimension=DIM)
    with pytest.raises(AnswerIndexError, match=r"not made by twinrank; name another: --to .*#NAME"):
        MilvusIndex.create(MilvusPlace.of(file), "mine", dim=DIM)
    assert client.list_collections() == ["twinrank"]


def test_two_names_do_not_take_each_others(tmp_path):
    """The one begins as the other does."""
    names = ["a_b", "a_b_1", "a"]
    for name, whose in [*((name, "mine") for name in names), ("a", "yours"), ("a", "theirs")]:
        ids, vectors = OF[whose]
        how = {"home": tmp_path, "fingerprint": whose, "ids": ids, "vectors": vectors}
        build_index(f"{tmp_path}/answers.db#{name}", **how, instead=True)
    for name in names[:2]:
        index = open_index(f"{tmp_path}/answers.db#{name}", home=tmp_path, fingerprint="mine")
        check(index, *OF["mine"])
