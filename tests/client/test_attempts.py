"""When a request is tried again, and what is said in the end."""

import asyncio
import inspect
import socket
import subprocess
import sys
import time

import httpx
import pytest

from tests.asynchronous import run
from twinrank import AsyncClient, Client
from twinrank.client import ClientError, client
from twinrank.client.client import MAX_CONNECTIONS

URL = "http://service.example"
READY = (200, {"ready": True, "ranker": "r", "answers": 3})
RANKING = {"answers": [], "confidence": None, "withheld": False, "ranker": "r"}
LOST = [
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("disconnected"),
    httpx.ConnectTimeout("slow"),
]


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)


def response(status, content, headers=None):
    """As `Script` answers it."""
    kind = {"text": content} if isinstance(content, str) else {"json": content}
    return httpx.Response(status, headers=headers, **kind)


class Script:
    """What becomes of one request after another; notes what was sent."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.sent = []
        self.transport = httpx.MockTransport(self)

    def __call__(self, request):
        self.sent.append(request)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return response(*outcome)


def refused(status, detail="no", **headers):
    return status, {"detail": detail}, headers


PASSING = [*LOST, *map(refused, [429, 502, 503, 504]), (500, "Internal Server Error")]


@pytest.mark.parametrize("outcome", PASSING, ids=str)
def test_a_passing_failure_is_tried_again(made, outcome):
    script = Script(outcome, outcome, READY)
    assert made(URL, lambda c: c.ready(), transport=script.transport).answers == 3
    assert len(script.sent) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
def test_another_failure_is_not_tried_again(made, status):
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


def test_no_service_is_said_with_its_address(made):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ClientError, match="twinrank serve") as caught:  # nobody listens any more
        made(url, lambda c: c.ready())
    assert str(caught.value).startswith(f"{url} cannot be reached (")


def test_a_silent_service_is_given_up_in_time(made):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(ClientError, match=r"did not answer within 0\.5 s"):
            made(f"http://127.0.0.1:{port}", lambda c: c.ready(), timeout=0.5)
        assert 0.5 <= time.monotonic() - began < 3


def test_many_calls_share_some_connections():
    under_way, most = 0, 0

    async def answer(_):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return response(200, RANKING)

    async def ask():
        async with AsyncClient(URL, transport=httpx.MockTransport(answer)) as asking:
            return await asyncio.gather(*[asking.rank("x") for _ in range(200)])

    assert len(run(ask())) == 200
    assert most == MAX_CONNECTIONS


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ((200, "<html>hello</html>"), "does not answer as twinrank"),
        ((200, {"ok": True}), "does not answer as twinrank"),
        ((500, "<h1>oops</h1>"), "500 Internal Server Error"),
        ((599, ["?"]), "answered 599"),
        ((308, "", {"Location": "https://new.example/"}), "answered 308"),
    ],
)
def test_another_server_is_told_from_a_service(made, reply, fault):
    with pytest.raises(ClientError, match=fault) as caught:
        made(URL, lambda c: c.ready(), transport=Script(reply).transport)
    assert "service.example" in str(caught.value)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "options"),
    [
        *((url, {}) for url in ("localhost:8000", "", "ftp://x", "http://", "htp://me:s3cret@x")),
        *((URL, {"timeout": 0}), (URL, {"retries": -1})),
        *((URL, {"key": key}) for key in ("s3cret a", "é", "")),
    ],
)
def test_settings_that_cannot_be_are_said_at_once_without_secrets(kind, url, options):
    with pytest.raises(ClientError) as caught:
        kind(url, **options)
    assert "s3cret" not in str(caught.value)


ODD = {
    "empty id": lambda c: c.answer(""),
    "no text in a key": lambda c: c.take_back("\ud800"),
    "no text": lambda c: c.rank("\ud800"),
    "no words": lambda c: c.find_answers("\ud800"),
    "too long": lambda c: c.find_answers("x" * 100_000),
}


@pytest.mark.parametrize("name", ODD)
def test_a_call_that_cannot_be_sent_is_refused(made, name):
    with pytest.raises(ClientError):
        made(URL, ODD[name], transport=Script().transport)


def test_a_service_below_a_path(made):
    script = Script((200, RANKING))
    made(f"{URL}/help/", lambda c: c.rank("x"), transport=script.transport)
    assert script.sent[0].url == f"{URL}/help/v1/rank"


def test_both_clients_can_do_the_same():
    names = {name for name in vars(Client) if not name.startswith("_")}
    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")}
    for name in names:
        one, other = getattr(Client, name), getattr(AsyncClient, name)
        assert one.__doc__ and other.__doc__
        assert inspect.signature(one).parameters == inspect.signature(other).parameters
    assert inspect.iscoroutinefunction(AsyncClient.rank)
    assert "query" in inspect.signature(Client(URL).rank).parameters


@pytest.mark.parametrize(
    ("module", "name", "absent", "extra"),
    [
        ("client", "Client", "httpx", "client"),
        ("client.retrievers", "LangChainRetriever", "langchain_core", "langchain"),
        ("client.retrievers", "LlamaIndexRetriever", "llama_index", "llamaindex"),
        ("client.retrievers", "HaystackRetriever", "haystack", "haystack"),
    ],
)
def test_an_absent_library_is_said_with_the_extra(module, name, absent, extra):
    code = f"import sys; sys.modules[{absent!r}] = None; from twinrank.{module} import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'twinrank[{extra}]'" in done.stderr.splitlines()[-1]
