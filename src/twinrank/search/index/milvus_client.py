"""Milvus behind a URI: how it is reached, made ready, and what its errors come to."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twinrank.errors import AnswerIndexError

if TYPE_CHECKING:
    from pymilvus import MilvusClient, MilvusException
    from pymilvus.milvus_client.index import IndexParams

log = logging.getLogger(__name__)
COLLECTION = "twinrank"  # where none is named
TOKEN = "MILVUS_TOKEN"  # noqa: S105 (the name of the variable)
CONNECT_S, CALL_S = 10.0, 120.0
# They log what they raise, over many lines; the last two belong to Milvus Lite.
LOGGERS = ("pymilvus", "pymilvus.milvus_client", "milvus_lite", "grpc._server")


def is_file(uri: str) -> bool:
    """Whether a URI of Milvus is a file, for Milvus Lite."""
    return "://" not in uri


def shown(uri: str) -> str:
    """A URI without what is secret in it."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


def uri_of(where: str, collection: str) -> str:
    """What `--to` takes for a collection."""
    return where if collection == COLLECTION else f"{where}#{collection}"


def connect(uri: str) -> MilvusClient:
    """A client of the file or server.

    Raises:
        AnswerIndexError: if nothing answers there.
    """
    from pymilvus import MilvusClient

    for name in LOGGERS[: None if is_file(uri) else 2]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Milvus Lite takes pings as often as pymilvus sends them for an attack, and hangs up.
    rarely = {"grpc_options": {"grpc.keepalive_time_ms": 600_000}} if is_file(uri) else {}
    with said(shown(uri)):
        return MilvusClient(uri, token=os.environ.get(TOKEN, ""), timeout=CONNECT_S, **rarely)


def search_settings(uri: str) -> IndexParams:
    """How vectors are searched there: exactly in a file, as a server chooses elsewhere."""
    from pymilvus import MilvusClient

    how = MilvusClient.prepare_index_params()
    kind = "FLAT" if is_file(uri) else "AUTOINDEX"
    how.add_index("vector", index_type=kind, metric_type="IP")
    return how


def make_ready(client: MilvusClient, where: str, collection: str) -> None:
    """Make a collection ready to be searched.

    Milvus Lite keeps copies of the vectors for its search, and a kill while it writes one leaves
    half of it: they are made anew from what it holds.
    """
    from pymilvus.exceptions import MilvusException

    try:
        client.load_collection(collection, timeout=CALL_S)
    except MilvusException as error:
        if not is_file(where):
            raise
        log.warning("%s: its search files are made anew (%s)", where, _line(error))
        client.release_collection(collection, timeout=CALL_S)
        client.drop_index(collection, "vector", timeout=CALL_S)
        client.create_index(collection, search_settings(where), timeout=CALL_S)
        client.load_collection(collection, timeout=CALL_S)


@contextmanager
def said(where: str) -> Iterator[None]:
    """Say where it was that Milvus failed, and how, in a line."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        mend = "check the URI, that it runs, and $" + TOKEN
        if is_file(where):
            mend = "another process may have it open, or it is damaged: then make it anew"
        raise AnswerIndexError(f"{where}: {_line(error)}; {mend}") from None


def _line(error: MilvusException) -> str:
    return " ".join(str(error.message).split())
