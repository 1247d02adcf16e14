"""The answer index in Milvus: a file here (Milvus Lite), a server, or a cluster.

Of the name `twinrank` and a ranker whose fingerprint begins with 3f9a0c12be77 there are

    twinrank_3f9a0c12be77_4     a collection; the numbers of one name rise
    twinrank_3f9a0c12be77       an alias, once that is whole: the ranker searches by it

Milvus moves an alias at once, so a search finds all of one collection, and never parts of two.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from twinrank.errors import AnswerIndexError
from twinrank.ranking.answer_index import DIGITS, Keys, MilvusPlace, group_hits, no_index
from twinrank.ranking.reader import Passages

if TYPE_CHECKING:
    from pymilvus import MilvusClient

TOKEN = "MILVUS_TOKEN"  # noqa: S105 (the name of the variable)
MAX_HITS = 16_384  # vectors that Milvus gives at once
MAX_LISTED_KEYS = 2_000  # in a filter expression, if it can be done without
ROWS_A_CALL = 1_000  # vectors, or queries
CONNECT_S, CALL_S = 10.0, 120.0
DRAIN_S = 1.0  # for searches under way, before their collection is dropped
# They log what they raise, over many lines; the last two belong to Milvus Lite.
LOGGERS = ("pymilvus", "pymilvus.milvus_client", "milvus_lite", "grpc._server")


class MilvusIndex:
    """A collection with one entity a passage; see `AnswerIndex` for the methods.

    A file is searched exactly (`FLAT`), by one process at a time; a server chooses its own index
    (`AUTOINDEX`: approximate). A search waits for as many of the writes before it as the place's
    consistency says, anything else for all. Grouping is exact among a query's best 16,384 vectors;
    Milvus gives no more.

    `alias` is the name by which its ranker searches, once it is published.
    """

    def __init__(
        self, client: MilvusClient, place: MilvusPlace, collection: str, alias: str
    ) -> None:
        self.place, self.collection, self.alias = place, collection, alias
        self._client = client

    @classmethod
    def open(cls, place: MilvusPlace, fingerprint: str) -> MilvusIndex:
        """Open the collection that was published for a ranker."""
        if place.is_file and not Path(place.uri).exists():
            raise no_index(place, ())
        client, alias = _connect(place), f"{place.name}_{fingerprint[:DIGITS]}"
        with _milvus_errors(place):
            if client.has_collection(alias, timeout=CALL_S):
                _load(client, place, alias)
                return cls(client, place, alias, alias)
            others = [name for name in _collections(client, place) if _aliases(client, name)]
        raise no_index(place, others)

    @classmethod
    def create(cls, place: MilvusPlace, fingerprint: str, *, dim: int) -> MilvusIndex:
        """Make an empty collection of vectors `dim` wide, which nobody searches yet.

        What a kill left of others that were not published is removed.
        """
        from pymilvus import DataType, MilvusClient

        if place.is_file:
            Path(place.uri).parent.mkdir(parents=True, exist_ok=True)
        client, alias = _connect(place), f"{place.name}_{fingerprint[:DIGITS]}"
        schema = MilvusClient.create_schema(auto_id=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("answer", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        with _milvus_errors(place):
            names = _collections(client, place)
            number = _number(names[-1]) + 1 if names else 1
            for name in names:
                if not _aliases(client, name):
                    client.drop_collection(name, timeout=CALL_S)
            collection = f"{alias}_{number}"
            client.create_collection(
                collection,
                schema=schema,
                num_shards=place.shards,
                consistency_level="Strong",  # of all that names no other
                timeout=CALL_S,
            )  # with an index at once it would be loaded, in one replica
            client.create_index(collection, _search_settings(place), timeout=CALL_S)
            _load(client, place, collection)
        return cls(client, place, collection, alias)

    def add(self, keys: Keys, passages: Passages[np.ndarray]) -> None:
        """See `AnswerIndex.add`."""
        owners, rows = keys[passages.owners].tolist(), np.asarray(passages.rows, np.float32)
        pairs = zip(owners, rows, strict=True)
        entities = [{"answer": owner, "vector": row} for owner, row in pairs]
        with _milvus_errors(self.place):
            for batch in _batches(entities):
                self._client.insert(self.collection, batch, timeout=CALL_S)

    def remove(self, keys: Keys) -> None:
        """See `AnswerIndex.remove`."""
        with _milvus_errors(self.place):
            for batch in _batches(keys.tolist()):
                self._client.delete(self.collection, filter=f"answer in {batch}", timeout=CALL_S)

    def search(
        self, queries: Float[np.ndarray, "n d"], k: int, keys: Keys | None = None
    ) -> list[list[int]]:
        """See `AnswerIndex.search`.

        A filter expression lists keys: metadata that Milvus stored would be a copy that could
        differ from the ranker's. To read a long list takes longer than the search, so that many
        keys are first looked for among the best vectors of all.
        """
        if keys is None:
            return group_hits(self._search, queries, k, limit=MAX_HITS)
        if len(keys) == 0:
            return [[] for _ in queries]
        listed = keys.tolist()
        if len(listed) > MAX_LISTED_KEYS:
            results = group_hits(self._search, queries, k, limit=MAX_HITS, allowed=set(listed))
            if all(len(answers) == min(k, len(listed)) for answers in results):
                return results
        search = partial(self._search, expression=f"answer in {listed}")
        return group_hits(search, queries, k, limit=MAX_HITS)

    def counts(self, keys: Keys | None = None) -> dict[int, int]:
        """See `AnswerIndex.counts`."""
        counts: Counter[int] = Counter()
        with _milvus_errors(self.place):
            pages = self._client.query_iterator(
                self.collection,
                batch_size=MAX_HITS,
                filter="" if keys is None else f"answer in {keys.tolist()}",
                output_fields=["answer"],
                timeout=CALL_S,
            )
            while page := pages.next():
                counts.update(entity["answer"] for entity in page)
            pages.close()
        return dict(counts)

    def __len__(self) -> int:
        """Return the number of vectors."""
        with _milvus_errors(self.place):
            (row,) = self._client.query(
                self.collection, filter="", output_fields=["count(*)"], timeout=CALL_S
            )
        return int(row["count(*)"])

    def settle(self) -> None:
        """See `AnswerIndex.settle`; a server finds less while vectors are not indexed."""
        with _milvus_errors(self.place):
            self._client.flush(self.collection, timeout=CALL_S)
            if not self.place.is_file:  # the same index again: pymilvus waits until it is whole
                settings = _search_settings(self.place)
                self._client.create_index(self.collection, settings, timeout=CALL_S)

    def publish(self) -> None:
        """See `AnswerIndex.publish`; the same call may be made again after a kill.

        The newest collection of another ranker stays, for those that still use it and to go back
        to; older ones go, and those of the same ranker.
        """
        client, alias = self._client, self.alias
        with _milvus_errors(self.place):
            exists = client.has_collection(alias, timeout=CALL_S)
            if self.collection != alias:
                point = client.alter_alias if exists else client.create_alias
                point(self.collection, alias, timeout=CALL_S)
            new = client.describe_alias(alias, timeout=CALL_S)["collection_name"]
            self.collection = alias
            names = _collections(client, self.place)
            others = [name for name in names if not name.startswith(f"{alias}_")]
            old = set(names) - {new, *others[-1:]}
            if old and not self.place.is_file:
                time.sleep(DRAIN_S)
            for name in sorted(old):
                for gone in _aliases(client, name):
                    client.drop_alias(gone, timeout=CALL_S)  # servers drop none that has one
                client.drop_collection(name, timeout=CALL_S)

    def _search(
        self, queries: Float[np.ndarray, "n d"], depth: int, expression: str = ""
    ) -> list[list[int]]:
        hits: list[list[int]] = []
        with _milvus_errors(self.place):
            for batch in _batches(np.asarray(queries, np.float32)):
                results = self._client.search(
                    self.collection,
                    data=batch,
                    filter=expression,
                    limit=depth,
                    output_fields=["answer"],
                    consistency_level=self.place.consistency,
                    timeout=CALL_S,
                )
                hits += [[hit["entity"]["answer"] for hit in row] for row in results]
        return hits


def _batches(rows: Any) -> Iterator[Any]:  # noqa: ANN401 (a list or an array)
    return (rows[start : start + ROWS_A_CALL] for start in range(0, len(rows), ROWS_A_CALL))


def _number(collection: str) -> int:
    return int(collection.rpartition("_")[2])


def _collections(client: MilvusClient, place: MilvusPlace) -> list[str]:
    """Return the collections of a place's name, of all rankers, the newest last."""
    form = re.compile(rf"{re.escape(place.name)}_[0-9a-f]{{{DIGITS}}}_\d+")
    return sorted(filter(form.fullmatch, client.list_collections(timeout=CALL_S)), key=_number)


