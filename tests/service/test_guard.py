"""Who may ask what, how much, and what every answer has."""

import asyncio
from contextlib import nullcontext
from unittest.mock import Mock

import pytest

from tests.service.conftest import keys_file, opened
from twinrank.errors import ServeError
from twinrank.service.access import ROLES, Keys
from twinrank.service.live_ranker import LiveRanker, LoadedRanker
from twinrank.service.server import check

QUERY = {"text": "hello", "k": 1, "explain": False}
RERANK = {"query": "hello", "documents": ["hello"]}
EMBED = {"input": "hello", "model": "query"}
VERDICT = {"key": "k", "text": "hello", "right": False}


def rank(client, **more):
    return client.post("/v1/rank", json=QUERY, **more)


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def locked(trained, tmp_path_factory):
    """The client of a service with keys, that several tests share."""
    home = tmp_path_factory.mktemp("locked")
    with opened(trained, home, keys=keys_file(home)) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body", "role"),
    [
        ("POST", "/v1/rank", QUERY, "read"),
        ("POST", "/v1/rerank", RERANK, "read"),
        ("POST", "/v2/rerank", RERANK, "read"),
        ("POST", "/v1/embeddings", EMBED, "read"),
        ("HEAD", "/v1/answers", None, "read"),
        ("GET", "/metrics", None, "read"),
        ("HEAD", "/v1/stats", None, "write"),
        ("GET", "/v1/gaps", None, "write"),
        ("POST", "/v1/feedback", VERDICT, "feedback"),
        ("DELETE", "/v1/feedback/k", None, "feedback"),
        ("GET", "/v1/feedback", None, "write"),
        ("PUT", "/v1/answers/new", {"title": "New"}, "write"),
        ("DELETE", "/v1/answers/nobody", None, "write"),
        ("POST", "/v1/answers/nobody/restore", None, "write"),
        ("DELETE", "/v1/answers/v1/feedback/", None, "write"),
        ("GET", "/v1/misses", None, "write"),
        ("GET", "/v1/learning", None, "write"),
        ("POST", "/v1/learning/rollback?version=x", None, "write"),
    ],
)
def test_each_role_may_do_its_part(locked, method, path, body, role):
    for key in ({}, bearer("x" * 20)):
        reply = locked.request(method, path, json=body, headers=key)
        assert (reply.status_code, "www-authenticate" in reply.headers) == (401, True)
    for other in ROLES:
        reply = locked.request(method, path, json=body, headers=bearer(other[0] * 20))
        may = ROLES.index(other) >= ROLES.index(role)
        assert (reply.status_code != 403) == may, reply.text


def test_pages_and_probes_need_no_key_and_without_one_no_body_is_read(locked):
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/static/docs.js"):
        assert locked.get(path).status_code == 200, path
    assert locked.post("/v1/rank", content=b"x" * 5_000_000).status_code == 401


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (f"#\nadmin {'k' * 20}", "keys:2: not a role and a key"),
        (f"#\nread {'k' * 20} two words", "keys:2: not a role and a key"),
        ("#\nread short", "keys:2: not a role and a key"),
        (f"read {'a' * 20}\nwrite {'a' * 20}", "keys:2: this key stands twice"),
        ("# none yet\n", "no key in it"),
        (f"read {'a' * 20}\n".encode("utf-16"), "cannot be read as UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_keys_with_a_mistake_is_refused(tmp_path, content, fault):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ServeError, match=fault):
        Keys(file)


def test_a_file_of_keys_has_several_of_each_role_with_names(tmp_path):
    lines = [f"read {'a' * 20}", f"feedback {'b' * 20} anna  # old", f"feedback {'c' * 20} anna"]
    lines.append(f"read {'d' * 16}#1 eve")
    (tmp_path / "keys").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    keys = Keys(tmp_path / "keys")
    assert [keys.find(k * 20).role for k in "abc"] == ["read", "feedback", "feedback"]
    assert [keys.find(k * 20).name for k in "bc"] == ["anna", "anna"]
    assert keys.find(f"{'d' * 16}#1").name == "eve"
    assert keys.find("a" * 19) is None
    assert "aaaa" not in repr(vars(keys))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 0), (0o644, 1), (0o660, 1)])
