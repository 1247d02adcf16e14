"""A service with `--redact` holds no address of anybody, wherever a text goes."""

import json
import logging

import pytest

pytest.importorskip("phonenumbers")
pytest.importorskip("stdnum")

PERSONAL = "anna.holm@post.example"
TEXT = f"it wont let me in as {PERSONAL}, call 20 12 34 56"
REDACTED = "it wont let me in as [e-mail], call [phone]"


@pytest.mark.parametrize("redact", [True, False])
def test_texts_are_redacted_before_they_are_logged_ranked_or_stored(
    service, settings, caplog, tmp_path, redact
):
    caplog.set_level(logging.INFO, "twinrank")
    client = service(settings.model_copy(update={"redact": redact, "log_texts": True}))
    one = client.post("/v1/rank", json={"text": TEXT}).json()
    turns = [{"role": "user", "text": TEXT}, {"role": "agent", "text": "I see"}]
    batch = client.post("/v1/rank", json=[{"text": TEXT}, {"turns": turns}]).json()
    plain = client.post("/v1/rank", json={"text": REDACTED}).json()
    scores = [[a["score"] for a in ranking["answers"]] for ranking in (one, batch[0], plain)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    assert (
        scores[0] == pytest.approx(scores[2], rel=1e-4)
    ) == redact  # the ranker reads what is left
    verdict = {"key": "k", "text": TEXT, "answer": one["answers"][0]["id"], "right": True}
    assert client.post("/v1/feedback", json=verdict).status_code == 201
    assert client.post("/v1/feedback", json=verdict).json()["duplicate"]
    (stored,) = client.get("/v1/feedback").json()["verdicts"]
    assert stored["text"] == (REDACTED if redact else TEXT)
    logged = [json.loads(r.message) for r in caplog.records if r.name == "twinrank.access"]
    texts = [text for line in logged for text in line.get("texts", ())]
    turn = f"User: {REDACTED if redact else TEXT}\nAgent: I see"
    assert texts[2] == turn
    figures = client.get("/metrics").text
    assert ('twinrank_redactions_total{kind="e-mail"} 5.0' in figures) == redact
    client.close()
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(PERSONAL.encode() in content for content in files) != redact
    assert (PERSONAL in caplog.text) != redact


def test_answers_keep_their_numbers(service, settings):
    client = service(settings.model_copy(update={"redact": True}))
    answer = {"title": "Call us", "text": "Our number is 20 12 34 56."}
    assert client.put("/v1/answers/new", json=answer).json()["text"] == answer["text"]
