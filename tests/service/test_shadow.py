"""A second ranker beside the first: what is counted, what is judged, and what is advised."""

import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tests.service.conftest import keys_file
from tests.service.test_guard import bearer
from twinrank.errors import RankerError
from twinrank.evaluation import evaluate
from twinrank.feedback.verdicts import Verdict
from twinrank.ranking import Ranker
from twinrank.service.app import create_app
from twinrank.service.schemas import JudgedType
from twinrank.service.shadow import _advise, _make_dataset, count_wins, draft_teams


@pytest.fixture
def other(folder, tmp_path):
    """The same ranker, which scores by words alone and so ranks otherwise."""
    ranker = Ranker.load(folder)
    weights = dict.fromkeys(ranker.scoring.weights, 0.0) | {"words": 1.0}
    ranker.scoring = replace(ranker.scoring, weights=weights)
    ranker.save(tmp_path / "other")
    return tmp_path / "other"


@pytest.fixture
def shadowed(service, settings, other):
    return service(settings.model_copy(update={"shadow": other}))


def counted(client, number):
    """The report, once so many queries were compared."""
    end = time.monotonic() + 60
    while True:
        report = client.get("/v1/shadow").json()
        if sum(row["queries"] for row in report["types"]) >= number:
            return report
        assert time.monotonic() < end, report
        time.sleep(0.2)


def test_agreement_is_counted_by_type_and_outlives_the_service(
    service, settings, shadowed, other, help_centre
):
    queries = help_centre.split("test").frame.head(8)
    asked = [
        {"text": text, "type": kind, "k": 5}
        for text, kind in queries.select("text", "type").iter_rows()
    ]
    replies = shadowed.post("/v1/rank", json=asked).json()
    plain = service(settings).post("/v1/rank", json=asked).json()
    assert [reply["answers"] for reply in replies] == [reply["answers"] for reply in plain]
    report = counted(shadowed, 8)
    firsts = [[answer["id"] for answer in reply["answers"][:3]] for reply in replies]
    rankings = Ranker.load(other).rank(queries["text"].to_list(), 3)
    seconds = [[answer.id for answer in ranking] for ranking in rankings]
    for row in report["types"]:
        of_type = [
            (set(a), set(b), a[0] == b[0])
            for a, b, kind in zip(firsts, seconds, queries["type"], strict=True)
            if kind == row["type"]
        ]
        assert row["queries"] == len(of_type)
        assert row["same_first"] == sum(same for *_, same in of_type)
        assert row["shared"] == sum(len(a & b) for a, b, _ in of_type)
        assert row["skipped"] == 0
    assert (report["judged"], report["advice"]) == ([], "too early")
    shadowed.__exit__(None, None, None)
    again = service(settings.model_copy(update={"shadow": other}))
    assert again.get("/v1/shadow").json()["types"] == report["types"]


def test_verdicts_measure_both_rankers(shadowed, other, folder, help_centre):
    rows = help_centre.split("test").frame.head(12)
    right = dict(help_centre.labels.select("query", "answer").iter_rows())
    for row in rows.iter_rows(named=True):
        body = {"key": row["id"], "text": row["text"], "type": row["type"], "right": True}
        reply = shadowed.post("/v1/feedback", json={**body, "answer": right[row["id"]]})
        assert reply.status_code == 201
    judged = shadowed.get("/v1/shadow").json()["judged"]
    few = replace(
        help_centre,
        labels=help_centre.labels.filter(
            pl.col("query").is_in(rows["id"].implode()), split="test"
        ).unique("query", keep="last", maintain_order=True),
    )
    first, second = (evaluate(Ranker.load(path), few) for path in (folder, other))
    assert judged[0]["type"] is None
    assert judged[0]["queries"] == 12
    assert judged[0]["ranker"] == pytest.approx(first.overall["accuracy@3"])
    assert judged[0]["shadow"] == pytest.approx(second.overall["accuracy@3"])
    for row in judged[1:]:
        assert row["ranker"] == pytest.approx(first.types[row["type"]]["accuracy@3"])


