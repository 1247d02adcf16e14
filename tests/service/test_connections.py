"""What a client may send, and how long it may keep silent, before a request is one."""

import resource
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from uvicorn import Config, Server

from twinrank.service import connections
from twinrank.service.connections import Connection, most_connections

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = REQUEST + b"Connection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


async def app(_scope, _receive, send):
    """Answers at once, and reads no body."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def connect():
    """Makes connections to a server."""
    server = Server(
        Config(
            app,
            http=Connection,
            h11_max_incomplete_event_size=connections.MAX_HEAD_BYTES,
            ws="none",
            lifespan="off",
            log_config=None,
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)

        @contextmanager
        def connected():
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                yield client

        yield connected
        server.should_exit = True
        thread.join()


def exchange(client, data):
    """Send, and read until the connection is closed; it is an error if it stays open."""
    reply = b""
    try:
        for start in range(0, len(data), 10_000):
            client.sendall(data[start : start + 10_000])
        while part := client.recv(10_000):
            reply += part
    except ConnectionError:
        pass
    return reply


@pytest.mark.parametrize(
    "head",
    [
        REQUEST + b"X: " + b"x" * 200_000,
        REQUEST + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
        REQUEST + b"".join(b"X-%d: x\r\n" % i for i in range(20_000)) + b"\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        POST + b"1\r\nx\r\n0\r\nX: " + b"x" * 2_000_000,
    ],
    ids=["never whole", "one", "many", "path", "behind a body"],
)
def test_headers_are_bounded(connect, head):
    with connect() as client:
        reply = exchange(client, head)
        assert b"200 OK" not in reply or head.startswith(b"POST")
    with connect() as client:
        assert b"200 OK" in exchange(client, WHOLE)


@pytest.mark.parametrize(
    "start",
    [b"", REQUEST, b"\r\n", REQUEST + b"\r\n" + REQUEST, POST + b"5\r\nab"],
    ids=["silent", "half head", "line", "half second", "half body"],
)
def test_a_silent_client_is_sent_away(connect, monkeypatch, start):
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    with connect() as client:
        exchange(client, start)


def test_where_there_are_too_many_the_idlest_make_room(connect, monkeypatch):
    monkeypatch.setattr(connections, "most_connections", lambda: 5)
    with connect() as first, connect(), connect(), connect(), connect(), connect() as last:
        assert exchange(first, b"") == b""
        assert b"200 OK" in exchange(last, WHOLE)


@pytest.mark.parametrize(("files", "most"), [(1_024, 896), (1 << 20, 4_096), (-1, 4_096), (64, 16)])
def test_as_many_connections_as_files_may_be_open(monkeypatch, files, most):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most
