"""What a collection of vectors is in Milvus: its fields, and how it is told from another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twinrank.ranking.index.milvus_place import MilvusPlace
from twinrank.ranking.index.milvus_versions import CALL_S, FINGERPRINT

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def make(client: MilvusClient, place: MilvusPlace, name: str, fingerprint: str, dim: int) -> None:
    """Make an empty collection, which is neither indexed nor in memory yet.

    Args:
        client: connected.
        place: says how many shards.
        name: of the collection.
        fingerprint: of the ranker whose vectors it will hold.
        dim: their width.
    """
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
        properties={FINGERPRINT: fingerprint},
        consistency_level="Strong",  # of all that names no other
        timeout=CALL_S,
    )


def is_so(client: MilvusClient, name: str, place: MilvusPlace, dim: int) -> bool:
    """Whether a collection is as it would be made."""
    about = client.describe_collection(name, timeout=CALL_S)
    return (dim_of(about), about["num_shards"]) == (dim, place.shards or 1)


def dim_of(about: dict[str, Any]) -> int | None:
    """How wide a collection's vectors are, as Milvus describes it; none if it has none."""
    dims = [field["params"]["dim"] for field in about["fields"] if field["name"] == "vector"]
    return dims[0] if dims else None
