"""The answer index in Milvus: a file here (Milvus Lite), a server, or a cluster.

Of the name `twinrank` and a ranker whose fingerprint begins with 3f9a0c12be77 there are

    twinrank_3f9a0c12be77_1     a collection; _2 when it is made anew
    twinrank_3f9a0c12be77       an alias, once that is whole: the ranker searches by it
    twinrank                    an alias: the collection that was published last

Milvus moves an alias at once, so a search finds all of one collection, and never parts of two.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from twinrank.errors import AnswerIndexError, NoAnswerIndexError, OtherAnswerIndexError
from twinrank.ranking.answer_index import (
    Hit,
    NearestAnswers,
    group_hits,
    owners,
    passage_checksums,
    passage_numbers,
)
from twinrank.ranking.index_place import MilvusPlace
from twinrank.ranking.passages import Passages

if TYPE_CHECKING:
    from pymilvus import MilvusClient, MilvusException

TOKEN = "MILVUS_TOKEN"  # noqa: S105 (the name of the variable)
DIGITS = 12  # of a fingerprint, in names
MAX_HITS = 16_384  # vectors that Milvus gives at once
ROWS_A_CALL = 1_000  # vectors, or queries
MIN_INDEXED_VECTORS = 1_024  # a server searches fewer without an index
CONNECT_S, CALL_S, POLL_S, STALLED_S = 10.0, 120.0, 0.2, 300.0
DRAIN_S = 1.0  # for searches under way, before their collection is dropped
# They log what they raise, over many lines; the last two belong to Milvus Lite.
LOGGERS = ("pymilvus", "pymilvus.milvus_client", "milvus_lite", "grpc._server")

log = logging.getLogger(__name__)


class MilvusIndex:
    """A collection with one entity a passage; see `AnswerIndex` for the methods.

    Its key is a digest of the answer's id, and the passage's number: adding the same again
    changes nothing, and no id ever stands in a filter. A file is searched exactly (`FLAT`), by
    one process at a time; a server chooses its own index (`AUTOINDEX`: approximate). A search
    waits for as many of the writes before it as the place's consistency says, anything else for
    all. Grouping is exact among a query's best 16,384 vectors; Milvus gives no more.

    Args:
        client: connected.
        place: of the file or server.
        collection: its name, or an alias of it.
        fingerprint: of the ranker whose vectors these are.
        dim: d.
    """

    def __init__(
        self, client: MilvusClient, place: MilvusPlace, collection: str, fingerprint: str, dim: int
    ) -> None:
        self.place, self.collection = place, collection
        self.fingerprint, self.dim = fingerprint, dim
        self._client = client
        self._unindexed = 0  # vectors that a server may not have indexed yet

    @classmethod
    def open(cls, place: MilvusPlace, fingerprint: str) -> MilvusIndex:
        """Open the collection of a ranker.

        It is searched by alias: when it is made anew, the next search finds the new one.

        Raises:
            NoAnswerIndexError: if none was published there.
            OtherAnswerIndexError: if only other rankers' were.
            AnswerIndexError: if nothing answers there, or the name is somebody else's.
        """
        command = f"twinrank index RANKER --to {place.option}"
        if place.is_file and not Path(place.uri).exists():
            raise NoAnswerIndexError(f"{place.uri}: not there; make it: {command}")
        client = _connect(place)
        alias = _alias(place, fingerprint)
        with _milvus_errors(place):
            last = _published(client, place)
            if _target(client, alias) is None:
                client.close()
                if last is None:
                    raise NoAnswerIndexError(
                        f"{place.where}: there is no collection {place.name!r}; make it: {command}"
                    )
                raise OtherAnswerIndexError(
                    f"{place}: the index of another ranker ({last}, here {alias}); name another "
                    f"place, or put this one in its place: {command} --fresh"
                )
            about = client.describe_collection(alias, timeout=CALL_S)
            _load(client, place, alias)
            _warn_if_settings_differ(client, place, alias, about["num_shards"])
        (field,) = (field for field in about["fields"] if field["name"] == "vector")
        return cls(client, place, alias, fingerprint, int(field["params"]["dim"]))

    @classmethod
    def create(cls, place: MilvusPlace, fingerprint: str, *, dim: int) -> MilvusIndex:
        """Make a collection that nobody searches before it is published.

        It is empty, or what a kill left of one with the same settings.

        Args:
            place: where.
            fingerprint: of the ranker whose vectors it will hold.
            dim: d.

        Raises:
            AnswerIndexError: if nothing answers there, or Milvus refuses.
        """
        if place.is_file:
            Path(place.uri).parent.mkdir(parents=True, exist_ok=True)
        client = _connect(place)
        alias = _alias(place, fingerprint)
        with _milvus_errors(place):
            _published(client, place)  # the name may be somebody else's
            names = _collections(client, place, fingerprint)
            unfinished = [name for name in names if name != _target(client, alias)]
            for name in unfinished:
                shards = client.describe_collection(name, timeout=CALL_S)["num_shards"]
                if shards == (place.shards or 1):
                    break
            else:
                number = max((int(name.rpartition("_")[2]) for name in names), default=0) + 1
                name = f"{alias}_{number}"
                _make_collection(client, place, name, dim)
            if not client.list_indexes(name, timeout=CALL_S):
                client.create_index(name, _search_settings(place), timeout=CALL_S)
            _load(client, place, name)
        return cls(client, place, name, fingerprint, dim)

    def __copy__(self) -> MilvusIndex:
        """Return this one: all rankers that search by it follow every change at once."""
        return self

    def add(self, ids: Sequence[str], passages: Passages[np.ndarray]) -> None:
        """See `AnswerIndex.add`."""
        digests = [_digest(id_) for id_ in ids]
        columns = (
            owners(passages).tolist(),
            passage_numbers(passages).tolist(),
            passage_checksums(passages).tolist(),
            np.asarray(passages.rows, np.float32),
        )
        entities = [
            {
                "key": f"{digests[row]}-{number}",
                "owner": digests[row],
                "answer": ids[row],
                "passage": number,
                "checksum": checksum,
                "vector": vector,
            }
            for row, number, checksum, vector in zip(*columns, strict=True)
        ]
        self._unindexed += len(entities)
        with _milvus_errors(self.place):
            for start in range(0, len(entities), ROWS_A_CALL):
                batch = entities[start : start + ROWS_A_CALL]
                self._client.upsert(self.collection, batch, timeout=CALL_S)

    def remove(self, ids: Iterable[str]) -> None:
        """See `AnswerIndex.remove`."""
        with _milvus_errors(self.place):
            for filter_ in _filters(list(ids)):
                self._client.delete(self.collection, filter=filter_, timeout=CALL_S)

    def search(self, queries: Float[np.ndarray, "n d"], k: int) -> list[NearestAnswers]:
        """See `AnswerIndex.search`.

        Raises:
            AnswerIndexError: also if k answers have more than 16,384 vectors before the last.
        """
        most = 0

        def search(batch: Float[np.ndarray, "n d"], depth: int) -> list[list[Hit]]:
            nonlocal most
            hits = self._search(batch, depth)
            most = max(most, *map(len, hits))
            return hits

        results = group_hits(search, queries, k, depth=2 * k, limit=MAX_HITS)
        fewer = any(len(result.answers) < k for result in results)
        if fewer and most == MAX_HITS and len(self) > MAX_HITS:  # to count takes long: it is last
            raise AnswerIndexError(
                f"{self.place}: Milvus gives the best {MAX_HITS:,} vectors, which belong to fewer "
                f"than {k:,} answers; ask for fewer answers"
            )
        return results

    def read(self, ids: Sequence[str]) -> list[Float[np.ndarray, "v d"]]:
        """See `AnswerIndex.read`."""
        vectors: dict[str, dict[int, list[float]]] = {_digest(id_): {} for id_ in ids}
        with _milvus_errors(self.place):
            for filter_ in _filters(ids):
                for entity in self._entities(filter_, ["owner", "passage", "vector"]):
                    vectors[entity["owner"]][entity["passage"]] = entity["vector"]
        ordered = [[row for _, row in sorted(vectors[_digest(id_)].items())] for id_ in ids]
        return [np.array(rows, np.float32).reshape(-1, self.dim) for rows in ordered]

    def checksums(self) -> dict[str, int]:
        """See `AnswerIndex.checksums`."""
        self.save()  # Milvus Lite reads slowly what a kill left in its log
        sums: dict[str, int] = {}
        with _milvus_errors(self.place):
            for entity in self._entities("", ["answer", "checksum"]):
                sums[entity["answer"]] = sums.get(entity["answer"], 0) + entity["checksum"]
        return sums

    def __len__(self) -> int:
        """Return the number of vectors."""
        with _milvus_errors(self.place):
            (row,) = self._client.query(
                self.collection, filter="", output_fields=["count(*)"], timeout=CALL_S
            )
        return int(row["count(*)"])

    def save(self) -> None:
        """See `AnswerIndex.save`; a server has what was sent, a file is moved out of its log."""
        if self.place.is_file:
            with _milvus_errors(self.place):
                self._client.flush(self.collection, timeout=CALL_S)

    def settle(self) -> None:
        """See `AnswerIndex.settle`; vectors that a server has not indexed are found less often."""
        self.save()
        if self.place.is_file or self._unindexed < MIN_INDEXED_VECTORS:
            return
        left, since = -1, time.monotonic()
        with _milvus_errors(self.place):
            self._client.flush(self.collection, timeout=CALL_S)
            while time.monotonic() - since < STALLED_S:
                about = self._client.describe_index(self.collection, "vector", timeout=CALL_S)
                if about["pending_index_rows"] == 0:
                    self._unindexed = 0
                    return
                if about["pending_index_rows"] != left:
                    left, since = about["pending_index_rows"], time.monotonic()
                time.sleep(POLL_S)
        log.warning(
            "%s: the server has not indexed %d vectors yet; it will find less", self.place, left
        )

    def publish(self) -> None:
        """See `AnswerIndex.publish`; the same call may be made again after a kill.

        What was published before for another ranker stays, for those that still use it and to go
        back to; collections that are older go.
        """
        client, place = self._client, self.place
        with _milvus_errors(place):
            alias, last = _alias(place, self.fingerprint), _target(client, place.name)
            new = _target(client, self.collection) or self.collection
            for name in (alias, place.name):
                target = _target(client, name)
                if target is None:
                    client.create_alias(new, name, timeout=CALL_S)
                elif target != new:
                    client.alter_alias(new, name, timeout=CALL_S)
            self.collection = alias
            old = set(_collections(client, place, self.fingerprint)) - {new}
            if last and last not in {*old, new}:
                old = set(_collections(client, place)) - {new, last}
            if old and not place.is_file:
                time.sleep(DRAIN_S)
            for name in sorted(old):
                for gone in client.list_aliases(name, timeout=CALL_S)["aliases"]:
                    client.drop_alias(gone, timeout=CALL_S)  # servers drop none that has one
                client.drop_collection(name, timeout=CALL_S)
                log.info("%s: %s is dropped", place, name)

    def close(self) -> None:
        """See `AnswerIndex.close`; a file stays this process's until it ends."""
        self._client.close()

    def _search(self, queries: Float[np.ndarray, "n d"], depth: int) -> list[list[Hit]]:
        hits: list[list[Hit]] = []
        with _milvus_errors(self.place):
            for start in range(0, len(queries), ROWS_A_CALL):
                results = self._client.search(
                    self.collection,
                    data=np.asarray(queries[start : start + ROWS_A_CALL], np.float32),
                    limit=depth,
                    output_fields=["answer"],
                    consistency_level=self.place.consistency,
                    timeout=CALL_S,
                )
                hits += [[(h["entity"]["answer"], h["distance"]) for h in row] for row in results]
        return hits

    def _entities(self, filter_: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        """Iterate in pages only where one query cannot return all entities: it is slower."""
        options = {"filter": filter_, "output_fields": fields, "timeout": CALL_S}
        entities = self._client.query(self.collection, limit=MAX_HITS, **options)
        if len(entities) < MAX_HITS:
            yield from entities
            return
        pages = self._client.query_iterator(self.collection, batch_size=MAX_HITS, **options)
        while page := pages.next():
            yield from page
        pages.close()


def _filters(ids: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(ids), ROWS_A_CALL):
        digests = ", ".join(f'"{_digest(id_)}"' for id_ in ids[start : start + ROWS_A_CALL])
        yield f"owner in [{digests}]"


def _digest(id_: str) -> str:
    return hashlib.sha256(id_.encode()).hexdigest()[:32]


def _alias(place: MilvusPlace, fingerprint: str) -> str:
    return f"{place.name}_{fingerprint[:DIGITS]}"


def _target(client: MilvusClient, alias: str) -> str | None:
    """Return the collection of an alias, or None if there is no such alias."""
    if alias in client.list_collections(timeout=CALL_S):
        return None
    if not client.has_collection(alias, timeout=CALL_S):
        return None
    return str(client.describe_alias(alias, timeout=CALL_S)["collection_name"])


def _collections(client: MilvusClient, place: MilvusPlace, fingerprint: str = "") -> list[str]:
    """Return the collections of a place's name, or those of one ranker, published or not."""
    ranker = fingerprint[:DIGITS] or f"[0-9a-f]{{{DIGITS}}}"
    form = re.compile(rf"{re.escape(place.name)}_{ranker}_\d+")
    return sorted(filter(form.fullmatch, client.list_collections(timeout=CALL_S)))


def _published(client: MilvusClient, place: MilvusPlace) -> str | None:
    """Return the collection that was published last under a place's name, if any was.

    Raises:
        AnswerIndexError: if the name is somebody else's.
    """
    last = _target(client, place.name)
    taken = last is None and client.has_collection(place.name, timeout=CALL_S)
    if taken or (last is not None and last not in _collections(client, place)):
        another = place.model_copy(update={"name": "NAME"})
        raise AnswerIndexError(
            f"{place}: the collection was not made by twinrank; name another: --to {another.option}"
        )
    return last


def _make_collection(client: MilvusClient, place: MilvusPlace, name: str, dim: int) -> None:
    """Make an empty collection, which is neither indexed nor in memory yet."""
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("owner", DataType.VARCHAR, max_length=32)
    schema.add_field("answer", DataType.VARCHAR, max_length=65_535)
    schema.add_field("passage", DataType.INT64)
    schema.add_field("checksum", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    client.create_collection(
        name,
        schema=schema,
        num_shards=place.shards or 1,
        consistency_level="Strong",  # of all that names no other
        timeout=CALL_S,
    )


def _search_settings(place: MilvusPlace) -> Any:  # noqa: ANN401 (pymilvus has it untyped)
    """Search a file exactly, and a server as it chooses."""
    from pymilvus import MilvusClient

    settings = MilvusClient.prepare_index_params()
    kind = "FLAT" if place.is_file else "AUTOINDEX"
    settings.add_index("vector", index_type=kind, metric_type="IP")
    return settings


def _connect(place: MilvusPlace) -> MilvusClient:
    """Connect to a file or server.

    Raises:
        AnswerIndexError: if nothing answers there.
    """
    from pymilvus import MilvusClient

    for name in LOGGERS[: None if place.is_file else 2]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Milvus Lite takes pings as often as pymilvus sends them for an attack, and hangs up.
    rarely = {"grpc_options": {"grpc.keepalive_time_ms": 600_000}} if place.is_file else {}
    with _milvus_errors(place):
        token = os.environ.get(TOKEN, "")
        return MilvusClient(place.uri, token=token, timeout=CONNECT_S, **rarely)


def _load(client: MilvusClient, place: MilvusPlace, collection: str) -> None:
    """Have a collection in memory, to be searched.

    Milvus Lite keeps copies of the vectors for its search, and a kill while it writes one leaves
    half of it: they are made anew from what it holds.
    """
    from pymilvus.client.types import LoadState
    from pymilvus.exceptions import MilvusException

    if client.get_load_state(collection, timeout=CALL_S)["state"] == LoadState.Loaded:
        return
    replicas = place.replicas or 1
    try:
        client.load_collection(collection, replica_number=replicas, timeout=CALL_S)
    except MilvusException as error:
        if replicas > 1:
            raise AnswerIndexError(
                f"{place}: {_line(error)}; each of the {replicas} replicas takes query nodes of "
                "its own: add nodes, or ask for fewer replicas"
            ) from None
        if not place.is_file:
            raise
        log.warning("%s: its search files are made anew (%s)", place, _line(error))
        client.release_collection(collection, timeout=CALL_S)
        client.drop_index(collection, "vector", timeout=CALL_S)
        client.create_index(collection, _search_settings(place), timeout=CALL_S)
        client.load_collection(collection, timeout=CALL_S)


def _warn_if_settings_differ(
    client: MilvusClient, place: MilvusPlace, collection: str, shards: int
) -> None:
    """Warn if a collection was made with other settings than the place has."""
    actual = {"shards": shards}
    if place.replicas:
        actual["replicas"] = len(client.describe_replica(collection, timeout=CALL_S))
    for setting, number in actual.items():
        asked = getattr(place, setting)
        if asked and asked != number:
            log.warning(
                "%s: %s has %s=%d; to have %d, make it anew: twinrank index RANKER --to %s --fresh",
                *(place.where, collection, setting, number, asked, place.option),
            )


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
        raise AnswerIndexError(f"{place.where}: {_line(error)}; {fix}") from None


def _line(error: MilvusException) -> str:
    return " ".join(str(error.message).split())
