"""The index in Milvus: a file here (Milvus Lite), a server, or a cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from twinrank.errors import AnswerIndexError, NoAnswerIndexError
from twinrank.model import Passages
from twinrank.search.index.interface import Found, Hit, grouped, numbers, owners, row_checksums
from twinrank.search.index.milvus_client import (
    CALL_S,
    COLLECTION,
    connect,
    is_file,
    make_ready,
    said,
    search_settings,
    shown,
    uri_of,
)

if TYPE_CHECKING:
    from pymilvus import MilvusClient

FINGERPRINT = "twinrank.fingerprint"  # a property of the collection
MOST = 16_384  # vectors that Milvus gives at once
BATCH = 1_000  # vectors, or queries, sent at once


class MilvusIndex:
    """A collection with one entity a passage.

    Its key is a digest of the answer's id, and the passage's number: adding the same again
    changes nothing, and no id ever stands in a filter. A file is searched exactly (`FLAT`), by
    one process at a time; a server chooses its own index (`AUTOINDEX`: approximate). Reads see
    all writes before them (`Strong`). Grouping is exact among a query's best 16,384 vectors;
    Milvus gives no more.

    Args:
        client: connected.
        where: of the file or server, for messages.
        collection: its name.
        fingerprint: of the ranker whose vectors these are.
        dim: d.
    """

    def __init__(
        self, client: MilvusClient, where: str, collection: str, fingerprint: str, dim: int
    ) -> None:
        self.where = where
        self.collection = collection
        self.fingerprint = fingerprint
        self.dim = dim
        self._client = client

    @classmethod
    def open(cls, uri: str, collection: str = COLLECTION) -> MilvusIndex:
        """The collection at a URI.

        Raises:
            NoAnswerIndexError: if there is no such collection.
            AnswerIndexError: if nothing answers there, or the collection is not twinrank's.
        """
        where = shown(uri)
        if is_file(uri) and not Path(uri).exists():
            raise NoAnswerIndexError(
                f"{where}: not there; make it: twinrank index RANKER --to {uri}"
            )
        client = connect(uri)
        with said(where):
            if not client.has_collection(collection, timeout=CALL_S):
                raise NoAnswerIndexError(
                    f"{where}: there is no collection {collection!r}; make it: "
                    f"twinrank index RANKER --to {uri_of(where, collection)}"
                )
            about = client.describe_collection(collection, timeout=CALL_S)
            fields = {field["name"]: field for field in about["fields"]}
            fingerprint = about.get("properties", {}).get(FINGERPRINT)
            if fingerprint is None or "vector" not in fields:
                raise AnswerIndexError(
                    f"{where}: the collection {collection!r} was not made by twinrank; "
                    f"name another: --to {uri_of(where, 'NAME')}"
                )
            make_ready(client, where, collection)
        return cls(client, where, collection, fingerprint, fields["vector"]["params"]["dim"])

    @classmethod
    def create(
        cls, uri: str, fingerprint: str, collection: str = COLLECTION, *, dim: int
    ) -> MilvusIndex:
        """An empty collection at a URI, in place of one that is there.

        Raises:
            AnswerIndexError: if nothing answers there, or Milvus refuses.
        """
        from pymilvus import DataType, MilvusClient

        if is_file(uri):
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
        client, where = connect(uri), shown(uri)
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("owner", DataType.VARCHAR, max_length=32)
        schema.add_field("answer", DataType.VARCHAR, max_length=65_535)
        schema.add_field("passage", DataType.INT64)
        schema.add_field("checksum", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        with said(where):
            client.drop_collection(collection, timeout=CALL_S)
            client.create_collection(
                collection,
                schema=schema,
                index_params=search_settings(uri),
                properties={FINGERPRINT: fingerprint},
                consistency_level="Strong",
                timeout=CALL_S,
            )
        return cls(client, where, collection, fingerprint, dim)

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
        with said(self.where):
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                self._client.upsert(self.collection, part, timeout=CALL_S)

    def remove(self, ids: Iterable[str]) -> None:
        """See `AnswerIndex.remove`."""
        with said(self.where):
            for some in _filters(list(ids)):
                self._client.delete(self.collection, filter=some, timeout=CALL_S)

    def search(self, queries: Float[np.ndarray, "n d"], k: int) -> list[Found]:
        """See `AnswerIndex.search`.

        Raises:
            AnswerIndexError: also if k answers have more than 16,384 vectors before the last.
        """
        found = grouped(self._nearest, queries, k, depth=2 * k, limit=MOST)
        if any(len(some.answers) < k for some in found) and len(self) > MOST:
            raise AnswerIndexError(
                f"{self.where}: Milvus gives the best {MOST:,} vectors, which belong to fewer than "
                f"{k:,} answers; ask for fewer answers"
            )
        return found

    def read(self, ids: Sequence[str]) -> list[Float[np.ndarray, "v d"]]:
        """See `AnswerIndex.read`."""
        rows: dict[str, dict[int, list[float]]] = {_digest(id_): {} for id_ in ids}
        with said(self.where):
            for some in _filters(ids):
                fields = ["owner", "passage", "vector"]
                for row in self._rows(some, fields):
                    rows[row["owner"]][row["passage"]] = row["vector"]
        found = [[vector for _, vector in sorted(rows[_digest(id_)].items())] for id_ in ids]
        return [np.array(some, np.float32).reshape(-1, self.dim) for some in found]

    def held(self) -> dict[str, int]:
        """See `AnswerIndex.held`."""
        sums: dict[str, int] = {}
        with said(self.where):
            for row in self._rows("", ["answer", "checksum"]):
                sums[row["answer"]] = sums.get(row["answer"], 0) + row["checksum"]
        return sums

    def __len__(self) -> int:
        """How many vectors are there."""
        with said(self.where):
            (row,) = self._client.query(
                self.collection, filter="", output_fields=["count(*)"], timeout=CALL_S
            )
        return int(row["count(*)"])

    def save(self) -> None:
        """See `AnswerIndex.save`; what was added is there already, this moves it out of the log."""
        with said(self.where):
            self._client.flush(self.collection, timeout=CALL_S)

    def close(self) -> None:
        """See `AnswerIndex.close`; a file stays this process's until it ends."""
        self._client.close()

    def _nearest(self, queries: Float[np.ndarray, "n d"], depth: int) -> list[list[Hit]]:
        hits: list[list[Hit]] = []
        with said(self.where):
            for start in range(0, len(queries), BATCH):
                found = self._client.search(
                    self.collection,
                    data=np.asarray(queries[start : start + BATCH], np.float32),
                    limit=depth,
                    output_fields=["answer"],
                    timeout=CALL_S,
                )
                hits += [[(hit["entity"]["answer"], hit["distance"]) for hit in h] for h in found]
        return hits

    def _rows(self, filter_: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        pages = self._client.query_iterator(
            self.collection,
            batch_size=MOST,
            filter=filter_,
            output_fields=fields,
            timeout=CALL_S,
        )
        while page := pages.next():
            yield from page
        pages.close()


def _filters(ids: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(ids), BATCH):
        digests = ", ".join(f'"{_digest(id_)}"' for id_ in ids[start : start + BATCH])
        yield f"owner in [{digests}]"


def _digest(id_: str) -> str:
    return hashlib.sha256(id_.encode()).hexdigest()[:32]
