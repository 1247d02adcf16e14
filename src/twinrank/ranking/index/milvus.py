"""The index in Milvus: a file here (Milvus Lite), a server, or a cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from twinrank.errors import AnswerIndexError, NoAnswerIndexError
from twinrank.ranking.index.interface import Found, Hit, grouped, numbers, owners, row_checksums
from twinrank.ranking.index.milvus_client import (
    connect,
    make_ready,
    said,
    say_otherwise,
    search_settings,
    wait_for_index,
)
from twinrank.ranking.index.milvus_place import MilvusPlace
from twinrank.ranking.index.milvus_schema import dim_of, is_so, make
from twinrank.ranking.index.milvus_versions import CALL_S, FINGERPRINT, Versions, not_ours
from twinrank.ranking.passages import Passages

if TYPE_CHECKING:
    from pymilvus import MilvusClient

MOST = 16_384  # vectors that Milvus gives at once
BATCH = 1_000  # vectors, or queries, sent at once
INDEXED_FROM = 1_024  # vectors; a server searches fewer exactly


class MilvusIndex:
    """A collection with one entity a passage.

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
        self.place = place
        self.collection = collection
        self.fingerprint = fingerprint
        self.dim = dim
        self._client = client
        self._added = 0  # vectors that a server has not indexed yet, for all we know

    @classmethod
    def open(cls, place: MilvusPlace, fingerprint: str = "") -> MilvusIndex:
        """What was published at a place for a ranker, or else what was published last.

        It is searched by alias: when it is made anew for the same ranker, the next search finds
        the new one.

        Args:
            place: where.
            fingerprint: of the ranker.

        Raises:
            NoAnswerIndexError: if nothing was published there.
            AnswerIndexError: if nothing answers there, or the collection is not twinrank's.
        """
        if place.is_file and not Path(place.uri).exists():
            raise NoAnswerIndexError(
                f"{place.uri}: not there; make it: twinrank index RANKER --to {place.typed}"
            )
        client = connect(place)
        with said(place):
            name = Versions(client, place).readable(fingerprint)
            if not client.has_collection(name, timeout=CALL_S):
                raise NoAnswerIndexError(
                    f"{place.where}: there is no collection {name!r}; make it: "
                    f"twinrank index RANKER --to {place.typed}"
                )
            about = client.describe_collection(name, timeout=CALL_S)
            found = about.get("properties", {}).get(FINGERPRINT)
            if found is None or (dim := dim_of(about)) is None:
                raise AnswerIndexError(not_ours(place))
            make_ready(client, place, name)
            say_otherwise(client, place, name, shards=about["num_shards"])
        return cls(client, place, name, found, dim)

    @classmethod
    def create(cls, place: MilvusPlace, fingerprint: str, *, dim: int) -> MilvusIndex:
        """A collection beside those that are there, which nobody finds before it is published.

        It is empty, or what a kill left of one that would be made just so.

        Args:
            place: where.
            fingerprint: of the ranker whose vectors it will hold.
            dim: d.

        Raises:
            AnswerIndexError: if nothing answers there, or Milvus refuses.
        """
        if place.is_file:
            Path(place.uri).parent.mkdir(parents=True, exist_ok=True)
        client = connect(place)
        with said(place):
            versions = Versions(client, place)
            name = versions.new(fingerprint)
            left = [n for n in versions.unfinished(fingerprint) if is_so(client, n, place, dim)]
            if left:
                name = left[-1]
                if place.replicas:  # it may have another number of them
                    client.release_collection(name, timeout=CALL_S)
            else:
                make(client, place, name, fingerprint, dim)
            if not client.list_indexes(name, timeout=CALL_S):
                client.create_index(name, search_settings(place), timeout=CALL_S)
            make_ready(client, place, name)
        return cls(client, place, name, fingerprint, dim)

    def add(self, ids: Sequence[str], passages: Passages[np.ndarray]) -> None:
        """See `AnswerIndex.add`."""
        owner = owners(passages)
        digests = [_digest(id_) for id_ in ids]
        numbered = zip(owner.tolist(), numbers(owner).tolist(), strict=True)
        rows = [
            {
                "key": f"{digests[place]}-{number}",
                "owner": digests[place],
                "answer": ids[place],
                "passage": number,
                "checksum": checksum,
                "vector": vector,
            }
            for (place, number), checksum, vector in zip(
                numbered,
                row_checksums(passages).tolist(),
                np.asarray(passages.rows, np.float32),
                strict=True,
            )
        ]
        self._added += len(rows)
        with said(self.place):
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                self._client.upsert(self.collection, part, timeout=CALL_S)

    def remove(self, ids: Iterable[str]) -> None:
        """See `AnswerIndex.remove`."""
        with said(self.place):
            for some in _filters(list(ids)):
                self._client.delete(self.collection, filter=some, timeout=CALL_S)

    def search(self, queries: Float[np.ndarray, "n d"], k: int) -> list[Found]:
        """See `AnswerIndex.search`.

        Raises:
            AnswerIndexError: also if k answers have more than 16,384 vectors before the last.
        """
        most = 0

        def nearest(some: np.ndarray, depth: int) -> list[list[Hit]]:
            nonlocal most
            hits = self._nearest(some, depth)
            most = max(most, *map(len, hits))
            return hits

        found = grouped(nearest, queries, k, depth=2 * k, limit=MOST)
        fewer = any(len(some.answers) < k for some in found)
        if fewer and most == MOST and len(self) > MOST:  # to count takes long: it is done last
            raise AnswerIndexError(
                f"{self.place}: Milvus gives the best {MOST:,} vectors, which belong to fewer than "
                f"{k:,} answers; ask for fewer answers"
            )
        return found

    def read(self, ids: Sequence[str]) -> list[Float[np.ndarray, "v d"]]:
        """See `AnswerIndex.read`."""
        rows: dict[str, dict[int, list[float]]] = {_digest(id_): {} for id_ in ids}
        with said(self.place):
            for some in _filters(ids):
                fields = ["owner", "passage", "vector"]
                for row in self._rows(some, fields):
                    rows[row["owner"]][row["passage"]] = row["vector"]
        found = [[vector for _, vector in sorted(rows[_digest(id_)].items())] for id_ in ids]
        return [np.array(some, np.float32).reshape(-1, self.dim) for some in found]

    def held(self) -> dict[str, int]:
        """See `AnswerIndex.held`."""
        sums: dict[str, int] = {}
        with said(self.place):
            for row in self._rows("", ["answer", "checksum"]):
                sums[row["answer"]] = sums.get(row["answer"], 0) + row["checksum"]
        return sums

    def __len__(self) -> int:
        """How many vectors are there."""
        with said(self.place):
            (row,) = self._client.query(
                self.collection, filter="", output_fields=["count(*)"], timeout=CALL_S
            )
        return int(row["count(*)"])

    def save(self) -> None:
        """See `AnswerIndex.save`; a server has what was sent, a file is moved out of its log."""
        if self.place.is_file:
            with said(self.place):
                self._client.flush(self.collection, timeout=CALL_S)

    def settle(self) -> None:
        """See `AnswerIndex.settle`; a server indexes no fewer vectors than 1,024."""
        self.save()
        if self._added >= INDEXED_FROM and not self.place.is_file:
            with said(self.place):
                wait_for_index(self._client, self.place, self.collection)
            self._added = 0

    def publish(self) -> None:
        """See `AnswerIndex.publish`; of other rankers' answers those published last are kept."""
        with said(self.place):
            Versions(self._client, self.place).publish(self.collection, self.fingerprint)

    def close(self) -> None:
        """See `AnswerIndex.close`; a file stays this process's until it ends."""
        self._client.close()

    def _nearest(self, queries: Float[np.ndarray, "n d"], depth: int) -> list[list[Hit]]:
        hits: list[list[Hit]] = []
        with said(self.place):
            for start in range(0, len(queries), BATCH):
                found = self._client.search(
                    self.collection,
                    data=np.asarray(queries[start : start + BATCH], np.float32),
                    limit=depth,
                    output_fields=["answer"],
                    consistency_level=self.place.consistency,
                    timeout=CALL_S,
                )
                hits += [[(hit["entity"]["answer"], hit["distance"]) for hit in h] for h in found]
        return hits

    def _rows(self, filter_: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        """Page by page where there are many; one question is answered sooner than an iterator's."""
        how = {"filter": filter_, "output_fields": fields, "timeout": CALL_S}
        rows = self._client.query(self.collection, limit=MOST, **how)
        if len(rows) < MOST:
            yield from rows
            return
        pages = self._client.query_iterator(self.collection, batch_size=MOST, **how)
        while page := pages.next():
            yield from page
        pages.close()


def _filters(ids: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(ids), BATCH):
        digests = ", ".join(f'"{_digest(id_)}"' for id_ in ids[start : start + BATCH])
        yield f"owner in [{digests}]"


def _digest(id_: str) -> str:
    return hashlib.sha256(id_.encode()).hexdigest()[:32]
