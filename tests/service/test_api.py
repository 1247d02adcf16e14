import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from threading import Event
from unittest.mock import Mock
from urllib.parse import quote

import pytest

from tests.processes import until
from tests.ranker_files import edit_manifest
from tests.service.conftest import keys_file
from twinrank.encoding import RecentFeatures
from twinrank.errors import FeedbackError
from twinrank.feedback.database import Feedback
from twinrank.ranking import CURRENT, Learned, Ranker
from twinrank.service import live_ranker, prometheus
from twinrank.service.logs import log_as_json
from twinrank.training import train

TEXT = "it wont let me in again"
NEW = {"title": "Zeppelins", "text": "Moor your zeppelin with a rope."}


def rank(client, body):
    reply = client.post("/v1/rank", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_ranking_is_the_rankers_own(client, folder):
    ranking = rank(client, {"text": TEXT, "k": 4})
    (expected,) = Ranker.load(folder).rank(TEXT, 4)
    assert [a["id"] for a in ranking["answers"]] == [a.id for a in expected]
    for got, answer in zip(ranking["answers"], expected, strict=True):
        assert (got["rank"], got["title"]) == (answer.rank, answer.title)
        assert got["score"] == pytest.approx(answer.score, rel=1e-5)
        assert got["confidence"] == pytest.approx(answer.confidence, rel=1e-4)
        assert sum(got["channels"].values()) == pytest.approx(got["score"], rel=1e-5)
        assert got["sentence"]
    assert ranking["confidence"] == ranking["answers"][0]["confidence"]
    assert not ranking["withheld"]


def test_turns_are_read_as_data_sets_write_them(reader):
    turns = [{"role": "user", "text": "hello"}, {"role": "agent", "text": "hi"}]
    written = rank(reader, {"text": "User: hello\nAgent: hi"})
    assert rank(reader, {"turns": turns}) == written
    assert rank(reader, {"turns": [{"text": "hello"}, turns[1]]}) == written


def test_a_batch_is_a_list_of_what_each_alone_gives(reader):
    queries = [{"text": TEXT, "k": 2}, {"text": "the refund", "explain": False}]
    together = rank(reader, queries)
    for got, query in zip(together, queries, strict=True):
        alone = rank(reader, query)
        assert [a["id"] for a in got["answers"]] == [a["id"] for a in alone["answers"]]
        assert got["confidence"] == pytest.approx(alone["confidence"], rel=1e-4)
    assert [len(each["answers"]) for each in together] == [2, 5]
    assert together[1]["answers"][0]["channels"] is None


def test_an_answer_too_unlikely_is_withheld(reader):
    sure = rank(reader, {"text": TEXT})["confidence"]
    silent = rank(reader, {"text": TEXT, "min_confidence": min(1, sure * 1.01)})
    assert (silent["answers"], silent["withheld"]) == ([], True)
    assert silent["confidence"] == pytest.approx(sure)
    assert not rank(reader, {"text": TEXT, "min_confidence": sure * 0.99})["withheld"]


def test_a_query_that_says_too_little_gets_a_question_back(reader, folder, help_centre):
    ranker = Ranker.load(folder)
    texts = help_centre.split("test").texts[::10]
    expected = [ranker.clarify(ranking, below=1.0) for ranking in ranker.rank(texts, 5)]
    assert {0, 3} <= set(map(len, expected))
    for text, options in zip(texts, expected, strict=True):
        body = {"text": text, "k": 1, "ask_below": 1}
        ask = rank(reader, body)["ask"]
        assert [(o["id"], tuple(o["terms"])) for o in ask] == [(o.id, o.terms) for o in options]
        withheld = rank(reader, body | {"min_confidence": 1})
        assert (withheld["answers"], withheld["ask"]) == ([], ask)
        assert rank(reader, body | {"ask_below": 0})["ask"] == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "give either text or turns"),
        ({"text": " \n"}, "text: is empty"),
        ({"turns": []}, "turns: List should have at least 1 item"),
        ({"turns": [{"role": "a:b", "text": "hi"}]}, "turns.0.role: "),
        ({"text": "x" * 50_001}, "text: String should have at most 50000"),
        ({"turns": [{"text": "x" * 30_000}] * 2}, "turns have more than 50,000"),
        ({"text": TEXT, "k": 101}, "k: Input should be less than or equal to 100"),
        ({"text": TEXT, "ask_below": 1.1}, "ask_below: Input should be less than or equal to 1"),
        ({"text": TEXT, "kk": 3}, "kk: Extra inputs are not permitted"),
        ({"text": "nul \x00"}, "text: holds a NUL character"),
        ([{"text": TEXT}] * 65, "List should have at most 64 items"),
        ([{"text": TEXT}, {"text": ""}], "1.text: "),
    ],
)
def test_what_is_wrong_with_a_query_is_said_in_a_line(reader, body, detail):
    reply = reader.post("/v1/rank", json=body)
    assert reply.status_code == 422
    assert reply.json()["detail"].startswith(detail)
    assert "\n" not in reply.json()["detail"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "detail"),
    [
        ('{"text": "a", "min_confidence": NaN}', "application/json", 422, "min_confidence: "),
        (r'{"text": "\ud800"}', "application/json", 422, ""),
        ('{"text": "a', "application/json", 422, "JSON"),
        ("text=a", "application/x-www-form-urlencoded", 415, "application/json"),
    ],
)
def test_a_body_that_is_no_good_json_is_refused(reader, body, content_type, status, detail):
    header = {"Content-Type": content_type}
    reply = reader.post("/v1/rank", content=body.encode(), headers=header)
    assert reply.status_code == status
    assert detail in reply.json()["detail"]


