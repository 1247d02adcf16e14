"""Feedback on SQLite and on a real PostgreSQL server: durable, counted once, added up."""

import signal
import sqlite3
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.postgres import empty_database
from tests.processes import heard, started
from twinrank.errors import FeedbackError
from twinrank.feedback import Verdict, database
from twinrank.feedback.database import Feedback
from twinrank.feedback.feedback_statistics import Day, Traffic, find_misses, summarise_feedback

NUMBERS = count()
LONG = "where is my invoice? " * 20


def write(address, name, verdicts, says):
    """Add verdicts, and say the key of each once it is acknowledged."""
    feedback = Feedback.open(address)
    for n in range(verdicts):
        key = f"{name}-{n}"
        assert feedback.add(Verdict(key, LONG, "question", "a1", True, ("a1",)))
        says.send(key)


@pytest.fixture(params=["sqlite", "postgres"])
def address(request, tmp_path):
    """Of a database that is still empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'feedback.db'}"
    return empty_database(request.getfixturevalue("postgres"))


@pytest.fixture
def feedback(address):
    with closing(Feedback.open(address)) as opened:
        yield opened


def day(date, kind, *counts):
    names = ("requests", "confident", "withheld", "right", "wrong")
    return Day(date=date, type=kind, **dict(zip(names, counts, strict=True)))


def listed(answers, *fields):
    return [tuple(getattr(answer, name) for name in fields) for answer in answers]


def verdict(key="k", *, answer="a1", right=True, shown=("a1", "a2"), kind="question", at=None):
    at = at or datetime.now(UTC)
    return Verdict(key, f"text of {key}", kind, answer, right, shown, "0123abcd", at)


def test_what_is_added_comes_back_in_order(feedback, address):
    now = datetime.now(UTC)
    said = [
        verdict("late", at=now),
        verdict("early", answer=None, right=False, shown=(), at=now - timedelta(days=3)),
        verdict("not shown", shown=None, at=now - timedelta(days=2)),
        verdict("odd", answer="ø", shown=("ø", "b"), kind="", at=now - timedelta(microseconds=1)),
    ]
    assert [feedback.add(one) for one in said] == [True] * 4
    expected = [said[1], said[2], said[3], said[0]]
    assert feedback.find("odd") == said[3]
    assert feedback.verdicts() == expected
    with closing(Feedback.open(address, create=False)) as again:
        assert again.verdicts() == expected


def test_verdicts_of_a_scope_are_found_and_counted_alone(feedback, address):
    """Also after a version that knew no scope, whose verdicts are nobody's."""
    assert feedback.add(verdict("old"))
    with feedback._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE twinrank_verdicts DROP COLUMN scope")
    with closing(Feedback.open(address, create=False)) as again:
        for key, scope in [("mine", "a"), ("yours", "b"), ("ours", "a")]:
            assert again.add(replace(verdict(key), scope=scope))
        again.add_traffic({(datetime.now(UTC).date(), "question"): Traffic(5)})
        found, total = again.search(scope="a", limit=1)
        assert ([one.key for one in found], found[0].scope, total) == (["ours"], "a", 2)
        assert again.search()[1] == 4
        assert again.find("old").scope == ""
        assert (again.statistics(1, scope="a").verdicts, again.statistics(1).verdicts) == (2, 4)
        assert [day.requests for day in again.statistics(1, scope="a").days] == [0]
        old = datetime.now(UTC) - timedelta(5)
        assert again.add(replace(verdict("past", kind="chat", at=old), scope="a"))
        assert again.statistics(1, scope="a").types == ["question", "chat"]  # whatever the range


def test_words_are_found_in_whatever_case_they_stand(feedback):
    assert feedback.add(replace(verdict("k"), text="Jeg vil ÆNDRE min aftale"))
    assert feedback.search("ændre")[1] == 1