def test_queries_whose_right_answer_one_of_them_lacks_are_not_judged(help_centre):
    answers = help_centre.answers.head(3)
    verdicts = [
        Verdict("1", "here", "question", answers["id"][0], True),
        Verdict("2", "gone", "question", "gone", True),
        Verdict("3", "wrong", "question", answers["id"][1], False),
        Verdict("4", "here", "question", answers["id"][1], True),
    ]
    data = _make_dataset(answers, verdicts)
    assert data.queries["text"].to_list() == ["here"]
    assert data.labels["answer"].to_list() == [answers["id"][1]]  # the last word counts
    assert _make_dataset(answers, []).labels.is_empty()


def row(kind, ranker, shadow, p, queries=100):
    return JudgedType(type=kind, queries=queries, ranker=ranker, shadow=shadow, interval=None, p=p)


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        ([], "too early"),
        ([row(None, 0.1, 0.9, 0.001, queries=19)], "too early"),
        ([row(None, 0.5, 0.6, 0.2), row("a", 0.5, 0.6, 0.2)], "no difference shown"),
        ([row(None, 0.5, 0.6, 0.01), row("a", 0.5, 0.6, 0.2)], "switch"),
        ([row(None, 0.5, 0.6, 0.01), row("a", 0.6, 0.5, 0.01)], "stay"),
        ([row(None, 0.6, 0.5, 0.01)], "stay"),
    ],
)
def test_advice(rows, advice):
    assert _advise(rows) == advice


LISTS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@given(LISTS, LISTS, st.integers(0, 8), st.integers(0, 99))
def test_teams_pick_in_turn_their_best_that_is_left(first, second, k, seed):
    picked = draft_teams(first, second, k, np.random.default_rng(seed))
    assert len(picked) == min(k, len({*first, *second}))
    lists = {"a": first, "b": second}
    taken = set()
    for id_, team in picked.items():
        assert id_ == next(best for best in lists[team] if best not in taken)
        taken.add(id_)
    full = min(len(first), len(second)) // 2  # no list is exhausted before: each round gives two
    teams = [*picked.values()][: 2 * full]
    assert all({*teams[i : i + 2]} == {"a", "b"} for i in range(0, len(teams) - 1, 2))


def test_each_ranker_picks_first_about_as_often():
    seeds = range(400)
    first = [draft_teams("xy", "zw", 1, np.random.default_rng(seed)) for seed in seeds]
    assert 160 < sum(picked == {"x": "a"} for picked in first) < 240


def test_wins_are_of_queries_whose_right_answer_one_ranker_picked():
    def say(key, text, answer, teams, right=True, versions="A+B"):
        ranker = f"{versions}:{teams}"
        return Verdict(key, text, "question", answer, right, ("x", "y", "z"), ranker)

    verdicts = [
        say("1", "one", "x", "aba"),
        say("2", "two", "y", "aba"),
        say("3", "three", "y", "aba"),
        say("4", "four", "z", "aba", right=False),
        say("5", "five", "elsewhere", "aba"),  # picked by none
        say("6", "six", "x", "aba", versions="A+C"),
        say("7", "seven", "x", "aba"),
        say("8", "seven", "y", "aba"),  # both are right
        Verdict("9", "nine", "question", "x", True, ("x",), "A"),
    ]
    wins = count_wins(verdicts, "A+B")
    assert (wins.ranker, wins.shadow) == (1, 2)
    assert wins.p == pytest.approx(binomtest(2, 3).pvalue)
    assert count_wins([], "A+B").p == 1.0


