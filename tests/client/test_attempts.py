"""When a request is tried again, and what is said in the end."""

import asyncio
import inspect
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asynchronous import run
from twinrank import AsyncClient, Client
from twinrank.client import ClientError, requests
from twinrank.client.requests import (
    BATCH_BYTES,
    MAX_CONNECTIONS,
    Attempts,
    Request,
    Service,
    make_batches,
)
from twinrank.service.schemas import MAX_BATCH_QUERIES

URL = "http://service.example"
READY = (200, {"ready": True, "ranker": "r", "answers": 3})
RANKING = {"answers": [], "confidence": None, "withheld": False, "ranker": "r"}
ASKED = Request("GET", "/readyz")


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(requests, "FIRST_PAUSE_S", 0.01)


def response(status, content, headers=None):
    """As `Script` answers it."""
    kind = {"text": content} if isinstance(content, str) else {"json": content}
    return httpx.Response(status, headers=headers, **kind)


class Script:
    """What becomes of one request after another; notes what was sent."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.sent = []

    def __call__(self, request):
        self.sent.append(request)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return response(*outcome)

    @property
    def transport(self):
        return httpx.MockTransport(self)


def refused(status, detail="no", **headers):
    return status, {"detail": detail}, headers


LOST = [
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("disconnected"),
    httpx.ConnectTimeout("slow"),
]


@pytest.mark.parametrize("lost", LOST, ids=lambda error: type(error).__name__)
def test_a_lost_connection_is_tried_again(made, lost):
    script = Script(lost, lost, READY)
    assert made(URL, lambda c: c.ready(), transport=script.transport).answers == 3
    assert len(script.sent) == 3


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_passes_is_waited_for(made, status):
    script = Script(refused(status), READY)
    assert made(URL, lambda c: c.ready(), transport=script.transport).ready


def test_an_answer_that_broke_off_behind_a_proxy_is_tried_again(made):
    script = Script((500, "Internal Server Error"), READY)
    assert made(URL, lambda c: c.ready(), transport=script.transport).ready


def test_retry_after_is_honoured(made):
    script = Script(refused(503, **{"Retry-After": "1"}), READY)
    began = time.monotonic()
    assert made(URL, lambda c: c.ready(), transport=script.transport).ready
    assert 1.0 <= time.monotonic() - began < 5.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 413, 415, 422, 500])
def test_what_does_not_pass_is_not_tried_again(made, status):
    script = Script(refused(status, "that is wrong", **{"X-Request-ID": "abc"}))
    with pytest.raises(ClientError) as caught:
        made(URL, lambda c: c.rank("x"), transport=script.transport)
    assert len(script.sent) == 1
    assert str(caught.value) == f"that is wrong (HTTP {status}, request abc)"


def test_retries_end(made):
    script = Script(*[refused(503, "too much at once")] * 9)
    with pytest.raises(ClientError, match="too much at once"):
        made(URL, lambda c: c.ready(), transport=script.transport, retries=2)
    assert len(script.sent) == 3


def test_nobody_waits_longer_than_there_is_time(made):
    script = Script(refused(429, "try again in 40 s", **{"Retry-After": "40"}))
    began = time.monotonic()
    with pytest.raises(ClientError, match="try again in 40 s") as caught:
        made(URL, lambda c: c.rank("x"), transport=script.transport, timeout=2)
    assert time.monotonic() - began < 1
    assert caught.value.status == 429


def test_a_retry_sends_the_same_again(made):
    script = Script(LOST[1], (201, {"key": "k", "stored": True, "duplicate": False}))
    made(URL, lambda c: c.feedback("x", right=False), transport=script.transport)
    first, second = (request.content for request in script.sent)
    assert first == second
    assert b'"key":"' in first


@pytest.mark.parametrize("first", [LOST[1], refused(504), refused(503)], ids=["lost", "504", "503"])
def test_what_an_earlier_attempt_may_have_deleted_is_deleted(made, first):
    script = Script(first, refused(404, "there is no answer 'a'"))
    assert made(URL, lambda c: c.delete_answer("a"), transport=script.transport) is None


@pytest.mark.parametrize("before", [[], [refused(429)]], ids=["first", "refused"])
def test_what_was_never_there_is_not_deleted(made, before):
    script = Script(*before, refused(404, "there is no answer 'a'"))
    with pytest.raises(ClientError, match="no answer 'a'"):
        made(URL, lambda c: c.delete_answer("a"), transport=script.transport)


def test_no_service_is_said_with_its_address(made):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ClientError) as caught:  # closed again: nobody listens
        made(f"http://127.0.0.1:{port}", lambda c: c.ready())
    assert str(caught.value).startswith(f"http://127.0.0.1:{port} cannot be reached (")
    assert "twinrank serve" in str(caught.value)
    assert caught.value.status is None


def test_a_silent_service_is_given_up_in_time(made):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(ClientError, match=r"did not answer within 0\.5 s"):
            made(f"http://127.0.0.1:{port}", lambda c: c.ready(), timeout=0.5)
        assert 0.5 <= time.monotonic() - began < 3


def test_connections_that_break_are_made_anew(made):
    """A real server that hangs up twice before it answers."""
    answer = b'{"ready": true, "ranker": "r", "answers": 3}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            for number in range(3):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    if number == 2:
                        connection.sendall(head % len(answer) + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        assert made(f"http://127.0.0.1:{port}", lambda c: c.ready()).answers == 3
        thread.join(10)


def test_many_calls_share_some_connections():
    """All at once would keep httpx busy with who gets which."""
    under_way, most = 0, 0

    async def answer(_):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return response(200, RANKING)

    async def asked():
        async with AsyncClient(URL, transport=httpx.MockTransport(answer)) as client:
            return await asyncio.gather(*[client.rank("x") for _ in range(200)])

    assert len(run(asked())) == 200
    assert most == MAX_CONNECTIONS


STRANGERS = {
    "page": ((200, "<html>hello</html>"), "does not answer as twinrank"),
    "other": ((200, {"ok": True}), "does not answer as twinrank"),
    "broken": ((500, "<h1>oops</h1>"), "500 Internal Server Error"),
    "odd": ((599, ["?"]), "answered 599"),
    "nowhere": ((300, "choose"), "answered 300"),
    "moved": ((308, "", {"Location": "https://new.example/"}), "has moved to"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_another_server_is_told_from_a_service(made, name):
    answered, said = STRANGERS[name]
    with pytest.raises(ClientError, match=said) as caught:
        made(URL, lambda c: c.ready(), transport=Script(answered).transport)
    assert "service.example" in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000", "", "ftp://x", "http://", "/v1"])
def test_an_address_that_is_none_is_said_at_once(url):
    for kind in (Client, AsyncClient):
        with pytest.raises(ClientError, match="no service's address"):
            kind(url)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"retries": -1}, {"key": "a b"}, {"key": "é"}])
def test_settings_that_cannot_be_are_said_at_once(options):
    for kind in (Client, AsyncClient):
        with pytest.raises(ClientError):
            kind(URL, **options)


def test_a_key_is_never_shown():
    with pytest.raises(ClientError) as caught:
        Client(URL, "secret word")
    assert "secret" not in str(caught.value)
    assert "s3cret" not in repr(vars(Client(URL, "s3cret")))


ODD = {
    "empty id": lambda c: c.answer(""),
    "empty key": lambda c: c.take_back(""),
    "no text in a key": lambda c: c.take_back("\ud800"),
    "no text in an id": lambda c: c.answer("\ud800"),
    "no text": lambda c: c.rank("\ud800"),
    "no words": lambda c: c.find_answers("\ud800"),
    "too long": lambda c: c.find_answers("x" * 100_000),
}


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_sent_is_said(made, name):
    with pytest.raises(ClientError):
        made(URL, ODD[name], transport=Script().transport)


def test_an_address_that_is_none_is_said_without_its_password():
    with pytest.raises(ClientError, match="no service's address") as caught:
        Client("htp://me:s3cret@host")
    assert "s3cret" not in str(caught.value)


def test_a_service_below_a_path(made):
    script = Script((200, RANKING))
    made(f"{URL}/help/", lambda c: c.rank("x"), transport=script.transport)
    assert script.sent[0].url == f"{URL}/help/v1/rank"


@given(
    st.lists(st.tuples(st.sampled_from([429, 502, 503, 504]), st.integers(0, 20))),
    st.integers(0, 6),
    st.floats(0.1, 60),
)
def test_pauses_are_bounded(told, retries, timeout_s):
    course, waited, made_ = Attempts(ASKED, Service(URL, None, timeout_s, retries)), 0.0, 0
    for status, seconds in told:
        pause = course.pause_s(response(*refused(status, **{"Retry-After": f"{seconds}"})))
        if pause is None:
            break
        assert seconds < pause < timeout_s
        waited, made_ = waited + pause, made_ + 1
    assert made_ <= retries


@pytest.mark.parametrize("said", ["soon", "", "-1", "1.5", "Wed, 99 Foo"])
def test_a_retry_after_that_says_nothing_is_as_none(said):
    pause = Attempts(ASKED, Service(URL, None, 30, 1)).pause_s(
        response(*refused(503, **{"Retry-After": said}))
    )
    assert 0 < pause < 1


@pytest.mark.parametrize(("ahead", "least", "most"), [(5, 3.5, 6), (-100, 0, 1)])
def test_a_retry_after_may_be_a_date(ahead, least, most):
    date = formatdate(time.time() + ahead, usegmt=True)
    pause = Attempts(ASKED, Service(URL, None, 30, 1)).pause_s(
        response(*refused(503, **{"Retry-After": date}))
    )
    assert least < pause < most


@given(st.lists(st.sampled_from([1, 1000, BATCH_BYTES // 3, BATCH_BYTES * 2])))
def test_batches_hold_all_in_order_and_no_more_than_they_may(sizes):
    items = [b"%d" % place + b"x" * size for place, size in enumerate(sizes)]
    batches = list(make_batches(items))
    assert [item for batch in batches for item in batch] == items
    for batch in batches:
        assert 1 <= len(batch) <= MAX_BATCH_QUERIES
        assert len(batch) == 1 or sum(map(len, batch)) <= BATCH_BYTES


def test_both_clients_can_do_the_same():
    names = {name for name in vars(Client) if not name.startswith("_")}
    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")}
    for name in names:
        one, other = getattr(Client, name), getattr(AsyncClient, name)
        assert one.__doc__ and other.__doc__
        ours, theirs = (inspect.signature(method).parameters for method in (one, other))
        assert ours == theirs
    assert inspect.iscoroutinefunction(AsyncClient.rank)
    assert "query" in inspect.signature(Client(URL).rank).parameters


@pytest.mark.parametrize(
    ("module", "absent", "extra"),
    [
        ("twinrank.client", "httpx", "client"),
        ("twinrank.client.langchain", "langchain_core", "langchain"),
        ("twinrank.client.haystack", "haystack", "haystack"),
    ],
)
def test_an_absent_library_is_said_with_the_extra(module, absent, extra):
    code = f"import sys; sys.modules[{absent!r}] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'twinrank[{extra}]'" in done.stderr.splitlines()[-1]