def test_a_verdict_that_is_taken_back_is_gone_and_its_key_is_free(feedback, address):
    kept, mistaken, better = verdict("kept"), verdict("k"), verdict("k", right=False)
    assert feedback.add(kept)
    assert feedback.add(mistaken)
    assert not feedback.add(better)  # a key counts once
    assert feedback.remove("k")
    with closing(Feedback.open(address, create=False)) as again:
        assert again.verdicts() == [kept]
        assert again.find("k") is None
    assert not feedback.remove("k")
    assert feedback.add(better)
    assert feedback.verdicts() == [kept, better]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(codec=None), max_size=20),
    st.text(st.characters(codec=None), max_size=20),
)
def test_any_text_can_be_kept(feedback, text, answer):
    key = f"k{next(NUMBERS)}"
    assert feedback.add(Verdict(key, text, "question", answer, True, (answer,)))
    kept = next(one for one in feedback.verdicts() if one.key == key)

    def held(text):
        return "".join("�" if c == "\0" else "?" if 0xD800 <= ord(c) < 0xE000 else c for c in text)

    assert (kept.text, kept.answer, kept.shown) == (held(text), held(answer), (held(answer),))
    assert feedback.add(Verdict(f"{key} of {text}", "text", "question", None, False))
    assert feedback.remove(f"{key} of {text}")


