"""What verdicts teach: last words, what is left out, and what is held back."""

from datetime import UTC, datetime
from functools import partial

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinrank.feedback import Verdict
from twinrank.feedback.labels import count_waiting, describe_counts, make_labels

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def verdict(text, answer, right=True, kind="question"):
    return Verdict(f"{text}{answer}{right}", text, kind, answer, right, (), None, NOW)


@pytest.fixture(scope="module")
def ids(help_centre):
    return help_centre.answers["id"].to_list()


def learned(help_centre, ids, *verdicts, hold_back=0.0):
    return make_labels(verdicts, help_centre, ids, hold_back=hold_back)


def test_the_last_word_says_what_is_right(help_centre, ids):
    a, b, c = ids[:3]
    said = [
        *[verdict("changed my mind", a), verdict("Changed  my MIND ", b)],
        *[verdict("again and again", a)] * 3,
        *[verdict("right after all", None, right=False), verdict("right after all", a)],
        *[verdict("not the other", a), verdict("not the other", b)],
        verdict("not the other", b, right=False),
        *[verdict("spoken against", a), verdict("spoken against", a, right=False)],
        *[verdict("none", a), verdict("none", b), verdict("none", None, right=False)],
        *[verdict("only wrong", c, right=False), verdict("none of these", None, right=False)],
    ]
    found = learned(help_centre, ids, *said)
    assert found.learned.select("text", "answer").rows() == [
        ("changed my mind", b),
        ("again and again", a),
        ("right after all", a),
        ("not the other", a),
    ]
    counts = found.counts
    assert (counts["verdicts"], counts["replaced"], counts["wrong"], counts["unknown"]) == (
        17,
        7,
        5,
        0,
    )
    assert (counts["texts"], counts["taken_back"], counts["learned"]) == (6, 2, 4)
    assert "5 verdicts on what is wrong, which are no labels" in describe_counts(counts)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_is_measured_on_is_not_learned(help_centre, ids, split):
    asked = help_centre.split(split).frame
    texts = asked["text"].to_list()
    assert learned(help_centre, ids, *(verdict(t, ids[0]) for t in texts)).counts["learned"] == 0
    found = learned(help_centre, ids, verdict(texts[0].upper(), ids[0]))
    assert (found.counts["held_out"], found.learned.height) == (1, 0)
    # nor the other, unlabelled side of a ticket
    other = asked.with_columns(id=pl.lit("other"), text=pl.lit("the other side"))[:1]
    queries = pl.concat([help_centre.queries, other])
    wider = type(help_centre)("wider", help_centre.answers, queries, help_centre.labels)
    assert learned(wider, ids, verdict("The other side", ids[0])).counts["held_out"] == 1


def test_what_train_holds_already_is_known_unless_it_is_labelled_otherwise(help_centre, ids):
    train = help_centre.split("train")
    text = train.texts[0]
    row = train.labels[[0]].toarray()[0]
    right, other = ids[int(row.argmax())], ids[int(row.argmin())]
    assert learned(help_centre, ids, verdict(text, right)).counts["known"] == 1
    found = learned(help_centre, ids, verdict(text, other), hold_back=0.999)
    assert (found.counts["known"], found.counts["learned"], found.counts["held_back"]) == (0, 1, 0)


def test_a_type_nobody_gave(help_centre, ids):
    said = [verdict("first", ids[0], kind=""), verdict("second", ids[0], kind="")]
    said += [verdict("second", ids[0], kind="chat")]
    assert learned(help_centre, ids, *said).learned["type"].to_list() == ["question", "chat"]
    one = help_centre.queries.with_columns(type=pl.lit("mail"))
    alike = type(help_centre)("alike", help_centre.answers, one, help_centre.labels)
    assert learned(alike, ids, *said).learned["type"].to_list() == ["mail", "chat"]


TEXTS = st.sampled_from([f"text {n}" for n in range(12)])
ANSWERS = st.sampled_from(["nw-101", "nw-102", "nw-407", "gone", None])
SAID = st.lists(st.tuples(TEXTS, ANSWERS, st.booleans()), max_size=40)


@settings(deadline=None)
@given(SAID, SAID, st.floats(0, 1))
def test_every_text_is_counted_once_and_held_back_for_good(help_centre, ids, said, more, share):
    said, more = ([verdict(*one) for one in some] for some in (said, more))
    found = learned(help_centre, ids, *said, hold_back=share)
    counts = found.counts
    parts = (
        counts["taken_back"],
        counts["held_out"],
        counts["known"],
        counts["held_back"],
        counts["learned"],
    )
    assert sum(parts) == counts["texts"]
    assert (counts["learned"], counts["held_back"]) == (
        found.learned.height,
        found.held_back.height,
    )
    both = pl.concat([found.learned, found.held_back])
    assert both["id"].is_unique().all()
    assert set(both["answer"]) <= set(ids)
    again = learned(help_centre, ids, *said, *more, hold_back=share)
    assert not set(found.held_back["id"]) & set(again.learned["id"])
    assert not set(found.learned["id"]) & set(again.held_back["id"])
    waiting = partial(count_waiting, said, ids, hold_back=share)
    assert waiting([]) == counts["learned"]
    assert waiting(found.learned.select("text", "answer").rows()) == 0
    larger = learned(help_centre, ids, *said, hold_back=min(1, share + 0.2))
    assert set(found.held_back["id"]) <= set(larger.held_back["id"])
