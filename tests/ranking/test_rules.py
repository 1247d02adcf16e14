"""Pins and synonyms: how they are read, when they hold, and what they do to a ranking."""

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinrank.errors import RankerError
from twinrank.evaluation import evaluate
from twinrank.ranking import LOCAL, RULES, Explainer, Ranker, Rules

TEXT = "How do I pay?"


def pins(query, answer="a", **more):
    return Rules.model_validate({"pins": [{"query": query, "answer": answer, **more}]})


def synonyms(*words, **more):
    return Rules.model_validate({"synonyms": [{"words": words, **more}]})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pins = 3", "pins: "),
        ("[[pins]]\nquery = 'x'", "pins.0.answer: Field required"),
        ("[[pins]]\nquery = '?!'\nanswer = 'a'", "pins.0.query: Value error, has no word"),
        ("[[pin]]\nquery = 'x'\nanswer = 'a'", "pin: no such field"),
        ("[[synonyms]]\nwords = ['vpn']", "synonyms.0: Value error, one word alone"),
        ("[[pins]\n", "not valid TOML: .*line 1"),
        ("#" * 200_001, "more than 200,000 characters"),
        ("[[pins]]\nquery = 'x'\nanswer = 'a'\n" * 501, "pins: .*500"),
    ],
)
def test_faults_name_the_file_and_the_rule(tmp_path, text, fault):
    (tmp_path / RULES).write_text(text)
    with pytest.raises(RankerError, match=f"{re.escape(str(tmp_path / RULES))}: {fault}"):
        Rules.load(tmp_path)


def test_a_folder_without_rules_has_none(tmp_path):
    assert not Rules.load(tmp_path)


@pytest.mark.parametrize(
    ("query", "text", "whole", "within"),
    [
        ("reset password", "  Reset PASSWORD?!", True, True),
        ("reset password", "how do I reset password today", False, True),
        ("reset password", "reset my password", False, False),
        ("pass", "password", False, False),
        ("Straße", "STRASSE", False, False),  # case alone is put aside
        ("e\u0301te\u0301", "\u00e9t\u00e9", True, True),  # composed, or not
        ("パスワード", "パスワードを忘れた", False, True),
        ("c++", "C", True, True),  # punctuation is put aside
    ],
)
def test_when_a_pin_holds(query, text, whole, within):
    assert bool(pins(query).find_pin(text)) is whole
    assert bool(pins(query, contains=True).find_pin(text)) is within


def test_the_first_pin_of_a_query_counts():
    both = Rules.model_validate(
        {"pins": [{"query": "pay", "answer": a, "contains": True} for a in "ab"]}
    )
    assert both.find_pin("how to pay").answer == "a"


@pytest.mark.parametrize(
    ("rules", "text", "read"),
    [
        (synonyms("vpn", "tunnel"), "my VPN is down", "my VPN tunnel is down"),
        (synonyms("vpn", "tunnel"), "my tunnel is down", "my tunnel vpn is down"),
        (synonyms("vpn", "tunnel"), "vpn and vpn", "vpn tunnel and vpn"),  # once
        (synonyms("vpn", "tunnel"), "a vpn tunnel", "a vpn tunnel"),  # it has both
        (synonyms("vpn", "tunnel"), "vpns", "vpns"),
        (synonyms("ZDX", means=["data explorer"]), "zdx?", "zdx data explorer?"),
        (synonyms("zdx", means=["data explorer"]), "data explorer", "data explorer"),
        (synonyms("log in", "sign-in"), "cannot log\nin.", "cannot log\nin sign-in."),
        (synonyms("log in", "sign-in"), "no sign in", "no sign in log in"),
    ],
)
def test_what_a_query_is_read_as(rules, text, read):
    assert rules.expand([text]) == [read]


WORDS = st.lists(st.sampled_from(["vpn", "tunnel", "pay", "log in", "x"]), max_size=6)