def test_traffic_adds_up_over_threads(feedback):
    today, before = datetime.now(UTC).date(), datetime.now(UTC).date() - timedelta(days=1)
    one = {(today, "question"): Traffic(3, 2, 1), (before, "chat"): Traffic(1)}
    other = {(before, "chat"): Traffic(1, 1), (today, "question"): Traffic(1)}
    threads = [
        threading.Thread(target=lambda what=what: [feedback.add_traffic(what) for _ in range(10)])
        for what in (one, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    feedback.add_traffic({})
    assert feedback.statistics(2).days == [
        day(before, "chat", 20, 10, 0, 0, 0),
        day(today, "question", 40, 20, 10, 0, 0),
    ]
    assert [each.date for each in feedback.statistics(1).days] == [today]


def test_stats_count_texts_by_the_last_words_on_them(feedback):
    now = datetime.now(UTC)
    old = now - timedelta(days=40)
    said = [
        verdict("1"),
        verdict("2", answer="a2", right=False),
        verdict("3", answer="a2", right=False, kind="chat"),
        verdict("4", answer="a2"),
        verdict("5", answer="a9"),  # the right one, that was not shown
        verdict("6", answer="a9", shown=()),
        verdict("7", answer="a8"),
        verdict("8", answer=None, right=False),
        verdict("9", answer="a7", right=False, at=old),
        verdict("10", answer="a9", shown=None),  # nobody said what was shown
    ]
    for one in said:
        feedback.add(one)
    feedback.add_traffic({(now.date(), "question"): Traffic(30, 20, 1)})
    stats = feedback.statistics(30, title_of=str.upper)
    assert stats.days == [
        day(now.date(), "chat", 0, 0, 0, 0, 1),
        day(now.date(), "question", 30, 20, 1, 3, 5),
    ]
    assert listed(stats.misses, "id", "title", "wrong", "right") == [("a2", "A2", 2, 1)]
    assert listed(stats.wanted, "id", "title", "times") == [("a9", "A9", 2), ("a8", "A8", 1)]
    assert (stats.verdicts, stats.learnable) == (9, 6)
    assert stats.types == ["question", "chat"]
    assert feedback.statistics(50).verdicts == 10
    assert feedback.statistics(50).days[0].date == old.date()
    for key in ("2", "3", "6", "1"):
        feedback.remove(key)
    stats = feedback.statistics(30)
    assert stats.days == [day(now.date(), "question", 30, 20, 1, 2, 3)]
    assert stats.misses == []
    assert listed(stats.wanted, "id", "times") == [("a8", 1), ("a9", 1)]
    assert stats.verdicts == 5


SHOWN = ("a1", "a2", "a3", "a4", "a5")
RIGHT_THEN_NONE = [("a1", True), ("a2", True), (None, False)]


@pytest.mark.parametrize(
    ("said", "right", "learnable", "misses"),
    [
        ([("a1", True), *((answer, False) for answer in SHOWN[1:])], 1, 1, 4),
        (RIGHT_THEN_NONE, 0, 0, 0),
        ([*RIGHT_THEN_NONE, ("a1", True)], 1, 1, 0),
        ([("a1", True), ("a1", False)], 0, 0, 1),
        ([("a1", True)] * 3, 1, 1, 0),
        ([("a9", True)], 0, 1, 0),
    ],
)
def test_what_is_said_of_one_query_counts_once(feedback, said, right, learnable, misses):
    for n, (answer, is_right) in enumerate(said):
        text = "Where is it?" if n % 2 else " where  IS it?"
        at = datetime.now(UTC) + timedelta(microseconds=n)
        feedback.add(Verdict(f"{n}", text, "q", answer, is_right, SHOWN, at=at))
    stats = feedback.statistics(2)
    assert (stats.days[-1].right, stats.days[-1].wrong) == (right, 1 - right)
    assert (stats.learnable, len(stats.misses)) == (learnable, misses)


SAID = st.tuples(
    st.sampled_from(["one", "ONE ", "two"]),
    st.sampled_from([None, "a1", "a2", "a9"]),
    st.booleans(),
    st.sampled_from([None, (), SHOWN]),
    st.integers(0, 2),
)


@given(st.lists(SAID, max_size=12))
def test_misses_are_those_that_the_statistics_count(said):
    now = datetime.now(UTC)
    verdicts = [
        Verdict(f"{n}", text, "q", answer, right and answer is not None, shown, None, at)
        for n, (text, answer, right, shown, days) in enumerate(said)
        for at in [now - timedelta(days, microseconds=-n)]
    ]
    verdicts.sort(key=lambda verdict: verdict.at)
    stats = summarise_feedback(verdicts, {}, [], str)
    missed = find_misses(verdicts)
    assert len(missed) == sum(day.wrong for day in stats.days)
    assert [query.date for query in missed] == sorted((q.date for q in missed), reverse=True)
    for miss in stats.misses:
        assert sum(miss.id in q.wrong for q in find_misses(verdicts, miss.id)) == miss.wrong
    for wanted in stats.wanted:
        assert sum(wanted.id in q.right for q in find_misses(verdicts, wanted.id)) == wanted.times


def test_erased_verdicts_are_in_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "MAX_KEYS_PER_STATEMENT", 50)
    with closing(Feedback.open(str(tmp_path / "f.db"))) as feedback:
        for n in range(120):
            feedback.add(Verdict(f"{n}", f"secret {LONG}", "q", None, False))
        feedback.remove("0")  # as some builds of SQLite leave it
        feedback.erase([f"{n}" for n in range(1, 120)])
        assert sum(b"secret" in file.read_bytes() for file in tmp_path.iterdir()) == 0
        assert feedback.verdicts() == []


def test_a_file_is_its_owners_alone_and_keeps_its_retention(tmp_path):
    file = tmp_path / "f.db"
    with closing(Feedback.open(str(file))) as feedback:
        assert feedback.retention_days == 365
        feedback.set_retention(7)
    with closing(Feedback.open(str(file), create=False)) as again:
        assert again.retention_days == 7
    assert file.stat().st_mode & 0o777 == 0o600


def test_of_those_who_add_or_take_back_one_verdict_one_did(feedback):
    keys = [f"{n}" for n in range(20) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda key: feedback.add(verdict(key)), keys)) == 20
        assert sum(pool.map(feedback.remove, keys)) == 20
    assert feedback.verdicts() == []


