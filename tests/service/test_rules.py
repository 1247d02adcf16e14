"""Pins and synonyms of a running service: read, written, followed, and by whom."""

import time

import pytest

from tests.service.conftest import keys_file
from tests.service.test_guard import bearer
from twinrank.ranking import RULES

PIN = '[[pins]]\nquery = "where is my money"\nanswer = "{}"\n'
ASKED = {"text": "Where is my money?", "k": 3}


def last_of(client):
    return client.post("/v1/rank", json={**ASKED, "k": 100}).json()["answers"][-1]["id"]


def put(client, text, digest=None, **options):
    digest = digest or client.get("/v1/rules", **options).json()["digest"]
    return client.put("/v1/rules", json={"text": text, "digest": digest}, **options)


def wait_for_first(client, id_):
    end = time.monotonic() + 20
    while (first := client.post("/v1/rank", json=ASKED).json()["answers"][0]["id"]) != id_:
        assert time.monotonic() < end, first
        time.sleep(0.1)


def test_a_pin_takes_effect_at_once_and_is_explained(client, folder):
    assert client.get("/v1/rules").json()["text"] == ""
    last = last_of(client)
    reply = put(client, PIN.format(last))
    assert reply.status_code == 200, reply.text
    assert {k: v for k, v in reply.json().items() if k != "digest"} == {
        **{"text": PIN.format(last), "pins": 1, "synonyms": 0, "unknown": []}
    }
    ranking = client.post("/v1/rank", json={**ASKED, "min_confidence": 1.0}).json()
    first, *others = ranking["answers"]
    assert (first["id"], first["pinned"]) == (last, "where is my money")
    assert all(answer["pinned"] is None for answer in others)
    assert first["channels"]
    assert not ranking["ask"]
    assert not ranking["withheld"]
    assert (folder / RULES).read_text() == PIN.format(last)


def test_a_file_that_somebody_edits_is_followed_and_a_broken_one_is_not(client, folder):
    last = last_of(client)
    (folder / RULES).write_text(PIN.format(last))
    wait_for_first(client, last)
    (folder / RULES).write_text("[[pins")
    time.sleep(2.5)  # it is looked at each second
    assert client.post("/v1/rank", json=ASKED).json()["answers"][0]["id"] == last
    id_ = client.get("/v1/answers").json()["answers"][0]["id"]
    assert client.delete(f"/v1/answers/{id_}").status_code == 204  # answers can be changed
    assert put(client, "").status_code == 200  # and the file mended
    assert client.post("/v1/rank", json=ASKED).json()["answers"][0]["pinned"] is None


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [
        ("[[pins", 422, "rules.toml: not valid TOML"),
        ("[[pins]]\nquery = 'x'\n", 422, "pins.0.answer: Field required"),
        ("\x00", 422, "NUL"),
    ],
)
def test_what_is_no_rule_is_refused(client, folder, text, status, detail):
    reply = put(client, text)
    assert reply.status_code == status
    assert detail in reply.json()["detail"]
    assert not (folder / RULES).exists()


def test_a_file_that_is_no_text_is_said_to_be_unreadable(client, folder):
    (folder / RULES).write_bytes(b"# caf\xe9")
    for reply in (client.get("/v1/rules"), put(client, "#", "x")):
        assert reply.status_code == 503
        assert "cannot be read" in reply.json()["detail"]
    assert client.post("/v1/rank", json=ASKED).status_code == 200


def test_what_somebody_else_wrote_is_not_overwritten(client, folder):
    digest = client.get("/v1/rules").json()["digest"]
    (folder / RULES).write_text("# hers\n")
    assert put(client, "# his\n", digest).status_code == 409
    assert (folder / RULES).read_text() == "# hers\n"


def test_pinned_answers_that_are_not_there_are_named(client):
    assert put(client, PIN.format("gone")).json()["unknown"] == ["gone"]


def test_rules_take_the_role_write_without_a_filter(service, settings, tmp_path):
    file = keys_file(tmp_path)
    file.write_text(f"{file.read_text()}write {'b' * 20} brand=acme\n")
    client = service(settings.model_copy(update={"keys": file}))
    digest = client.get("/v1/rules", headers=bearer("w" * 20)).json()["digest"]
    for key in ("r" * 20, "f" * 20, "b" * 20):
        assert client.get("/v1/rules", headers=bearer(key)).status_code == 403
        assert put(client, "#", digest, headers=bearer(key)).status_code == 403
    assert put(client, "#", headers=bearer("w" * 20)).status_code == 200
