"""Against a real Milvus server, over gRPC: what Milvus Lite in this process cannot show."""

import os
import threading

import pytest

from tests.milvus import server
from tests.ranking.test_answer_index import DIM, MINE, SLOW, answers, begun, built
from twinrank.errors import AnswerIndexError
from twinrank.ranking.answer_index import MilvusPlace, check_index
from twinrank.ranking.milvus_index import MilvusIndex

COUNTS = [2] * 60
KEYS, VECTORS = answers(COUNTS)


@pytest.fixture(scope="module")
def address():
    with server() as address:
        yield address


@pytest.fixture
def place(address, request):
    """A name of this test's own."""
    return MilvusPlace(uri=address, name=f"{request.node.name}_{os.getpid()}")


def test_settings_reach_the_server(place):
    with pytest.raises(AnswerIndexError, match="not enough"):
        MilvusIndex.create(place.model_copy(update={"replicas": 2}), MINE, dim=DIM)
    asked = place.model_copy(update={"shards": 2, "consistency": "Strong"})
    built(asked, MINE, COUNTS[:50])
    assert built(asked, MINE, COUNTS)[0] >= 10
    index = MilvusIndex.open(asked, MINE)
    assert index._client.describe_collection(index.collection)["num_shards"] == 2
    results = index.search(VECTORS.rows[::2], 1)  # Strong: what was added is there at once
    assert [result[0] for result in results] == KEYS.tolist()


def test_made_anew_while_it_is_searched_and_killed_on_the_way(place):
    """No search fails, or finds anything but all answers, before, during and after."""
    built(place, MINE, COUNTS)
    with Searching(place) as searching:
        worker = begun(SLOW, place)
        for _ in range(2):
            assert worker.stdout.readline() == "batch\n"
        worker.kill()
        worker.wait()
        built(place, MINE, COUNTS, fresh=True)
        searching.go_on(50)
    collections = searching.index._client.list_collections()
    assert len([name for name in collections if name.startswith(f"{place.name}_")]) == 1
    assert searching.wrong == []
    check_index(MilvusIndex.open(place, MINE), KEYS, VECTORS)


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
                if result[0] != KEYS[i] or set(result) != set(KEYS.tolist()):
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
