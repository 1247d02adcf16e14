"""Against a real Milvus server, over gRPC: what Milvus Lite in this process cannot show."""

import os

import pytest

from tests.ranking.test_answer_index import DIM, MINE, answers, built
from twinrank.errors import AnswerIndexError
from twinrank.ranking.answer_index import MilvusPlace
from twinrank.ranking.milvus_index import MilvusIndex

COUNTS = [2] * 60
ADDRESS = os.environ.get("TWINRANK_MILVUS", "")


@pytest.mark.skipif(not ADDRESS, reason="no Milvus server: set TWINRANK_MILVUS to its address")
def test_settings_reach_the_server():
    place = MilvusPlace(uri=ADDRESS, name=f"settings_{os.getpid()}")
    with pytest.raises(AnswerIndexError, match="not enough"):
        MilvusIndex.create(place.model_copy(update={"replicas": 2}), MINE, dim=DIM)
    asked = place.model_copy(update={"shards": 2, "consistency": "Strong"})
    built(asked, MINE, COUNTS[:50])
    assert built(asked, MINE, COUNTS)[0] >= 10
    index = MilvusIndex.open(asked, MINE)
    assert index._client.describe_collection(index.collection)["num_shards"] == 2
    keys, vectors = answers(COUNTS)
    results = index.search(vectors.rows[::2], 1)  # Strong: what was added is there at once
    assert [result[0] for result in results] == keys.tolist()
    built(asked, MINE, COUNTS, fresh=True)  # which the open index follows
    assert index.search(vectors.rows[:1], 1)[0] == [keys[0]]