def _aliases(client: MilvusClient, collection: str) -> list[str]:
    """Return a collection's aliases; one without was never published."""
    return list(client.list_aliases(collection, timeout=CALL_S)["aliases"])


def _search_settings(place: MilvusPlace) -> Any:  # noqa: ANN401 (pymilvus has it untyped)
    """Search a file exactly, and a server as it chooses."""
    from pymilvus import MilvusClient

    settings = MilvusClient.prepare_index_params()
    kind = "FLAT" if place.is_file else "AUTOINDEX"
    settings.add_index("vector", index_type=kind, metric_type="IP")
    return settings


def _connect(place: MilvusPlace) -> MilvusClient:
    from pymilvus import MilvusClient

    for name in LOGGERS[: None if place.is_file else 2]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Milvus Lite takes pings as often as pymilvus sends them for an attack, and hangs up.
    rarely = {"grpc_options": {"grpc.keepalive_time_ms": 600_000}} if place.is_file else {}
    with _milvus_errors(place):
        token = os.environ.get(TOKEN, "")
        return MilvusClient(place.uri, token=token, timeout=CONNECT_S, **rarely)


def _load(client: MilvusClient, place: MilvusPlace, collection: str) -> None:
    """Have a collection in memory, to be searched; one that is there keeps its replicas."""
    from pymilvus.client.types import LoadState

    if client.get_load_state(collection, timeout=CALL_S)["state"] != LoadState.Loaded:
        client.load_collection(collection, replica_number=place.replicas, timeout=CALL_S)


@contextmanager
def _milvus_errors(place: MilvusPlace) -> Iterator[None]:
    """Report an error of Milvus in a line, with its place and a fix."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        fix = "check the URI, that it runs, and $" + TOKEN
        if place.is_file:
            fix = "another process may have it open, or it is damaged: then make it anew"
        line = " ".join(str(error.message).split())
        raise AnswerIndexError(f"{place.where}: {line}; {fix}") from None