def test_a_file_of_keys_that_others_may_read_is_warned_of(tmp_path, caplog, mode, warned):
    file = keys_file(tmp_path)
    file.chmod(mode)
    Keys(file)
    assert caplog.text.count("chmod 600 it") == warned


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *((host, False) for host in ("0.0.0.0", "::", "192.0.2.1", "example.org")),  # noqa: S104
        *((host, True) for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8")),
    ],
)
def test_beyond_this_machine_it_needs_keys(settings, host, local, tmp_path):
    without_keys = settings.model_copy(update={"host": host})
    with nullcontext() if local else pytest.raises(ServeError, match="there are no keys; give"):
        check(without_keys)
    check(without_keys.model_copy(update={"keys": keys_file(tmp_path)}))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:8000"}, 403),  # DNS rebinding: its name now means 127.0.0.1
        ({"Host": "testserver"}, 403),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "["}, 400),
        ({"Origin": "http://["}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"X-Forwarded-For": "203.0.113.5"}, 403),
        ({"Forwarded": "203.0.113.5"}, 403),
        ({"Via": "203.0.113.5"}, 403),
        ({"CF-Connecting-IP": "203.0.113.5"}, 403),
    ],
    ids=str,
)
def test_without_keys_other_sites_and_proxies_are_refused(reader, locked, headers, status):
    assert rank(reader, headers=headers).status_code == status
    page = 200 if "Origin" in headers and status == 403 else status  # it changes nothing
    assert reader.get("/", headers=headers).status_code == page
    if status == 403:
        assert rank(locked, headers={**headers, **bearer("r" * 20)}).status_code == 200


@pytest.mark.parametrize("allowed", [(), ("https://desk.example",), ("*",)])
def test_other_sites_pages_may_ask_only_if_a_setting_says_so(service, settings, tmp_path, allowed):
    keys = keys_file(tmp_path)
    client = service(settings.model_copy(update={"keys": keys, "origins": allowed}))
    origin = {"Origin": "https://desk.example"}
    wanted = {"Access-Control-Request-Method": "PUT"}
    before = client.options("/v1/answers/x", headers={**origin, **wanted})
    assert (before.status_code == 200) == bool(allowed)
    for reply in (before, rank(client, headers=origin)):  # a refusal can be read, too
        assert ("access-control-allow-origin" in reply.headers) == bool(allowed)
    other = rank(client, headers={"Origin": "https://evil.example"}).headers
    assert ("access-control-allow-origin" in other) == (allowed == ("*",))


def test_an_allowed_origin_may_change_without_keys(service, settings):
    client = service(settings.model_copy(update={"origins": ("http://localhost:3000",)}))
    assert rank(client, headers={"Origin": "http://localhost:3000"}).status_code == 200
    assert rank(client, headers={"Origin": "http://localhost:3001"}).status_code == 403


@pytest.mark.parametrize("origin", ["*", "desk.example", "https://desk.example/", "http://["])
def test_an_origin_that_cannot_be_is_refused(settings, origin):
    with pytest.raises(ServeError, match="--origin"):
        check(settings.model_copy(update={"origins": (origin,)}))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/docs", "/static/app.css"])
def test_probes_ask_by_any_means(reader, path):
    head = reader.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == reader.get(path).headers["content-length"]
    for method in ("GET", "HEAD", "OPTIONS"):
        assert reader.request(method, path, headers={"Host": ""}).status_code == 200