def test_a_new_answer_is_ranked_at_once_and_kept(client, folder):
    before = client.get("/readyz").json()
    assert client.put("/v1/answers/new", json=NEW).status_code == 201
    found = rank(client, {"text": "moor a zeppelin with a rope", "k": 3})["answers"]
    assert "new" in [answer["id"] for answer in found]
    assert client.get("/v1/answers/new").json() == {
        "id": "new",
        "url": None,
        "sections": [],
        "metadata": {},
        **NEW,
    }
    after = client.get("/readyz").json()
    assert after["answers"] == before["answers"] + 1
    assert after["ranker"] != before["ranker"]
    assert "new" in Ranker.load(folder).answers["id"]
    assert client.delete("/v1/answers/new").status_code == 204
    assert client.get("/v1/answers/new").status_code == 404
    assert "new" not in Ranker.load(folder).answers["id"]


@pytest.mark.parametrize(
    "place", ["local", pytest.param("{tmp}/answers.db", marks=pytest.mark.slow)]
)
def test_by_an_index_it_ranks_and_changes_as_without(service, settings, tmp_path, place):
    expected = rank(service(settings), {"text": TEXT})["answers"]
    indexed = settings.model_copy(update={"index": place.format(tmp=tmp_path)})
    client = service(indexed)
    found = rank(client, {"text": TEXT})["answers"]
    assert [a["id"] for a in found] == [a["id"] for a in expected]
    assert client.put("/v1/answers/new", json=NEW).status_code == 201
    found = rank(client, {"text": "moor a zeppelin with a rope", "k": 3})["answers"]
    assert "new" in [answer["id"] for answer in found]
    assert client.delete("/v1/answers/new").status_code == 204
    client.__exit__(None, None, None)  # a place of Milvus Lite has one process at a time
    found = rank(service(indexed), {"text": TEXT})["answers"]
    assert [a["id"] for a in found] == [a["id"] for a in expected]


def test_an_answer_that_is_edited_keeps_its_past_queries(client):
    answer = next(a for a in rank(client, {"text": TEXT})["answers"] if a["past_queries"])
    past = [query["id"] for query in answer["past_queries"]]
    assert all(past)
    assert answer["solved"] >= len(past)
    reply = client.put(f"/v1/answers/{answer['id']}", json={**NEW, "url": "https://example.org"})
    assert reply.status_code == 200
    found = rank(client, {"text": TEXT, "k": 100})["answers"]
    edited = next(each for each in found if each["id"] == answer["id"])
    assert (edited["title"], edited["url"]) == ("Zeppelins", "https://example.org")
    assert [query["id"] for query in edited["past_queries"]] == past


@pytest.mark.parametrize("shown", [False, True])
def test_what_people_wrote_is_shown_to_others_only_where_the_operator_said_so(
    service, settings, folder, shown
):
    client = service(settings.model_copy(update={"show_past_queries": shown}))
    wrote = set(Ranker.load(folder).past.texts)
    reply = client.post("/v1/rank", json={"text": TEXT})
    past = [query for answer in reply.json()["answers"] for query in answer["past_queries"]]
    assert past
    assert {query["text"] for query in past} <= (wrote if shown else {None})
    assert shown is any(json.dumps(text)[1:-1] in reply.text for text in wrote)


