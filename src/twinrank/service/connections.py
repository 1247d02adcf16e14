"""Limits of a worker's connections: their number, their silence, and the size of headers."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEAD_BYTES = 65_536  # of a request's first line and all its headers
HEAD_S = 10.0  # for these to arrive, and for the rest of a body that was refused
FETCH_S = 60  # for an answer to be fetched
MIN_CONNECTIONS, MAX_CONNECTIONS = 16, 4_096  # of a worker
OTHER_FILES = 128  # that a worker opens: of the ranker, the database, the metrics


def most_connections() -> int:
    """Return how many connections a worker may have, so that it can open the files it needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, soft - OTHER_FILES))


def limit_fetching(listening: socket.socket) -> None:
    """Have the system end connections whose clients do not fetch what they are sent."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, FETCH_S * 1000)


class Connection(H11Protocol):
    """A connection that is closed if its client does not send a request in time.

    If there are too many, those that have waited longest for their clients make room.
    """

    waiting: ClassVar[
        dict[Connection, asyncio.TimerHandle]
    ] = {}  # of this worker, the longest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, and make room for the connection."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > most_connections():
            oldest = next(iter(self.waiting))
            oldest._stop_waiting()
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Stop waiting once a request is whole but for its body, whose time the guard bounds."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request, and the rest of one that was answered before its end."""
        super().on_response_complete()
        if self.cycle.response_complete and self in self.connections:
            self._wait()

    def _wait(self) -> None:
        self._stop_waiting()
        self.waiting[self] = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if timer := self.waiting.pop(self, None):
            timer.cancel()
