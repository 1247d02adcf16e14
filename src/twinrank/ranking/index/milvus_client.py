"""Milvus behind a place: how it is reached, made ready, and what its errors come to."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twinrank.errors import AnswerIndexError
from twinrank.ranking.index.milvus_place import MilvusPlace
from twinrank.ranking.index.milvus_versions import CALL_S

if TYPE_CHECKING:
    from pymilvus import MilvusClient, MilvusException
    from pymilvus.milvus_client.index import IndexParams

log = logging.getLogger(__name__)
TOKEN = "MILVUS_TOKEN"  # noqa: S105 (the name of the variable)
CONNECT_S, POLL_S = 10.0, 0.2
STALLED_S = 300.0  # without any progress, before a server's index is not waited for any more
# They log what they raise, over many lines; the last two belong to Milvus Lite.
LOGGERS = ("pymilvus", "pymilvus.milvus_client", "milvus_lite", "grpc._server")


def connect(place: MilvusPlace) -> MilvusClient:
    """A client of the file or server.

    Raises:
        AnswerIndexError: if nothing answers there.
    """
    from pymilvus import MilvusClient

    for name in LOGGERS[: None if place.is_file else 2]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Milvus Lite takes pings as often as pymilvus sends them for an attack, and hangs up.
    rarely = {"grpc_options": {"grpc.keepalive_time_ms": 600_000}} if place.is_file else {}
    with said(place):
        token = os.environ.get(TOKEN, "")
        return MilvusClient(place.uri, token=token, timeout=CONNECT_S, **rarely)


def search_settings(place: MilvusPlace) -> IndexParams:
    """How vectors are searched there: exactly in a file, as a server chooses elsewhere."""
    from pymilvus import MilvusClient

    how = MilvusClient.prepare_index_params()
    kind = "FLAT" if place.is_file else "AUTOINDEX"
    how.add_index("vector", index_type=kind, metric_type="IP")
    return how


def make_ready(client: MilvusClient, place: MilvusPlace, collection: str) -> None:
    """Have a collection in memory, to be searched; what is there already stays as it is.

    Milvus Lite keeps copies of the vectors for its search, and a kill while it writes one leaves
    half of it: they are made anew from what it holds.
    """
    from pymilvus.client.types import LoadState
    from pymilvus.exceptions import MilvusException

    if client.get_load_state(collection, timeout=CALL_S)["state"] == LoadState.Loaded:
        return
    try:
        client.load_collection(collection, replica_number=place.replicas or 1, timeout=CALL_S)
    except MilvusException as error:
        if (place.replicas or 1) > 1:
            raise AnswerIndexError(
                f"{place}: {_line(error)}; each of the {place.replicas} replicas takes query nodes "
                "of its own: add nodes, or ask for fewer replicas"
            ) from None
        if not place.is_file:
            raise
        log.warning("%s: its search files are made anew (%s)", place, _line(error))
        client.release_collection(collection, timeout=CALL_S)
        client.drop_index(collection, "vector", timeout=CALL_S)
        client.create_index(collection, search_settings(place), timeout=CALL_S)
        client.load_collection(collection, timeout=CALL_S)


def wait_for_index(client: MilvusClient, place: MilvusPlace, collection: str) -> None:
    """Have a server make its search index of what was sent, and wait until it has.

    What it has none for yet it searches by one that is made in passing, and finds less.
    """
    client.flush(collection, timeout=CALL_S)
    left, since = 0, time.monotonic()
    while now := client.describe_index(collection, "vector", timeout=CALL_S)["pending_index_rows"]:
        if now != left:
            left, since = now, time.monotonic()
        if time.monotonic() - since > STALLED_S:
            log.warning(
                "%s: the server has not indexed %d vectors yet; it will find less", place, now
            )
            return
        time.sleep(POLL_S)


def say_otherwise(client: MilvusClient, place: MilvusPlace, collection: str, shards: int) -> None:
    """Say where a collection is held otherwise than the place has it, which no opening changes."""
    there = {"shards": shards}
    if place.replicas:
        there["replicas"] = len(client.describe_replica(collection, timeout=CALL_S))
    for what, number in there.items():
        asked = getattr(place, what)
        if asked and asked != number:
            log.warning(
                "%s: %s has %s=%d; to have %d, make it anew: twinrank index RANKER --to %s --fresh",
                *(place.where, collection, what, number, asked, place.typed),
            )


@contextmanager
def said(place: MilvusPlace) -> Iterator[None]:
    """Say where it was that Milvus failed, and how, in a line."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        mend = "check the URI, that it runs, and $" + TOKEN
        if place.is_file:
            mend = "another process may have it open, or it is damaged: then make it anew"
        raise AnswerIndexError(f"{place.where}: {_line(error)}; {mend}") from None


def _line(error: MilvusException) -> str:
    return " ".join(str(error.message).split())