def test_verdicts_are_listed_and_searched(client):
    for n, text in enumerate(["My IBAN is lost", "50 % off", "50 percent off"]):
        client.post("/v1/feedback", json={"key": f"{n}", "text": text, "right": False})

    def keys(**asked):
        found = client.get("/v1/feedback", params=asked).json()
        return [verdict["key"] for verdict in found["verdicts"]], found["total"]

    today = client.get("/v1/feedback").json()["verdicts"][0]["at"][:10]
    assert keys() == (["2", "1", "0"], 3)
    assert keys(limit=1, offset=1) == (["1"], 3)
    assert keys(search="my iban") == (["0"], 1)
    assert keys(search="50 %") == (["1"], 1)
    assert keys(since=today, until=today) == (["2", "1", "0"], 3)
    assert keys(until="2020-01-01") == ([], 0)
    assert client.get("/v1/feedback", params={"limit": 101}).status_code == 422


def test_queries_that_went_wrong_are_listed_with_what_was_shown(client):
    shown = [answer["id"] for answer in listed(client)[:3]]
    for n, (text, answer, right) in enumerate(
        [
            ("a", shown[0], False),
            ("b", shown[1], True),
            ("c", shown[0], False),
            ("c", shown[1], True),
        ]
    ):
        body = {"key": f"{n}", "text": text, "answer": answer, "right": right, "shown": shown}
        client.post("/v1/feedback", json=body)
    client.post("/v1/feedback", json={"key": "none", "text": "d", "right": False, "shown": shown})

    def texts(**asked):
        found = client.get("/v1/misses", params=asked).json()
        return "".join(query["text"] for query in found["misses"]), found["total"]

    assert texts() == ("da", 2)
    assert texts(limit=1, offset=1) == ("a", 2)
    assert texts(answer=shown[0]) == ("ca", 2)
    assert texts(answer=shown[1]) == ("", 0)
    found = client.get("/v1/misses", params={"answer": shown[0], "limit": 1}).json()
    query = {name: found["misses"][0][name] for name in ("shown", "wrong", "right")}
    assert query == {"shown": shown, "wrong": shown[:1], "right": shown[1:2]}
    assert found["titles"] == {a["id"]: a["title"] for a in listed(client)[:3]}


def test_what_was_learned_is_shown_and_rolled_back(client, folder):
    id_ = listed(client)[0]["id"]
    for n, text in enumerate(["so that", "nobody ever", "asked me that"]):
        verdict = {"key": f"{n}", "text": text, "answer": id_, "right": True}
        client.post("/v1/feedback", json=verdict)
    state = client.get("/v1/learning").json()
    assert (state["current"]["learned"], state["previous"]) == (None, None)
    assert 0 < state["waiting"] <= 3
    assert state["command"] == f"twinrank learn {folder.name}"
    assert state["current"]["quality"] == Ranker.load(folder).origin.quality
    assert client.post("/v1/learning/rollback?version=none").status_code == 409

    learned = Ranker.load(folder)
    record = Learned(fingerprint="f", queries=2, hold_back=1, on=date(2026, 1, 2))
    learned.origin = learned.origin.model_copy(update={"learned": record})
    learned.save(folder, keep=True)
    client.put("/v1/answers/new", json=NEW)
    before = client.get("/v1/learning").json()
    assert before["current"]["learned"] == record.model_dump(mode="json", exclude={"fingerprint"})
    assert (before["previous"]["learned"], before["waiting"]) == (None, 0)  # all are held back
    to = {"version": before["previous"]["version"]}
    after = client.post("/v1/learning/rollback", params=to).json()
    assert (after["current"]["learned"], after["previous"]["learned"]["queries"]) == (None, 2)
    assert client.get("/readyz").json()["ranker"] == after["current"]["version"]
    assert client.get("/v1/answers/new").status_code == 200  # answers stay
    assert client.post("/v1/learning/rollback", params=to).status_code == 409  # sent twice


def test_a_rollback_that_fails_changes_nothing(client, folder):
    Ranker.load(folder).save(folder, keep=True)
    learned = Ranker.load(folder)
    learned.origin = learned.origin.model_copy(update={"seed": 7})
    learned.save(folder, keep=True)
    previous = client.get("/v1/learning").json()["previous"]["version"]
    towers = next((folder / "versions" / previous).glob("towers*"))
    towers.unlink()  # the service may have mapped it into its memory
    towers.write_bytes(b"damaged")
    reply = client.post("/v1/learning/rollback", params={"version": previous})
    assert (reply.status_code, "is undone" in reply.text) == (503, True)
    assert rank(client, {"text": TEXT})["answers"]