@pytest.mark.slow
def test_twenty_killed_writers_lose_nothing_they_acknowledged(address):
    acknowledged = []
    for batch in range(5):
        writers = [started(write, address, f"{batch}-{n}", 10**6) for n in range(4)]
        for n, (process, hears) in enumerate(writers):
            acknowledged.append(hears.recv())  # it is under way
            time.sleep(0.003 * ((5 * batch + n) % 7))
            process.kill()
        for process, hears in writers:
            acknowledged += heard(hears)
            process.join()
            assert process.exitcode == -signal.SIGKILL
        with closing(Feedback.open(address)) as feedback:
            kept = [one.key for one in feedback.verdicts()]
        assert set(acknowledged) <= set(kept)
        assert len(kept) == len(set(kept))
    assert len(acknowledged) >= 20


def test_a_commit_waits_for_the_disk_whatever_the_server_says(postgres):
    off = f"{postgres}&options=-csynchronous_commit%3Doff"
    with closing(Feedback.open(off)) as feedback, feedback._engine.connect() as connection:
        shown = connection.exec_driver_sql("SHOW synchronous_commit").scalar()
    assert shown == "on"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "neither a URL nor a path"),
        ("mysql://root@localhost/x", "'mysql'"),
        ("sqlite://", "is a file"),
        ("sqlite:///:memory:", "is a file"),
        (":memory:", "neither a URL nor a path"),
        ("sqlite://secret@host/x.db", "is a file"),
        ("sqlite:///x.db?password=secret", "is a file"),
        ("postgresql://nobody:secret@localhost:1/x", "refused"),
        ("postgresql://localhost:1/x?password=secret", "refused"),
        ("postgresql://nobody:a@secret@localhost:1/x", "as %40"),
        ("host=127.0.0.1 port=1 dbname=fb user=tw password=secret", "neither a URL nor a path"),
        ("tw:secret@db/fb", "neither a URL nor a path"),
        ("/run/postgresql password=secret", "neither a URL nor a path"),
    ],
)
def test_an_address_that_cannot_be_used(url, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FeedbackError, match=said) as raised:
        Feedback.open(url)
    assert "secret" not in "".join(traceback.format_exception(raised.value))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["my feedback.db", "sub/f", "./host=db", "{tmp}/a@b.db"])
def test_a_path_is_a_file(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Feedback.open(path.format(tmp=tmp_path)).close()
    assert (tmp_path / path.format(tmp=tmp_path)).exists()


def test_files_that_hold_no_feedback(tmp_path):
    with pytest.raises(FeedbackError, match="a folder"):
        Feedback.open(str(tmp_path))
    with pytest.raises(FeedbackError, match="no such file"):
        Feedback.open(str(tmp_path / "none.db"), create=False)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at" * 50)
    with pytest.raises(FeedbackError, match="not a database"):
        Feedback.open(str(tmp_path / "text.db"))
    sqlite3.connect(tmp_path / "other.db").close()
    with pytest.raises(FeedbackError, match="holds no feedback"):
        Feedback.open(str(tmp_path / "other.db"), create=False)


@pytest.mark.parametrize("then", ["removed", "replaced"])
def test_no_verdict_is_acknowledged_that_is_stored_nowhere(tmp_path, then):
    file = tmp_path / "feedback.db"
    with closing(Feedback.open(str(file))) as feedback:
        feedback.add(verdict("before"))
        file.rename(tmp_path / "moved.db")
        if then == "replaced":
            Feedback.open(str(file)).close()
        for work in (lambda: feedback.add(verdict("k")), lambda: feedback.remove("before")):
            with pytest.raises(FeedbackError, match="removed or replaced since it was opened"):
                work()
        assert file.exists() == (then == "replaced")
        if then == "removed":
            (tmp_path / "moved.db").replace(file)
            assert feedback.add(verdict("after"))


def test_a_file_that_is_removed_while_a_verdict_is_stored_is_noticed(tmp_path):
    file = tmp_path / "feedback.db"
    with closing(Feedback.open(str(file))) as feedback:
        sa.event.listen(feedback._engine, "commit", lambda _: file.unlink(missing_ok=True))
        with pytest.raises(FeedbackError, match="removed or replaced"):
            feedback.add(verdict())