@given(WORDS, st.sampled_from([" ", ", ", "\n"]))
def test_a_text_keeps_its_words_and_is_expanded_once(words, between):
    rules = synonyms("vpn", "tunnel", "log in")
    text = between.join(words)
    [read] = rules.expand([text])
    rest = iter(read)
    assert all(character in rest for character in text)  # in their order
    assert rules.expand([read]) == [read]


@pytest.fixture
def pinned(fused):
    """A fused ranker that pins, for a text, the answer that it ranks last."""
    [ranking] = fused.rank(TEXT, fused.answers.height)
    fused.rules = pins("how do I pay", ranking[-1].id)
    return fused


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_a_pinned_answer_comes_first(pinned, k, indexed):
    before = [answer.id for answer in pinned.rank("how do I pay now", k)[0]]
    if indexed:
        pinned.build_index(LOCAL)
    last = pinned.rules.pins[0].answer
    with_pin, without = pinned.rank([TEXT, "how do I pay now"], k, min_confidence=0.0)
    assert (with_pin[0].id, with_pin[0].pinned) == (last, "how do I pay")
    assert with_pin[0].confidence in (1.0, None)
    assert [answer.id for answer in without] == before
    assert len(with_pin) == k
    assert len({answer.id for answer in with_pin}) == k
    assert all(answer.pinned is None for answer in (*with_pin[1:], *without))
    for answer in with_pin:  # its score stays what the signals gave
        assert answer.score == pytest.approx(sum(answer.parts.values()), abs=1e-4)


def test_a_pin_cannot_show_what_a_filter_hides(pinned):
    last = pinned.rules.pins[0].answer
    brand = np.where(pinned.answers["id"] == last, '{"brand": "acme"}', '{"brand": "globex"}')
    pinned.answers = pinned.answers.with_columns(metadata=brand)
    [ranking] = pinned.rank(TEXT, where={"brand": "globex"})
    assert last not in {answer.id for answer in ranking}
    assert ranking[0].pinned is None


def test_scores_know_rules_only_if_asked(pinned):
    row = pinned.answers["id"].to_list().index(pinned.rules.pins[0].answer)
    assert pinned.scores([TEXT])[0].argmax() != row
    assert pinned.scores([TEXT], with_rules=True)[0].argmax() == row


def test_synonyms_change_what_is_read(fused):
    foreign = "zahlung"
    fused.rules = synonyms(foreign, means=["how do I pay an invoice"])
    read = f"{foreign} how do I pay an invoice"
    expected = [answer.as_dict() for answer in fused.rank(read)[0]]
    assert [answer.as_dict() for answer in fused.rank(foreign)[0]] == expected
    ids = [answer["id"] for answer in expected[:2]]
    of_synonym, of_read = (Explainer(fused).explain([text], [ids]) for text in (foreign, read))
    assert of_synonym == of_read


def test_rules_are_measured(pinned, help_centre):
    row = help_centre.split("test").frame.row(0, named=True)
    right = help_centre.labels.filter(query=row["id"])["answer"][0]
    pinned.rules = pins(row["text"], right)
    plain, ruled = (evaluate(pinned, help_centre, with_rules=with_) for with_ in (False, True))
    ranks = [evaluation.per_query.filter(id=row["id"])["rank"][0] for evaluation in (plain, ruled)]
    assert ranks[1] == 1
    others = [e.per_query.filter(pl.col("id") != row["id"])["rank"] for e in (plain, ruled)]
    assert others[0].equals(others[1])


def test_rules_outlive_versions_and_name_lost_answers(fused, tmp_path, caplog):
    fused.save(tmp_path)
    (tmp_path / RULES).write_text('[[pins]]\nquery = "pay"\nanswer = "gone"\n')
    ranker = Ranker.load(tmp_path)
    assert "rules.toml pins 'gone', which is no answer here" in caplog.text
    assert ranker.rank("pay")[0][0].pinned is None
    ranker.remove_answers([ranker.answers["id"][0]])
    ranker.save(tmp_path)
    assert Ranker.load(tmp_path).rules == ranker.rules