def test_a_change_that_cannot_be_saved_is_undone(client, monkeypatch, caplog):
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as patched:
        patched.setattr(Ranker, "save", Mock(side_effect=full))
        reply = client.put("/v1/answers/new", json=NEW)
        assert reply.status_code == 503
        assert "is undone" in reply.json()["detail"]
        assert "No space" in caplog.text
        assert client.delete("/v1/answers/nobody").status_code == 404  # nothing is saved
    assert client.get("/v1/answers/new").status_code == 404
    assert client.put("/v1/answers/new", json=NEW).status_code == 201


def test_nothing_is_changed_where_the_folder_is_broken(client, folder):
    (folder / CURRENT).write_text("{")
    verdict = {"key": "k", "text": TEXT, "answer": "nobody", "right": True}
    for reply in (
        client.put("/v1/answers/new", json=NEW),
        client.post("/v1/feedback", json=verdict),
    ):
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert rank(client, {"text": TEXT})["answers"]


@pytest.mark.parametrize("place", [None, "local"])
def test_nobody_who_asks_waits_for_a_change(service, settings, monkeypatch, place):
    client = service(settings.model_copy(update={"index": place}))
    saving, asked, save = Event(), Event(), Ranker.save

    def slow(ranker, *args):
        saving.set()
        assert asked.wait(60)
        save(ranker, *args)

    monkeypatch.setattr(Ranker, "save", slow)
    query = {"text": "moor a zeppelin with a rope", "k": 100}
    with ThreadPoolExecutor(1) as other:
        put = other.submit(client.put, "/v1/answers/new", json=NEW)
        assert saving.wait(60)
        assert "new" not in [answer["id"] for answer in rank(client, query)["answers"]]
        asked.set()
        assert put.result().status_code == 201
    assert "new" in [answer["id"] for answer in rank(client, query)["answers"]]


def test_an_answer_with_words_stays(service, settings, folder):
    ranker = Ranker.load(folder)
    ranker.remove_answers(ranker.answers["id"][1:].to_list())
    ranker.save(folder)
    client = service(settings)
    place = f"/v1/answers/{ranker.answers['id'][0]}"
    for reply, detail in (
        (client.delete(place), "leave at least one"),
        (client.put(place, json={"title": "!", "text": "... ?"}), "has no words"),
        (client.put(place, json={"title": "the"}), ""),  # no word that counts
        (client.put("/v1/answers/a%0Ab", json=NEW), "id: String should match pattern"),
    ):
        assert reply.status_code == 422
        assert detail in reply.json()["detail"]


def test_answers_are_found_by_words_of_their_titles(reader, help_centre):
    found = reader.get("/v1/answers", params={"search": "PASSWORD your", "limit": 100}).json()
    titles = [title for title in help_centre.answers["title"] if "password" in title.lower()]
    expected = [title for title in titles if "your" in title.lower()]
    assert [a["title"] for a in found["answers"]] == expected
    assert found["total"] == len(expected) > 0
    everything = reader.get("/v1/answers", params={"limit": 3}).json()
    assert (len(everything["answers"]), everything["total"]) == (3, help_centre.answers.height)
    assert reader.get("/v1/answers", params={"search": "(.*"}).json()["total"] == 0


def test_feedback_is_stored_once_for_each_key(client, settings):
    answer = rank(client, {"text": TEXT})["answers"][0]["id"]
    verdict = {"key": "k1", "text": TEXT, "answer": answer, "right": True, "shown": [answer]}
    first, second = (client.post("/v1/feedback", json=verdict) for _ in range(2))
    told = {"key": "k1", "stored": True}
    assert (first.status_code, first.json()) == (201, told | {"duplicate": False})
    assert (second.status_code, second.json()) == (200, told | {"duplicate": True})
    turns = {"key": "k2", "turns": [{"text": "hello"}], "right": False, "type": "conversation"}
    assert client.post("/v1/feedback", json=turns).status_code == 201
    assert client.post("/v1/feedback", json=verdict | {"text": "another"}).status_code == 409
    assert client.delete(f"/v1/answers/{answer}").status_code == 204
    assert client.post("/v1/feedback", json=verdict).status_code == 200  # known, though it is gone
    assert client.post("/v1/feedback", json=verdict | {"key": "k3"}).status_code == 404
    stored = Feedback.open(settings.feedback).verdicts()
    assert [(v.key, v.text, v.type, v.answer, v.right) for v in stored] == [
        ("k1", TEXT, "", answer, True),
        ("k2", "User: hello", "conversation", None, False),
    ]


