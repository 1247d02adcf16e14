"""Limits of a worker's connections: their number, their silence, and the size of headers."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from itertools import count
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 65_536  # of a request's first line and all its headers
HEAD_S = 10.0  # for these to arrive, and for the rest of a body that was refused
FETCH_S = 60.0  # for an answer to be fetched
MAX_CONNECTIONS = 4_096  # of a worker
OTHER_FILES = 128  # that a worker opens: of the ranker, the database, the metrics
ENOUGH_FILES = 1_024  # that may be open: fewer are warned of

TURNS = count()  # no clock: a loop's stands still while it takes in many connections at once

log = logging.getLogger(__name__)


def allow_files() -> None:
    """Let this process and its children open as many files as they may; warn if these are few."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft := wanted, hard))
    if soft != resource.RLIM_INFINITY and soft < ENOUGH_FILES:
        log.warning(
            "a process may open only %d files, so that each worker takes %d connections at once; "
            "raise `ulimit -n` (LimitNOFILE= of systemd) to %d or more",
            soft,
            most_connections(),
            ENOUGH_FILES,
        )


def most_connections() -> int:
    """Return how many connections a worker may have, so that it can open the files it needs."""
    try:
        import resource
    except ImportError:
        return MAX_CONNECTIONS
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(soft - OTHER_FILES, soft // 2))


class Connection(HttpToolsProtocol):
    """A connection with bounded headers, which is closed if its client keeps silent.

    If there are too many, those that have waited longest for their clients make room.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (uvicorn's own)
        super().__init__(*args, **options)
        self._turn = next(TURNS)  # rises when it begins to wait for its client
        self._in_head = True
        self._unread = 0  # bytes of a head, or behind a body
        self._too_large = False
        self._timer: asyncio.TimerHandle | None = None
        self._fetch_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head, and make room for the connection."""
        super().connection_made(transport)
        self._expect()
        if len(self.connections) > (most := most_connections()):
            self._make_room(len(self.connections) - most)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop(self._timer, self._fetch_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and bound the size and time of a head."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")
        elif self._unread and self._in_head and self._timer is None:
            self._expect()

    def on_headers_complete(self) -> None:
        """Refuse headers that are too large although they came at once."""
        self._in_head, self._unread = False, 0
        self._stop_expecting()
        if (
            len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            > MAX_HEAD_BYTES
        ):
            self._too_large = True
            raise ValueError  # it stops the parser, and uvicorn sends a 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Read a part of a body, whose size and time the guard bounds."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next head, if this request was answered before its end."""
        self._in_head, self._unread = True, 0
        self._stop_expecting()
        super().on_message_complete()
        if self.cycle.response_complete:
            self._expect()

    def on_response_complete(self) -> None:
        """Wait for the rest of a request that was answered before its end."""
        super().on_response_complete()
        self._turn = next(TURNS)
        if self.transport.is_closing():
            self.loop.call_later(FETCH_S, self.transport.abort)
        elif self.cycle.more_body:
            self._expect()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that cannot be read."""
        if not self._too_large:
            super().send_400_response(msg)
            return
        if self.cycle is None or self.cycle.response_complete:
            body = b'{"detail":"the headers have more than %d bytes; send less"}' % MAX_HEAD_BYTES
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n"
            status = STATUS_LINE[HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE]
            self.transport.write(status + head % len(body) + b"\r\n" + body)
        self._close()

    def pause_writing(self) -> None:
        """Wait for the client to fetch an answer, but not for ever."""
        super().pause_writing()
        self._fetch_timer = self.loop.call_later(FETCH_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on answering."""
        self._stop(self._fetch_timer)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close: no other request came."""
        self._close()

    def _waits_for_client(self) -> bool:
        """Whether it is the client's turn: to send something, or to fetch an answer."""
        answered = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        return answered or self.flow.write_paused or self.transport.is_closing()

    def _expect(self) -> None:
        self._stop_expecting()
        self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def _stop_expecting(self) -> None:
        self._stop(self._timer)
        self._timer = None

    def _give_up(self) -> None:
        if self._waits_for_client():
            self._close()
        else:  # another request on this connection is being answered yet
            self._expect()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(FETCH_S, self.transport.abort)

    def _make_room(self, count: int) -> None:
        """Close the connections that have waited longest for their clients."""
        connections = (c for c in self.connections if isinstance(c, Connection))
        waiting = [c for c in connections if c._waits_for_client()]
        count += len(waiting) // 32  # not one by one: to look for them takes time
        for connection in sorted(waiting, key=lambda connection: connection._turn)[:count]:
            connection.transport.abort()
            self.connections.discard(connection)

    @staticmethod
    def _stop(*timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()
