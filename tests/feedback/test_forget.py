"""Erasing what people wrote: no file of the ranker, of a learning or of the database has it."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from filelock import Timeout

from tests.ranker_files import all_files, version_folder
from tests.ranking.test_storage import smaller
from tests.test_cli import twinrank
from twinrank.errors import FeedbackError, RankerError
from twinrank.feedback import Verdict
from twinrank.feedback.database import Feedback
from twinrank.feedback.forget import expire, forget, learning_folder
from twinrank.feedback.verdicts import feedback_id
from twinrank.ranking import Ranker

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(400)


def verdict(key, text, at=NOW):
    return Verdict(key, text, "question", "nw-101", True, ("nw-101",), at=at)


@pytest.fixture
def text(folder):
    """One of the ranker's past queries."""
    return Ranker.load(folder).past.texts[3]


@pytest.fixture
def feedback(folder, text):
    """A database with a verdict on it, from long ago, and another; and a learning left behind."""
    smaller(folder).save(folder, keep=True)
    work = learning_folder(folder) / "0123"
    work.mkdir(parents=True)
    (work / "verdicts.json").write_text(json.dumps([text]))
    with closing(Feedback.open(f"{folder}.feedback.db")) as opened:
        opened.add(verdict("k", text, LONG_AGO))
        opened.add(verdict("other", "some other words"))
        yield opened


def files_with(text, folder):
    """The files in and beside a ranker's folder that hold a text as it is or as JSON has it."""
    forms = (text.encode(), json.dumps(text)[1:-1].encode())
    files = [file for file in folder.parent.rglob("*") if file.is_file()]
    assert any(file.name.endswith(".feedback.db") for file in files)
    return [file.name for file in files if any(form in file.read_bytes() for form in forms)]


CRITERIA = {
    "text": lambda text: {"text": text.upper()[3:]},
    "pattern": lambda text: {"pattern": f"^{text[:20]}"},
    "key": lambda text: {"key": "k"},
    "id": lambda text: {"key": feedback_id(text)},
    "before": lambda text: {"before": NOW - timedelta(30)},
}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_nothing_of_a_text_is_left_and_no_rollback_brings_it_back(
    folder, feedback, text, criterion
):
    asked = CRITERIA[criterion](text)
    assert len(files_with(text, folder)) >= 3
    before = all_files(folder)
    dry = forget(folder, feedback, **asked, dry_run=True)
    assert before == all_files(folder)
    gone = forget(folder, feedback, **asked)
    assert gone == dry
    assert (gone.verdicts, gone.past_queries, gone.learnings) == (1, 1, 1)
    assert any("queries.jsonl: 1 such queries stay" in note for note in gone.notes)
    assert files_with(text, folder) == []
    assert [one.key for one in feedback.verdicts()] == ["other"]
    for previous in (False, True):
        ranker = Ranker.load(folder, previous=previous)
        past = ranker.past
        assert text not in past.texts
        assert len(past.texts) == len(past.ids) == len(past.vectors) == past.labels.shape[0]
        vectors = ranker.dense.embed_queries(past.texts)
        np.testing.assert_allclose(vectors, past.vectors, atol=1e-4)  # each row is its text's
        assert ranker.rank("where is my money??", k=1)[0]
    assert forget(folder, feedback, **asked).past_queries == 0


@pytest.mark.parametrize("criterion", ["text", "before"])
def test_what_a_killed_call_left_in_the_database_goes_with_the_next(
    folder, feedback, text, criterion
):
    with closing(sqlite3.connect(f"{folder}.feedback.db")) as database:  # as far as the kill let it
        database.execute("DELETE FROM twinrank_verdicts WHERE key = 'k'")
        database.commit()
    in_database = [name for name in files_with(text, folder) if ".feedback.db" in name]
    assert in_database
    forget(folder, feedback, **CRITERIA[criterion](text))
    assert not set(in_database) & set(files_with(text, folder))


