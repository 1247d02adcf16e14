import asyncio
import time
from unittest.mock import Mock

import pytest

from tests.serve.conftest import keys_file
from twinrank.errors import ServeError
from twinrank.serve.live import Live, Opened
from twinrank.serve.server import check
from twinrank.serve.settings import Keys, Settings

QUERY = {"text": "hello", "k": 1, "explain": False}
VERDICT = {"key": "k", "text": "hello", "right": False}


def rank(client, **more):
    return client.post("/v1/rank", json=QUERY, **more)


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def locked(service, settings, tmp_path):
    return service(settings.model_copy(update={"keys": keys_file(tmp_path)}))


@pytest.mark.parametrize(
    ("method", "path", "body", "reader"),
    [
        ("POST", "/v1/rank", QUERY, 200),
        ("GET", "/v1/answers", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/v1/stats", None, 403),
        ("POST", "/v1/feedback", VERDICT, 403),
        ("GET", "/v1/feedback", None, 403),
        ("DELETE", "/v1/feedback/k", None, 403),
        ("PUT", "/v1/answers/new", {"title": "New"}, 403),
        ("DELETE", "/v1/answers/nobody", None, 403),
    ],
)
def test_what_each_role_may_do(locked, method, path, body, reader):
    for key, status in (({}, 401), (bearer("x" * 20), 401), (bearer("r" * 20), reader)):
        reply = locked.request(method, path, json=body, headers=key)
        assert reply.status_code == status, reply.text
        assert ("www-authenticate" in reply.headers) == (status == 401)
    writer = locked.request(method, path, json=body, headers=bearer("w" * 20))
    assert writer.status_code in (200, 201, 404)


def test_pages_and_health_need_no_key(locked):
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/static/docs.js"):
        assert locked.get(path).status_code == 200, path


def test_without_a_key_no_body_is_read(locked):
    assert locked.post("/v1/rank", content=b"x" * 5_000_000).status_code == 401


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("admin " + "k" * 20, "keys:2: not a role and a key"),
        ("read short", "keys:2: not a role and a key"),
        ("read", "keys:2: not a role and a key"),
        ("write " + "a" * 20, "keys:2: this key stands twice"),
    ],
)
def test_a_file_of_keys_with_a_mistake_is_refused(tmp_path, line, what):
    file = tmp_path / "keys"
    file.write_text(f"read {'a' * 20}\n{line}\n")
    with pytest.raises(ServeError, match=what):
        Keys.load(file)


def test_a_file_without_a_key_is_refused(tmp_path):
    (tmp_path / "keys").write_text("# none yet\n")
    with pytest.raises(ServeError, match="no key in it"):
        Keys.load(tmp_path / "keys")
    with pytest.raises(ServeError, match="cannot be read"):
        Keys.load(tmp_path / "missing")


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 0), (0o644, 1), (0o660, 1)])
def test_a_file_of_keys_that_others_may_read_is_warned_of(tmp_path, caplog, mode, warned):
    file = keys_file(tmp_path)
    file.chmod(mode)
    Keys.warn_of_readers(file)
    assert caplog.text.count("chmod 600 it") == warned