def test_a_verdict_is_taken_back_by_its_key(client):
    key = "ø b/?c#d"
    place = f"/v1/feedback/{quote(key, safe='')}"
    verdict = {"key": key, "text": TEXT, "right": False}
    for _ in range(2):  # its key is free again
        assert client.post("/v1/feedback", json=verdict).status_code == 201
        reply = client.delete(place)
        assert (reply.status_code, reply.content) == (204, b"")
        assert client.get("/v1/stats").json()["verdicts"] == 0
    assert client.delete(f"/v1/feedback/{'k' * 65}").status_code == 422


@pytest.mark.parametrize(
    ("change", "status", "detail"),
    [
        ({"answer": "nobody"}, 404, "there is no answer 'nobody'"),
        ({"answer": None, "right": True}, 422, "right is true, but of no answer"),
        ({"key": ""}, 422, "key: "),
        ({"key": "two\nlines"}, 422, "key: "),
        ({"right": None}, 422, "right: "),
        ({"text": "nul \0"}, 422, "text: holds a NUL character"),
        ({"shown": ["nul \0"]}, 422, "shown.0: holds a NUL character"),
    ],
)
def test_feedback_that_says_nothing_is_refused(reader, change, status, detail):
    reply = reader.post("/v1/feedback", json={"key": "k", "text": TEXT, "right": False} | change)
    assert reply.status_code == status
    assert reply.json()["detail"].startswith(detail)


def test_a_database_that_is_gone_is_said_and_ranking_goes_on(client, monkeypatch):
    gone = Mock(side_effect=FeedbackError("x.db: disk I/O error"))
    monkeypatch.setattr(Feedback, "add", gone)
    monkeypatch.setattr(Feedback, "remove", gone)
    monkeypatch.setattr(Feedback, "statistics", gone)
    for reply in (
        client.delete("/v1/feedback/k"),
        client.post("/v1/feedback", json={"key": "k", "text": TEXT, "right": False}),
        client.get("/v1/stats"),
    ):
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert "x.db" not in reply.text
    assert rank(client, {"text": TEXT})["answers"]


def test_stats_count_what_was_asked_and_said(service, settings):
    client = service(settings)
    for kind in ("question", "question", "nonsense"):
        rank(client, {"text": TEXT, "type": kind, "min_confidence": 1, "explain": False})
    shown = [a["id"] for a in rank(client, {"text": TEXT})["answers"]]
    wanted = next(a["id"] for a in listed(client) if a["id"] not in shown)
    for number, (answer, right) in enumerate([(shown[0], False), (shown[0], True), (wanted, True)]):
        body = {"key": f"{number}", "text": TEXT, "type": "question", "shown": shown}
        client.post("/v1/feedback", json=body | {"answer": answer, "right": right})
    client.__exit__(None, None, None)  # traffic is kept when the service stops
    stats = service(settings).get("/v1/stats").json()
    days = {day["type"]: day for day in stats["days"]}
    assert {kind: day["requests"] for kind, day in days.items()} == {
        "": 1,
        "question": 2,
        "other": 1,
    }
    assert (days["question"]["withheld"], days[""]["withheld"]) == (2, 0)
    assert (days["question"]["right"], days["question"]["wrong"]) == (1, 0)
    assert stats["misses"] == []
    assert [(w["id"], w["times"]) for w in stats["wanted"]] == [(wanted, 1)]
    assert stats["wanted"][0]["title"]
    assert (stats["verdicts"], stats["learnable"]) == (3, 1)
    assert stats["types"] == ["question", "", "other"]


def test_the_pages_own_types_are_counted_by_their_names(service, settings, folder):
    ranker = Ranker.load(folder)
    ranker.origin = ranker.origin.model_copy(update={"labelled": {"train": {"synthetic": 9}}})
    ranker.save(folder)
    client = service(settings)
    for kind in ("question", "conversation", "synthetic", "nonsense"):
        body = {"key": kind, "text": TEXT, "type": kind, "right": False}
        assert client.post("/v1/feedback", json=body).status_code == 201
    found = {v["key"]: v["type"] for v in client.get("/v1/feedback").json()["verdicts"]}
    assert found.pop("nonsense") == "other"
    assert all(kind == key for key, kind in found.items())


