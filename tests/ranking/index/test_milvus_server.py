"""Against a real Milvus server, over gRPC: what Milvus Lite in this process cannot show."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.milvus import server
from tests.ranking.index.conftest import DIM, answers
from twinrank.errors import AnswerIndexError
from twinrank.ranking import among
from twinrank.ranking.index import MilvusIndex, MilvusPlace, build_index, check, open_index
from twinrank.ranking.index.milvus_versions import Versions

IDS, VECTORS = answers([2] * 60)


@pytest.fixture(scope="module")
def address():
    with server() as address:
        yield address


@pytest.fixture
def place(address, request):
    """A name of this test's own, whose collections go with it."""
    place = MilvusPlace(uri=address, name=f"{request.node.name}_{os.getpid()}")
    yield place
    from pymilvus import MilvusClient

    client = MilvusClient(address)
    for name in client.list_collections():
        if name.startswith(place.name):
            for alias in client.list_aliases(name)["aliases"]:
                client.drop_alias(alias)
            client.drop_collection(name)
    client.close()


def built(place, home, **how):
    how = {"fingerprint": "mine", "ids": IDS, "vectors": VECTORS} | how
    return build_index(str(place), home=home, **how)


def test_settings_reach_the_server(place, tmp_path, caplog):
    with pytest.raises(AnswerIndexError, match=r"2 replicas takes query nodes.*fewer"):
        MilvusIndex.create(place.model_copy(update={"replicas": 2}), "mine", dim=DIM)
    asked = place.model_copy(update={"shards": 2, "replicas": 1, "consistency": "Strong"})
    built(asked, tmp_path, ids=IDS[:50], vectors=among(VECTORS, np.arange(50)))
    index = open_index(str(asked), home=tmp_path, fingerprint="mine")
    about = index._client.describe_collection(index.collection)
    assert (about["num_shards"], len(index._client.describe_replica(index.collection))) == (2, 1)
    index.add(IDS[50:], among(VECTORS, np.arange(50, 60)))
    found = index.search(VECTORS.rows[100:], 1)  # Strong: what was added is there at once
    assert [some.answers[0] for some in found] == np.repeat(IDS[50:], 2).tolist()
    assert not caplog.records
    other = place.model_copy(update={"shards": 3})
    open_index(str(other), home=tmp_path, fingerprint="mine")
    assert (
        f"has shards=2; to have 3, make it anew: twinrank index RANKER --to '{other}' --fresh"
        in (caplog.text)
    )


def test_made_anew_while_it_is_searched_and_killed_on_the_way(place, tmp_path):
    """No search fails, or finds anything but all answers, before, during and after."""
    built(place, tmp_path)
    versions = Versions(open_index(str(place), home=tmp_path, fingerprint="mine")._client, place)
    first = versions.target(place.name)
    with Searching(place, tmp_path) as searching:
        worker = subprocess.Popen(
            [sys.executable, "-c", SLOW, str(place), str(tmp_path)], stdout=subprocess.PIPE
        )
        for _ in range(2):
            assert worker.stdout.readline() == b"batch\n"
        worker.kill()
        worker.wait()
        assert versions.target(place.name) == versions.target(versions.alias("mine")) == first
        assert len(versions.unfinished("mine")) == 1
        indexed = built(place, tmp_path, fresh=True)
        assert 0 < indexed.added <= 40  # it went on from what was there
        searching.go_on(50)
    assert versions.target(place.name) == f"{place.name}_mine_2"
    assert versions.target(first) is None
    assert searching.wrong == []
    check(open_index(str(place), home=tmp_path, fingerprint="mine"), IDS, VECTORS, sample=60)


class Searching(threading.Thread):
    """Searches by an index that was opened once, all the time."""

    def __init__(self, place, home):
        super().__init__()
        self.index = open_index(str(place), home=home, fingerprint="mine")
        self.wrong, self.searches, self.over = [], 0, False

    def run(self):
        while not self.over:
            i = self.searches % 60
            try:
                (found,) = self.index.search(VECTORS.rows[[2 * i]], 60)
                if found.answers[0] != IDS[i] or set(found.answers) != set(IDS):
                    self.wrong.append(found)
            except AnswerIndexError as error:
                self.wrong.append(error)
            self.searches += 1

    def go_on(self, searches):
        ends = self.searches + searches
        while self.searches < ends:
            self.join(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.join()


SLOW = """
import sys, time
from pathlib import Path
from tests.ranking.index.test_milvus_server import IDS, VECTORS
from twinrank.ranking.index import MilvusIndex, build

def slowly(add):
    def added(self, ids, passages):
        add(self, ids, passages)
        print("batch", flush=True)
        time.sleep(0.3)
    return added

build.AT_ONCE = 20
MilvusIndex.add = slowly(MilvusIndex.add)
build.build_index(
    sys.argv[1], home=Path(sys.argv[2]), fingerprint="mine", ids=IDS, vectors=VECTORS, fresh=True
)
"""