@pytest.mark.parametrize("criterion", ["text", "id", "id in the data"])
def test_an_answer_that_is_restored_brings_no_erased_text_back(folder, text, criterion):
    ranker = Ranker.load(folder)
    past = ranker.past
    (row,) = past.labels[[3]].nonzero()[1]
    answer, asked = ranker.answers["id"][int(row)], {"key": past.ids[3]}
    ranker.set_aside(answer)
    ranker.save(folder)
    Feedback.open(f"{folder}.feedback.db").close()
    assert len(files_with(text, folder)) == 2  # past queries, and what restores the answer
    forget(folder, None, **(CRITERIA[criterion](text) if criterion in CRITERIA else asked))
    assert files_with(text, folder) == []
    ranker = Ranker.load(folder)
    ranker.restore_answer(answer)
    assert text not in ranker.past.texts


def test_a_text_that_another_verdict_has_stays_when_one_goes_by_key(folder, feedback, text):
    feedback.add(verdict("again", f" {text.upper()}"))
    assert forget(folder, feedback, key="k").past_queries == 0
    assert text in Ranker.load(folder).past.texts


def test_the_data_is_searched_where_it_moved_along_with_the_ranker(
    folder, help_centre_folder, text, tmp_path
):
    before, now = tmp_path / "before", tmp_path / "now"
    shutil.copytree(help_centre_folder, before / "data")
    ranker = Ranker.load(folder)
    ranker.origin = ranker.origin.model_copy(update={"folder": str(before / "data")})
    ranker.save(before / "ranker")
    before.rename(now)
    [note] = forget(now / "ranker", None, text=text, dry_run=True).notes
    assert note.startswith(f"{now.resolve()}") and "queries.jsonl: 1 such queries stay" in note


def test_all_past_queries_can_go(folder):
    number = len(Ranker.load(folder).past.texts)
    assert forget(folder, None, pattern="").past_queries == number
    ranker = Ranker.load(folder)
    assert ranker.past.texts == []
    assert len(ranker.rank("where is my money??", k=3)[0]) == 3


def test_verdicts_expire_as_the_service_was_told(folder, feedback, text):
    feedback.set_retention(500)
    assert expire(folder, feedback).verdicts == 0
    feedback.set_retention(399)
    with closing(Feedback.open(f"{folder}.feedback.db")) as again:
        assert again.retention_days == 399
        assert expire(folder, again).verdicts == 1
    assert files_with(text, folder) == []


def test_a_learning_under_way_is_not_robbed(folder, feedback, monkeypatch):
    monkeypatch.setattr(
        "twinrank.ranking.storage.FileLock.acquire",
        lambda *_, **__: (_ for _ in ()).throw(Timeout("x")),
    )
    with pytest.raises(RankerError, match="another writes here"):
        expire(folder, feedback, wait=False)
    assert len(feedback.verdicts()) == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "give one of"),
        ({"text": "a", "pattern": "k"}, "give one of"),
        ({"text": " "}, "--text is empty"),
        ({"pattern": "("}, "no regular expression"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, asked, said):
    with pytest.raises(FeedbackError, match=said):
        forget(folder, None, **asked)


def test_the_command_counts_and_erases_and_names_pages(folder, feedback, text):
    (folder / "report.html").write_text(f"<p>{text}</p>")
    command = ("forget", folder, "--text", text)
    assert "would be erased: 1 verdicts; 1 past queries" in twinrank(*command, "--dry-run").stdout
    assert len(feedback.verdicts()) == 2
    shown = twinrank(*command, "--json").stdout
    assert json.loads(shown)["verdicts"] == 1
    assert "report.html: shows such a text; delete it" in shown
    assert files_with(text, folder) == ["report.html"]


@pytest.mark.usefixtures("feedback")
def test_who_may_read_what(folder):
    files = version_folder(folder).iterdir()
    modes = {file.name: file.stat().st_mode & 0o777 for file in files}
    assert modes.pop("past.jsonl") == 0o600
    assert set(modes.values()) == {0o644}
    for end in ("", "-wal", "-shm"):
        assert (folder.parent / f"ranker.feedback.db{end}").stat().st_mode & 0o777 == 0o600