def test_gaps_look_at_the_newest_queries_and_count_the_others(client, monkeypatch, folder):
    monkeypatch.setattr(live_ranker, "MAX_GAP_QUERIES", 5)
    for n in range(7):
        body = {"key": f"{n}", "text": f"{TEXT} {n}", "right": False}
        assert client.post("/v1/feedback", json=body).status_code == 201
    gaps = client.get("/v1/gaps?k=1").json()
    assert (gaps["queries"], gaps["bad"], gaps["left_out"], gaps["total"]) == (5, 5, 2, 1)
    (expected,) = Ranker.load(folder).rank(gaps["topics"][0]["title"], 1)
    assert gaps["topics"][0]["nearest"]["id"] == expected[0].id
    assert rank(client, {"text": TEXT})["answers"]


def test_gaps_take_a_ranker_with_an_encoder(service, settings, recipes, help_centre):
    train(help_centre, recipes["bm25"], out=settings.ranker, resume=False)
    reply = service(settings).get("/v1/gaps")
    assert (reply.status_code, "goes by words alone" in reply.json()["detail"]) == (422, True)


def test_a_deleted_answer_is_restored_with_its_past_queries(client):
    def ranked():
        ranking = rank(client, {"text": TEXT, "k": 100})["answers"]
        return next(a for a in ranking if a["id"] == id_)

    before = rank(client, {"text": TEXT, "k": 100})["answers"]
    id_ = next(a["id"] for a in before if a["past_queries"])
    place, whole, found = f"/v1/answers/{id_}", client.get(f"/v1/answers/{id_}").json(), ranked()
    assert client.delete(place).status_code == 204
    reply = client.post(f"{place}/restore")
    assert (reply.status_code, reply.json()) == (200, whole)
    assert ranked()["past_queries"] == found["past_queries"]
    assert ranked()["score"] == pytest.approx(found["score"], rel=1e-4)
    assert client.post(f"{place}/restore").json() == whole  # its reply may have been lost
    assert client.post("/v1/answers/nobody/restore").status_code == 404
    assert client.delete(place).status_code == 204
    assert client.put(place, json=NEW).status_code == 201
    assert client.post(f"{place}/restore").status_code == 409  # what was put since stays
    assert client.get(place).json()["title"] == NEW["title"]


@pytest.mark.parametrize("days", [0, 1e-9])
def test_what_is_deleted_can_be_restored_for_a_time(service, settings, folder, monkeypatch, days):
    monkeypatch.setattr(live_ranker, "FOLLOW_EVERY_S", 0.05)
    client = service(settings.model_copy(update={"restore_days": days}))
    id_ = listed(client)[0]["id"]
    assert client.delete(f"/v1/answers/{id_}").status_code == 204
    until(lambda: not Ranker.load(folder).removed)
    assert client.post(f"/v1/answers/{id_}/restore").status_code == 404


@pytest.mark.parametrize("addresses", [False, True])
def test_every_change_leaves_a_line_on_who_and_what(service, settings, tmp_path, caplog, addresses):
    caplog.set_level(logging.INFO, "twinrank")
    options = {"keys": keys_file(tmp_path), "log_addresses": addresses}
    client = service(settings.model_copy(update=options))
    client.headers = {"Authorization": f"Bearer {'w' * 20}"}
    client.put("/v1/answers/new", json=NEW)
    client.put("/v1/answers/new", json=NEW)
    client.delete("/v1/answers/new")
    client.post("/v1/answers/new/restore")
    client.post("/v1/feedback", json={"key": "k", "text": TEXT, "right": False})
    client.delete("/v1/feedback/k")
    lines, changes = (
        [json.loads(r.message) for r in caplog.records if r.name == f"twinrank.{name}"]
        for name in ("access", "audit")
    )
    assert [(change["did"], change.get("id") or change["key"]) for change in changes] == [
        ("added an answer", "new"),
        ("replaced an answer", "new"),
        ("deleted an answer", "new"),
        ("restored an answer", "new"),
        ("gave a verdict", "k"),
        ("took a verdict back", "k"),
    ]
    assert [change["request"] for change in changes] == [line["request"] for line in lines]
    assert {line["by"] for line in changes + lines} == {"anna"}
    assert {line.get("address") for line in lines + changes} == (
        {"testclient"} if addresses else {None}
    )
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in lines + changes)
    assert "w" * 20 not in caplog.text
    caplog.clear()
    assert client.delete("/v1/answers/nobody").status_code == 404
    assert client.delete("/v1/feedback/k").status_code == 404
    assert "twinrank.audit" not in [record.name for record in caplog.records]