def test_keys_are_not_held_as_they_are(tmp_path):
    keys = Keys.load(keys_file(tmp_path))
    assert "rrrr" not in repr(keys)
    assert (keys.role("r" * 20), keys.role("w" * 20), keys.role("r" * 19)) == (
        "read",
        "write",
        None,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_beyond_this_machine_it_needs_keys(settings, host, tmp_path):
    open_ = settings.model_copy(update={"host": host})
    with pytest.raises(ServeError, match="there are no keys; give --keys"):
        check(open_)
    check(open_.model_copy(update={"keys": keys_file(tmp_path)}))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_on_this_machine_it_needs_none(settings, host):
    check(settings.model_copy(update={"host": host}))


def test_a_name_pointed_at_this_machine_is_refused(client):
    """DNS rebinding: a page of evil.example whose name now means 127.0.0.1."""
    reply = rank(client, headers={"Host": "evil.example:8000"})
    assert reply.status_code == 403
    assert rank(client, headers={"Host": "localhost:8000"}).status_code == 200
    assert rank(client, headers={"Host": "[::1]:8000"}).status_code == 200


def test_another_sites_page_cannot_post_or_delete(client):
    evil = {"Origin": "http://evil.example"}
    assert client.delete("/v1/feedback/k", headers=evil).status_code == 403
    assert rank(client, headers={"Origin": "http://evil.example"}).status_code == 403
    assert rank(client, headers={"Origin": "null"}).status_code == 403
    assert rank(client, headers={"Origin": "http://testserver"}).status_code == 200


def test_a_rate_beyond_the_limit_is_refused_with_when_to_come_back(service, settings):
    client = service(settings.model_copy(update={"rate": 3}))
    replies = [rank(client) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429, 429]
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 60
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_each_key_has_a_rate_of_its_own(service, settings, tmp_path):
    limited = settings.model_copy(update={"rate": 2, "keys": keys_file(tmp_path)})
    client = service(limited)
    statuses = [rank(client, headers=bearer(key * 20)).status_code for key in "rrrww"]
    assert statuses == [200, 200, 429, 200, 200]


@pytest.mark.parametrize("said", [True, False])
def test_a_body_beyond_the_limit_is_refused(service, settings, said):
    client = service(settings.model_copy(update={"body_bytes": 1_000}))
    body = b'{"text": "' + b"x" * 2_000 + b'"}'
    header = {"Content-Type": "application/json"}
    reply = client.post("/v1/rank", content=body if said else iter([body]), headers=header)
    assert reply.status_code == 413
    assert reply.json()["detail"]
    assert rank(client).status_code == 200


def test_too_many_that_wait_are_sent_away(service, settings):
    client = service(settings.model_copy(update={"waiting": 2}))
    reply = client.post("/v1/rank", json=[QUERY] * 3)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert client.post("/v1/rank", json=[QUERY] * 2).status_code == 200


def test_what_takes_too_long_is_given_up(service, settings, monkeypatch):
    client = service(settings.model_copy(update={"timeout_s": 0.1}))
    monkeypatch.setattr(Live, "put", lambda self, answer: asyncio.sleep(60))
    began = time.monotonic()
    reply = client.put("/v1/answers/new", json={"title": "New"})
    assert time.monotonic() - began < 10
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")


def test_an_accident_shows_a_client_nothing(client, monkeypatch, caplog):
    monkeypatch.setattr(Opened, "rank", Mock(side_effect=ZeroDivisionError("secret")))
    reply = rank(client)
    assert reply.status_code == 500
    assert reply.headers["x-request-id"] in reply.json()["detail"]
    assert "secret" not in reply.text
    assert "secret" in caplog.text  # but the log has it


@pytest.mark.parametrize("path", ["/docs", "/v1/answers", "/v1/answers/nobody", "/nowhere"])
def test_every_answer_has_the_headers_that_make_it_safe(client, path):
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert len(headers["x-request-id"]) == 32
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/%2e%2e/settings.py",
        "/static/..%2fsettings.py",
        "/static//etc/passwd",
        "/static/swagger/../../core.py",
    ],
)
def test_nothing_beside_the_pages_can_be_fetched(client, path):
    assert client.get(path).status_code in (404, 405)


def test_settings_are_passed_on_whole(tmp_path, monkeypatch):
    settings = Settings(ranker=tmp_path, feedback="x.db", keys=tmp_path / "keys", rate=7)
    monkeypatch.setenv("TWINRANK_SERVE", settings.model_dump_json())
    assert Settings.from_environment() == settings


def test_pages_are_compressed_and_asked_for_anew(client):
    reply = client.get("/static/app.css")
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.headers["cache-control"] == "no-cache"
    tag = {"If-None-Match": reply.headers["etag"]}
    assert client.get("/static/app.css", headers=tag).status_code == 304
