"""Against a real Milvus server, over gRPC: what Milvus Lite in this process cannot show."""

import os
import threading

import numpy as np
import pytest

from tests.milvus import server
from tests.ranking.test_answer_index import DIM, MINE, answers, begun, built, chosen
from twinrank.errors import AnswerIndexError
from twinrank.ranking.answer_index import check_index
from twinrank.ranking.index_place import MilvusPlace
from twinrank.ranking.milvus_index import MilvusIndex

COUNTS = [2] * 60
IDS, VECTORS = answers(COUNTS)


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


def test_settings_reach_the_server(place, caplog):
    with pytest.raises(AnswerIndexError, match=r"2 replicas takes query nodes.*fewer"):
        MilvusIndex.create(place.model_copy(update={"replicas": 2}), MINE, dim=DIM)
    asked = place.model_copy(update={"shards": 2, "replicas": 1, "consistency": "Strong"})
    built(asked, MINE, COUNTS[:50])
    index = MilvusIndex.open(asked, MINE)
    about = index._client.describe_collection(index.collection)
    assert (about["num_shards"], len(index._client.describe_replica(index.collection))) == (2, 1)
    index.add(*chosen(COUNTS, range(50, 60)))
    results = index.search(VECTORS.rows[100:], 1)  # Strong: what was added is there at once
    assert [result.answers[0] for result in results] == np.repeat(IDS[50:], 2).tolist()
    assert not caplog.records
    other = place.model_copy(update={"shards": 3})
    MilvusIndex.open(other, MINE)
    fix = f"has shards=2; to have 3, make it anew: twinrank index RANKER --to '{other}' --fresh"
    assert fix in caplog.text


def test_made_anew_while_it_is_searched_and_killed_on_the_way(place):
    """No search fails, or finds anything but all answers, before, during and after."""
    built(place, MINE, COUNTS)
    with Searching(place) as searching:
        worker = begun(SLOW, place)
        for _ in range(2):
            assert worker.stdout.readline() == "batch\n"
        worker.kill()
        worker.wait()
        added, _ = built(place, MINE, COUNTS, fresh=True)
        assert 0 < added <= 40  # it went on from what was there
        searching.go_on(50)
    collections = searching.index._client.list_collections()
    names = [name for name in collections if name.startswith(f"{place.name}_")]
    assert names == [f"{place.name}_{MINE[:12]}_2"]
    assert searching.wrong == []
    check_index(MilvusIndex.open(place, MINE), IDS, VECTORS, sample=60)


class Searching(threading.Thread):
    """Searches by an index that was opened once, all the time."""

    def __init__(self, place):
        super().__init__()
        self.index = MilvusIndex.open(place, MINE)
        self.wrong, self.searches, self.over = [], 0, False

    def run(self):
        while not self.over:
            i = self.searches % 60
            try:
                (result,) = self.index.search(VECTORS.rows[[2 * i]], 60)
                if result.answers[0] != IDS[i] or set(result.answers) != set(IDS):
                    self.wrong.append(result)
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
from tests.ranking.test_answer_index import *
from twinrank.ranking import answer_index
answer_index.VECTORS_A_BATCH = 20
add = MilvusIndex.add
def slowly(self, ids, passages):
    add(self, ids, passages)
    print("batch", flush=True)
    time.sleep(0.3)
MilvusIndex.add = slowly
built(sys.argv[1], MINE, [2] * 60, fresh=True)
"""