def test_interleaved_answers_are_of_both_and_say_who_picked_them(service, settings, other, folder):
    changes = {"shadow": other, "interleave": True}
    client = service(settings.model_copy(update=changes))
    asked = {"text": "it wont let me in again", "k": 6}
    reply = client.post("/v1/rank", json=asked).json()
    assert client.post("/v1/rank", json=asked).json() == reply
    versions, _, teams = reply["ranker"].partition(":")
    ids = [answer["id"] for answer in reply["answers"]]
    lists = {
        team: [answer.id for answer in Ranker.load(path).rank(asked["text"], 6)[0]]
        for team, path in (("a", folder), ("b", other))
    }
    assert [answer["rank"] for answer in reply["answers"]] == [1, 2, 3, 4, 5, 6]
    assert {*teams} == {"a", "b"}
    assert all(id_ in lists[team] for id_, team in zip(ids, teams, strict=True))
    assert reply["confidence"] == reply["answers"][0]["confidence"]
    body = {"key": "k", "text": asked["text"], "answer": ids[0], "right": True, "shown": ids}
    body |= {"ranker": reply["ranker"]}
    assert client.post("/v1/feedback", json=body).status_code == 201
    wins = client.get("/v1/shadow").json()["interleaved"]
    assert (wins["ranker"], wins["shadow"]) == ((1, 0) if teams[0] == "a" else (0, 1))
    silent = client.post("/v1/rank", json={**asked, "min_confidence": 1}).json()
    assert silent["withheld"]
    trained = [Ranker.load(path).fingerprint[:12] for path in (folder, other)]
    assert versions == "+".join(trained)
    client.put("/v1/answers/new", json={"title": "New"})  # the comparison goes on
    assert client.get("/v1/shadow").json()["interleaved"] == wins


def test_what_was_deleted_or_changed_does_not_come_back_by_the_shadow(service, settings, other):
    changes = {"shadow": other, "interleave": True}
    client = service(settings.model_copy(update=changes))
    gone, changed = (answer.id for answer in Ranker.load(other).rank("refund", 2)[0])
    assert client.delete(f"/v1/answers/{gone}").status_code == 204
    body = {"title": "Another title", "text": "Refund refund refund.", "url": "https://x.example/"}
    assert client.put(f"/v1/answers/{changed}", json=body).status_code == 200
    answers = client.post("/v1/rank", json={"text": "refund", "k": 30}).json()["answers"]
    by_id = {answer["id"]: answer for answer in answers}
    assert gone not in by_id
    assert (by_id[changed]["title"], by_id[changed]["url"]) == (body["title"], body["url"])
    assert by_id[changed]["sentence"] in (None, body["text"])


def test_rankings_without_three_answers_and_more_than_can_wait_are_passed_over(
    service, settings, other, monkeypatch
):
    monkeypatch.setattr("twinrank.service.shadow.MAX_WAITING_QUERIES", 2)
    monkeypatch.setattr("twinrank.service.shadow.IDLE_S", 3.0)
    client = service(settings.model_copy(update={"shadow": other}))
    client.post("/v1/rank", json={"text": "refund", "k": 2})
    client.post("/v1/rank", json=[{"text": f"refund {n}"} for n in range(5)])
    [row] = counted(client, 2)["types"]
    assert (row["queries"], row["skipped"]) == (2, 3)


def test_a_shadow_is_seen_by_whole_writers_alone(service, settings, other, client, tmp_path):
    assert client.get("/v1/shadow").status_code == 404
    file = keys_file(tmp_path)
    file.write_text(f"{file.read_text()}write {'b' * 20} brand=acme\n")
    keyed = service(settings.model_copy(update={"keys": file, "shadow": other}))
    for key, status in (("r", 403), ("f", 403), ("b", 403), ("w", 200)):
        assert keyed.get("/v1/shadow", headers=bearer(key * 20)).status_code == status


def test_a_shadow_that_is_no_ranker_stops_the_start(settings, tmp_path):
    with pytest.raises(RankerError, match=r"no current\.json here"):
        create_app(settings.model_copy(update={"shadow": tmp_path / "nothing"}))