def listed(client):
    return client.get("/v1/answers", params={"limit": 100}).json()["answers"]


def test_prometheus_is_told_of_routes_and_types_never_of_texts(client):
    rank(client, [{"text": TEXT, "type": "question"}, {"text": TEXT}])
    client.get("/v1/answers/nobody")
    client.post("/v1/feedback", json={"key": "mine", "text": TEXT, "right": False})
    client.delete("/v1/feedback/mine")
    told = client.get("/metrics").text
    assert 'twinrank_queries_total{type="question"} 1.0' in told
    line = 'twinrank_requests_total{method="GET",route="/v1/answers/{id}",status="404"} 1.0'
    assert line in told
    assert 'twinrank_verdicts_total{right="false"} 1.0' in told
    taken_back = 'method="DELETE",route="/v1/feedback/{key}",status="204"'
    assert f"twinrank_requests_total{{{taken_back}}} 1.0" in told
    for text in ("let me in", "nobody", "mine"):
        assert text not in told


def test_prometheus_is_told_that_a_newer_ranker_cannot_be_loaded(
    service, settings, folder, monkeypatch
):
    monkeypatch.setattr(live_ranker, "FOLLOW_EVERY_S", 0.1)
    monkeypatch.setattr(live_ranker, "RETRY_LOAD_S", 0.1)
    client = service(settings)
    until(lambda: "\ntwinrank_ranker_refused 0.0" in client.get("/metrics").text)
    good = (folder / CURRENT).read_text()
    (folder / CURRENT).write_text("{}")
    until(lambda: "\ntwinrank_ranker_refused 1.0" in client.get("/metrics").text)
    (folder / CURRENT).write_text(good)
    until(lambda: "\ntwinrank_ranker_refused 0.0" in client.get("/metrics").text)


def test_methods_that_clients_invent_make_no_figures(client):
    for number in range(3):
        client.request(f"FOO{number}", "/v1/rank")
    figures = client.get("/metrics").text
    assert re.search(r'requests_total{method="other",route="[^"]*",status="405"} 3.0', figures)
    assert "FOO" not in figures


def test_work_in_the_background_that_fails_is_logged_and_begins_again(
    service, settings, monkeypatch, caplog
):
    monkeypatch.setattr("twinrank.service.app.RESTART_WORK_S", 0.01)
    flushed, twice = [], Event()

    async def flush_regularly(self):
        flushed.append(self)
        if len(flushed) == 2:
            twice.set()
        raise ZeroDivisionError("a bad row")

    monkeypatch.setattr(prometheus.TrafficCounter, "flush_regularly", flush_regularly)
    service(settings)
    assert twice.wait(30)
    assert "work in the background failed" in caplog.text
    assert "a bad row" in caplog.text


def test_every_line_of_the_log_is_json(capsys):
    root = logging.getLogger()
    former = root.handlers, root.level
    try:
        log_as_json()
        logging.getLogger("uvicorn.error").info("two\nlines")
        logging.getLogger("twinrank.access").info('{"route": "/"}')
        try:
            raise ZeroDivisionError("why")
        except ZeroDivisionError:
            logging.getLogger("twinrank").exception("it %s", "failed")
    finally:
        logging.captureWarnings(False)
        root.handlers, root.level = former
    one, two, three = map(json.loads, capsys.readouterr().err.splitlines())
    assert (one["level"], one["message"], two["route"]) == ("info", "two\nlines", "/")
    assert "ZeroDivisionError: why" in three["error"]


@pytest.mark.parametrize("log_texts", [False, True])
def test_the_log_holds_texts_only_if_asked(service, settings, caplog, log_texts):
    caplog.set_level(logging.INFO, "twinrank.access")
    client = service(settings.model_copy(update={"log_texts": log_texts}))
    request_id = client.post("/v1/rank", json={"text": TEXT}).headers["x-request-id"]
    lines = [json.loads(r.message) for r in caplog.records if r.name == "twinrank.access"]
    (line,) = [line for line in lines if line["request"] == request_id]
    assert (line["route"], line["status"]) == ("/v1/rank", 200)
    assert line.get("texts") == ([TEXT] if log_texts else None)
    assert (TEXT in caplog.text) == log_texts


