"""What a client may send, and how long it may keep silent, before a request is one."""

import resource
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from uvicorn import Config, Server

from twinrank.service import connections
from twinrank.service.connections import Connection, allow_files, most_connections

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


async def answered(_scope, _receive, send):
    """Answers at once, and reads no body."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def connect():
    """Makes connections to a server."""
    server = Server(Config(answered, http=Connection, ws="none", lifespan="off", log_config=None))
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


def sent(client, data):
    """What comes back until the connection is closed; it is an error if it stays open."""
    found = b""
    try:
        for start in range(0, len(data), 10_000):
            client.sendall(data[start : start + 10_000])
        while part := client.recv(10_000):
            found += part
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize(
    "head",
    [
        REQUEST + b"X: " + b"x" * 200_000,
        REQUEST + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
        REQUEST + b"".join(b"X-%d: x\r\n" % i for i in range(20_000)) + b"\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["never whole", "one", "many", "path"],
)
def test_headers_are_bounded(connect, head):
    with connect() as client:
        assert b"200 OK" not in sent(client, head)
    with connect() as client:
        assert b"200 OK" in sent(client, REQUEST + b"Connection: close\r\n\r\n")


def test_headers_a_bit_too_large_are_refused_in_words(connect):
    with connect() as client:
        found = sent(client, REQUEST + b"X: " + b"x" * 66_000 + b"\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 431")
    assert b"more than 65536 bytes" in found


def test_what_comes_behind_a_body_is_bounded(connect):
    with connect() as client:
        sent(client, POST + b"1\r\nx\r\n0\r\nX: " + b"x" * 2_000_000)


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        REQUEST,
        b"\r\n",
        REQUEST + b"\r\n" + REQUEST,
        POST + b"5\r\nab",
        POST + b"1\r\nx\r\n0\r\nX: y",
    ],
    ids=["silent", "half head", "line", "half second", "half body", "half trailer"],
)
def test_a_client_that_sends_no_more_is_sent_away(connect, monkeypatch, begun):
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    with connect() as client:
        sent(client, begun)


def test_where_there_are_too_many_the_idlest_make_room(connect, monkeypatch):
    monkeypatch.setattr(connections, "most_connections", lambda: 5)
    with connect() as first, connect(), connect(), connect(), connect(), connect() as last:
        assert sent(first, b"") == b""
        assert b"200 OK" in sent(last, REQUEST + b"Connection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("limits", "raised", "most", "told"),
    [
        ((1_024, 1_024), 1_024, 896, False),
        ((1_024, 1 << 20), 4_224, 4_096, False),
        ((200, 200), 200, 100, True),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), resource.RLIM_INFINITY, 4_096, False),
    ],
)
def test_as_many_connections_as_files_may_be_open(monkeypatch, caplog, limits, raised, most, told):
    now = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, asked: now.append(asked))
    allow_files()
    assert now[-1][0] == raised
    assert most_connections() == most
    assert ("raise `ulimit -n`" in caplog.text) == told
