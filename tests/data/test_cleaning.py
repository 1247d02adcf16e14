import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_importing import imported
from twinrank.data import Dataset
from twinrank.data.cleaning import clean_chat, clean_mail, clean_queries, is_auto_reply
from twinrank.errors import DataError, TwinrankError

HERE = Path(__file__).parent
BLOCK = re.compile(r"### (.+)\n((?:.*\n)*?)=== becomes\n((?:(?!### ).*\n)*)")


def read_cases(name):
    """Texts and what they become, by their heading."""
    matches = BLOCK.finditer((HERE / name).read_text(encoding="utf-8"))
    return [pytest.param(m[2].strip("\n"), m[3].strip("\n"), id=m[1]) for m in matches]


MAILS, CHATS = read_cases("mails.txt"), read_cases("chats.txt")


def test_there_are_cases_in_three_languages():
    names = Counter(case.id[:2] for case in (*MAILS, *CHATS))
    assert names.total() >= 45
    assert min(names[language] for language in ("da", "de", "en")) >= 10


@pytest.mark.parametrize(("text", "expected"), MAILS)
def test_mails_are_cleaned(text, expected):
    assert clean_mail(text, Counter()) == expected


@pytest.mark.parametrize(("text", "expected"), CHATS)
def test_chats_are_cleaned(text, expected):
    assert clean_chat(text, Counter()) == expected


LINES = [
    *(line for case in (*MAILS, *CHATS) for line in case.values[0].split("\n")),
    *("", ">", "> a", "--", "User: x", "Agent: y", "Thanks", "the window stays white", "Von: x"),
]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(LINES) | st.text(max_size=20), max_size=12).map("\n".join))
def test_cleaning_cuts_whole_lines_and_never_all_of_a_question(text):
    for clean in (clean_mail, clean_chat):
        counts = Counter()
        rest = clean(text, counts)
        lines = iter(text.split("\n"))
        heads = re.compile(r"^\w[\w -]*: ")  # of a turn whose first line was cut
        is_part = all(
            any(line.strip() in (given_.strip(), heads.sub("", given_).strip()) for given_ in lines)
            for line in (heads.sub("", line) for line in rest.split("\n"))
        )
        assert is_part or counts
        if not rest and text.strip():
            assert clean is clean_mail
            assert counts["auto-replies"]


@pytest.mark.parametrize(
    "line",
    [
        "On " * 20_000,
        "> " * 30_000,
        "On 2025-01-01 wrote " * 3_000 + ":",
        "From: " * 10_000,
        " " * 60_000 + "x",
        "_" * 60_000 + "x",
        "Thanks, " + "A" * 60_000,
        "I am " * 12_000,
        "a@" * 30_000 + "<b@c> wrote",
    ],
)
@pytest.mark.parametrize("separator", [" ", "\n"])
def test_hostile_texts_take_no_longer_than_their_length(line, separator):
    text = line.replace(" ", separator)
    began = time.process_time()
    clean_mail(text, Counter())
    clean_chat(text, Counter())
    assert time.process_time() - began < 3


QUERIES = [
    {"id": "q1", "text": "Where is it?\n\nBest regards\nAnna", "answer": "a1"},
    {"id": "q2", "text": "Automatic reply: hello\nI am away.", "answer": "a2"},
    {"id": "q3", "text": "> all\n> quoted", "answer": "a1"},
    {"id": "q4", "text": "Call 20 12 34 56 or a@b.example", "answer": "a2"},
]


def test_import_cleans_and_says_what_it_cut(tmp_path, caplog):
    queries = [{**row, "content": row["text"]} for row in QUERIES]
    for row in queries:
        del row["text"]
    dataset = imported(tmp_path, queries=queries, clean=["mail", "redact"])
    texts = dict(dataset.queries.select("id", "text").rows())
    assert texts == {
        "q1": "Where is it?",
        "q3": "> all\n> quoted",
        "q4": "Call [phone] or [e-mail]",
    }
    assert set(dataset.labels["query"]) == {"q1", "q3", "q4"}
    assert dataset.left_out == (
        "cleaned: 1 of 4 queries, 19 characters cut",
        "auto-replies left out, with their labels: 1",
        "texts that stay whole, since nothing would be left: 1",
        "redacted: 1 of 3 queries; [e-mail] 1, [phone] 1",
    )
    assert all(sentence in caplog.text for sentence in dataset.left_out)
    written = (tmp_path / "out" / "queries.jsonl").read_text(encoding="utf-8")
    assert "20 12" not in written
    assert [json.loads(line)["_id"] for line in written.splitlines()] == ["q1", "q3", "q4"]
    assert Dataset.load(tmp_path / "out").labels.height == 3


def test_redaction_names_the_extra_that_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("twinrank.extras.find_spec", lambda name: None)
    with pytest.raises(TwinrankError, match=r"pip install 'twinrank\[helpdesk\]'"):
        imported(tmp_path, clean=["redact"])
    assert not (tmp_path / "out").exists()


def test_unknown_steps_are_refused(tmp_path):
    with pytest.raises(TwinrankError, match="called mails; give mail, chat, redact"):
        imported(tmp_path, clean=["mails"])


def test_import_refuses_auto_replies_alone(tmp_path):
    queries = [{"content": "Autosvar: x\nJeg er på ferie."}]
    with pytest.raises(DataError, match="import without --clean-mail"):
        imported(tmp_path, queries=queries, clean=["mail"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "I am out of the office until Monday and my laptop shows a blue screen",
        "Ich bin im Urlaub und komme nicht mehr in mein Konto",
        "Facebook writes: this is an automated message, and then it logs me out",
        "the automatic reply of our shop is sent twice",
    ],
)
def test_people_who_are_away_still_ask(text):
    assert not is_auto_reply(text)


def test_metadata_are_redacted_and_ids_stay(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    metadata = {"type": "mail", "thread": "anna@post.example", "mobile": 20123456, "open": True}
    record = {"_id": "20 12 34 56", "text": "hello there", "metadata": metadata}
    (folder / "queries.jsonl").write_text(json.dumps(record))
    (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "Call 20 12 34 56"}')
    dataset = clean_queries(Dataset.load(folder), ["redact"])
    (query,) = dataset.queries.rows(named=True)
    assert (query["id"], query["thread"]) == ("20 12 34 56", "anna@post.example")
    assert json.loads(query["metadata"]) == {"mobile": "[phone]", "open": True}
    assert dataset.answers["text"].to_list() == ["Call 20 12 34 56"]
    assert dataset.left_out == ("redacted: 1 of 1 queries; [phone] 1",)