def test_a_ranker_without_confidence_says_so(service, settings, folder):
    edit_manifest(folder, confidence=None)
    client = service(settings)
    ranking = rank(client, {"text": TEXT})
    assert ranking["confidence"] is None
    assert ranking["answers"][0]["confidence"] is None
    reply = client.post("/v1/rank", json={"text": TEXT, "min_confidence": 0.5})
    assert reply.status_code == 422
    assert "knows no confidence" in reply.json()["detail"]


def test_the_docs_page_loads_nothing_from_outside(reader):
    page = reader.get("/docs").text
    assert "http" not in page.replace("https://", "http://").split("<title>")[1]
    assert '="/' not in page  # relative: behind a proxy it may have a path
    for place in ("/static/swagger/swagger-ui-bundle.js", "/static/docs.js", "/openapi.json"):
        assert reader.get(place).status_code == 200


def test_a_locked_database_hides_nothing(client, monkeypatch):
    """Verdicts wait, more than there are threads; figures, probes and the folder do not."""
    locked, waiting = Event(), ThreadPoolExecutor(40)
    monkeypatch.setattr(Feedback, "add", lambda *_: locked.wait(60))
    body = {"text": TEXT, "right": False}
    said = [
        waiting.submit(client.post, "/v1/feedback", json={**body, "key": f"{n}"}) for n in range(40)
    ]
    try:
        for path in ("/metrics", "/v1/stats", "/healthz", "/readyz", "/static/app.css"):
            assert client.get(path, timeout=20).status_code == 200, path
        assert client.put("/v1/answers/new", json=NEW).status_code == 201
        assert not any(each.done() for each in said)
    finally:
        locked.set()
    assert {each.result().status_code for each in said} == {201}


def test_a_long_answer_is_encoded_in_turns(client, monkeypatch):
    encoded, features = [], RecentFeatures.features

    def heard(self, encoder, texts, *args, **options):
        encoded.append(sum("the invoice" in text for text in texts))
        return features(self, encoder, texts, *args, **options)

    monkeypatch.setattr(RecentFeatures, "features", heard)
    sections = [{"title": f"Part {n}", "text": f"the invoice {n}"} for n in range(30)]
    before = client.put("/v1/answers/new", json={"title": "Long", "sections": sections})
    assert before.status_code == 201
    first = encoded[: encoded.index(30)]  # then all of them are there
    assert sum(first) >= 30
    assert max(first) <= live_ranker.PASSAGES_PER_TURN


def test_html_of_an_answer_becomes_text_and_its_headings_sections(client):
    page = "<h2>Steps</h2><p>Press &amp; wait</p><h2>Then</h2><p>See <b>it</b></p>"
    body = {"title": "Log in &amp; out", "text": page}
    reply = client.put("/v1/answers/html", json=body).json()
    assert reply["title"] == "Log in & out"
    assert reply["text"] == "Steps\nPress & wait\nThen\nSee it"
    assert reply["sections"][1] == {"title": "Then", "text": "See it"}
    plain = {"title": "x", "text": "if a < b, use the <div> tag"}
    assert client.put("/v1/answers/plain", json=plain).json()["text"] == plain["text"]
    as_it_is = client.put("/v1/answers/html?plain=true", json=body).json()
    assert (as_it_is["title"], as_it_is["text"]) == (body["title"], page)
    given = {**body, "sections": [{"title": "One", "text": "<p>a</p>"}]}
    reply = client.put("/v1/answers/html", json=given).json()
    assert reply["sections"] == [{"title": "One", "text": "a"}]


def test_a_passage_of_each_answer_is_given_if_asked_for(reader):
    explained = rank(reader, {"text": TEXT, "k": 3})["answers"]
    assert {answer["passage"] for answer in explained} == {None}
    for passage in ("answer", "section", "sentence"):
        body = {"text": TEXT, "k": 3, "explain": False, "passage": passage}
        for answer, known in zip(rank(reader, body)["answers"], explained, strict=True):
            whole = reader.get(f"/v1/answers/{answer['id']}").json()
            assert (answer["sentence"], answer["section"], answer["past_queries"]) == (
                None,
                None,
                [],
            )
            if passage == "answer":
                assert answer["passage"] == whole["text"]
            elif passage == "sentence":
                assert answer["passage"] == known["sentence"]
            else:
                assert known["sentence"] in answer["passage"]
                assert answer["passage"] in {part["text"].strip() for part in whole["sections"]}
    refused = reader.post("/v1/rank", json={"text": TEXT, "passage": "text"})
    assert refused.status_code == 422