def test_a_rate_beyond_the_limit_is_refused_with_when_to_come_back(service, settings, tmp_path):
    client = service(settings.model_copy(update={"rate": 2, "keys": keys_file(tmp_path)}))
    replies = [rank(client, headers=bearer(key * 20)) for key in "rrrww"]  # each key has its own
    assert [reply.status_code for reply in replies] == [200, 200, 429, 200, 200]
    assert 1 <= int(replies[2].headers["retry-after"]) <= 60
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/rank", [QUERY] * 3),
        ("POST", "/v1/rank", {**QUERY, "text": "hello " * 400}),
        ("POST", "/v1/rank", {**QUERY, "k": 2, "passage": "answer"}),
        ("POST", "/v2/rerank", {**RERANK, "documents": ["hello"] * 2}),
        ("POST", "/v1/embeddings", {**EMBED, "input": ["hello"] * 3}),
        ("POST", "/v1/feedback", {**VERDICT, "text": "hello " * 400}),
        ("PUT", "/v1/answers/new", {"title": "New", "sections": [{"text": "hello " * 400}]}),
    ],
)
def test_a_rate_counts_queries_and_characters(service, settings, method, path, body):
    client = service(settings.model_copy(update={"rate": 4}))
    never = client.post("/v1/rank", json=[QUERY] * 5)
    assert never.status_code == 422
    assert "counts as 5 requests, and 4 a minute" in never.text
    replies = [client.request(method, path, json=body) for _ in range(2)]
    assert [reply.status_code // 100 for reply in replies] == [2, 4]
    assert replies[1].status_code == 429


def test_pages_have_a_rate_of_their_own(service, settings, monkeypatch):
    monkeypatch.setattr("twinrank.service.guard.PAGE_FILES_PER_MINUTE", 3)
    client = service(settings.model_copy(update={"rate": 1}))
    paths = ("/", "/docs", "/openapi.json", *["/static/app.css"] * 4)  # a new minute may begin
    statuses = [client.get(path).status_code for path in paths]
    assert statuses[:3] == [200, 200, 200]
    assert 429 in statuses[3:]
    assert rank(client).status_code == client.get("/healthz").status_code == 200


@pytest.mark.parametrize("said", [True, False])
def test_a_body_beyond_the_limit_is_refused(service, settings, said):
    client = service(settings.model_copy(update={"body_bytes": 1_000}))
    body = b'{"text": "' + b"x" * 2_000 + b'"}'
    header = {"Content-Type": "application/json"}
    reply = client.post("/v1/rank", content=body if said else iter([body]), headers=header)
    assert reply.status_code == 413
    assert rank(client).status_code == 200


def test_too_many_that_wait_are_sent_away(service, settings):
    client = service(settings.model_copy(update={"waiting": 2}))
    reply = client.post("/v1/rank", json=[QUERY] * 3)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert client.post("/v1/rank", json=[QUERY] * 2).status_code == 200


def test_a_request_that_takes_too_long_is_given_up(service, settings, monkeypatch):
    client = service(settings.model_copy(update={"timeout_s": 0.1}))
    monkeypatch.setattr(LiveRanker, "put", lambda *_: asyncio.Event().wait())
    reply = client.put("/v1/answers/new", json={"title": "New"})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")


def test_an_accident_shows_a_client_nothing(client, monkeypatch, caplog):
    monkeypatch.setattr(LoadedRanker, "rank", Mock(side_effect=ZeroDivisionError("secret")))
    reply = rank(client)
    assert reply.status_code == 500
    assert reply.headers["x-request-id"] in reply.json()["detail"]
    assert "secret" not in reply.text
    assert "secret" in caplog.text  # but the log has it


@pytest.mark.parametrize("path", ["/docs", "/v1/answers", "/v1/answers/nobody", "/nowhere"])
def test_every_answer_has_the_headers_that_make_it_safe(reader, path):
    headers = reader.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert len(headers["x-request-id"]) == 32


def test_behind_the_proxy_of_a_cluster_a_request_keeps_its_id(service, settings, caplog):
    caplog.set_level("INFO", "twinrank.access")
    given = {"X-Request-ID": "the-proxys"}
    for proxied in (True, False):
        client = service(settings.model_copy(update={"proxied": proxied}))
        reply = rank(client, headers=given)
        assert ("x-request-id" in reply.headers) is not proxied  # else there would be two
        assert ('"request": "the-proxys"' in caplog.text) is proxied
        caplog.clear()
