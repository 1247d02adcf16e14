import html
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exploration.conftest import dataset
from twinrank.exploration import explore
from twinrank.exploration import sample as sampling
from twinrank.reports.exploration_report import exploration_page

Q = [(f"q{i}", "ab"[i % 2], f"t{i // 2}", f"reset password number {i}") for i in range(8)]
ANSWERS = [(f"a{i}", f"Title {i}", f"text of {i}") for i in range(3)]
LABELS = [(f"q{i}", f"a{i // 4}", ("train", "test")[i // 4]) for i in range(8)]

CASES = {
    "whole": (Q, LABELS, ANSWERS),
    "one type": ([(i, "a", t, text) for i, _, t, text in Q], LABELS, ANSWERS),
    "no threads": ([(i, k, i, text) for i, k, _, text in Q], LABELS, ANSWERS),
    "one thread": ([(i, k, "t", text) for i, k, _, text in Q], LABELS[:4], ANSWERS),
    "train alone": (Q, LABELS[:4], ANSWERS),
    "test alone": (Q, LABELS[4:], ANSWERS),
    "no labels": (Q, [], ANSWERS),
    "one label": (Q, LABELS[:1], ANSWERS),
    "one answer": (Q, [(f"q{i}", "a0", "train") for i in range(8)], ANSWERS[:1]),
    "one query": (Q[:1], [("q0", "a0", "train")], ANSWERS),
    "one unlabelled query": (Q[:1], [], ANSWERS[:1]),
    "no queries": ([], [], ANSWERS),
    "all the same": (
        [(f"q{i}", "ab"[i % 2], f"q{i}", "same") for i in range(6)],
        LABELS[:4],
        ANSWERS,
    ),
    "several labels": (Q, [*LABELS, ("q0", "a2", "train"), ("q0", "a1", "train")], ANSWERS),
    "no words": ([(f"q{i}", "ab"[i % 2], f"q{i}", "1 !") for i in range(4)], LABELS[:2], ANSWERS),
}


def sound(exploration):
    """Every finding has a sentence with a number, and advice; all of it is JSON."""
    findings = exploration.findings
    assert findings
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=["mend", "know", "fine"].index)
    for finding in findings:
        assert finding.text.endswith(".") and finding.advice.endswith(".")
        assert "nan" not in finding.text and "inf" not in finding.text.split()
        assert all(math.isfinite(value) for value in finding.figures.values())
    json.dumps([finding.as_dict() for finding in findings], allow_nan=False)
    return {finding.name: finding for finding in findings}


@pytest.mark.parametrize("case", CASES)
def test_whatever_is_missing_there_are_findings_and_a_page(case, encoder, store):
    exploration = explore(dataset(*CASES[case]), encoder, store)
    findings = sound(exploration)
    page = exploration_page(exploration)
    assert page.count("<!doctype html>") == 1
    assert all(html.escape(finding.text)[:40] in page for finding in findings.values())
    for check in exploration.checks:
        has_plane = check.name == "space" and len(exploration.subject.sample) > 1
        shown = bool(check.tables or check.folded or has_plane or check.name == "types")
        assert (f">{check.heading}</h2>" in page) == shown
        assert page.count(check.heading) >= len(check.findings) * shown


kinds, threads = st.sampled_from("abc"), st.integers(0, 4)
words = st.text("ab <é'\n", min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_small_data_set_is_explored(encoder, store, data):
    rows = data.draw(st.lists(st.tuples(kinds, threads, words), max_size=12))
    queries = [(f"q{i}", kind, f"t{t}", text) for i, (kind, t, text) in enumerate(rows)]
    splits = ("train", "validation", "test", "train", "train")
    chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True)) if rows else []
    labels = [(f"q{i}", f"a{i % 3}", splits[rows[i][1]]) for i in chosen]
    sound(explore(dataset(queries, labels, ANSWERS), encoder, store))


def test_the_numbers_are_those_of_the_data(encoder, store):
    queries = [(f"q{i}", "a" if i < 90 else "b", f"q{i}", f"text {i}") for i in range(100)]
    labels = [(f"q{i}", "a0" if i < 30 else "a1", "train") for i in range(40)]
    labels += [(f"q{i}", "a0" if i < 55 else "a2", "validation") for i in range(40, 60)]
    answers = [(f"a{i}", f"Title {i}", "text") for i in range(20)]
    exploration = explore(dataset(queries, labels, answers), encoder, store)
    findings = sound(exploration)
    assert findings["types"].level == "mend"
    assert findings["types"].figures["rarest_share"] == 0.1
    assert "10% of the queries" in findings["types"].text
    assert findings["answers"].figures["half_of_labels"] == 1
    assert findings["answers"].figures["commonest_three_accuracy"] == 15 / 20
    assert findings["unused"].figures["never_right"] == 17
    assert findings["unlabelled"].text.startswith("40 of 100 queries (40%)")
    warnings = {finding.text for finding in exploration.findings if finding.name == "data"}
    assert "1 answers that are right in validation have no label in train." in warnings
    assert "Test has no labels: `twinrank split` divides those there are." in warnings


def test_advice_says_what_was_measured(encoder, store):
    queries = [(f"q{i}", "a" if i < 9 else "b", f"t{i // 2}", f"text {i}") for i in range(10)]
    labels = [(f"q{i}", "a0", "train") for i in range(8)]
    findings = sound(explore(dataset(queries, labels, ANSWERS), encoder, store))
    assert "keeps the epoch whose worst type ranks best" in findings["types"].advice
    assert "pre-training" not in findings["unlabelled"].advice


def test_a_longer_limit_is_advised_only_where_the_encoder_can_read_so_much(encoder, store):
    long = [("q0", "a", "q0", "word " * 200), ("q1", "b", "q1", "word")]
    findings = sound(explore(dataset(long, [], ANSWERS), encoder, store))
    assert findings["lengths"].level == "mend"
    assert "max_tokens" not in findings["lengths"].advice  # this encoder has 64 positions
    assert findings["lengths"].figures["unread_a"] == pytest.approx(1 - 16 / 802)


def test_tags_are_named_before_more_tokens_are_advised(encoder, store):
    answers = [("a1", "One", "<p>" + "word " * 60 + "</p>"), ("a2", "Two", "plain")]
    data = dataset([("q1", "t", "q1", "it says<br>no")], [("q1", "a1", "train")], answers)
    exploration = explore(data, encoder, store)
    findings = sound(exploration)
    texts = {finding.text for finding in exploration.findings}
    tags = "1 answers hold HTML, whose tags are read as words: import again, without --keep-markup."
    assert tags in texts
    assert findings["lengths"].advice.startswith("Take the HTML out first")


def test_it_says_that_it_read_a_sample(encoder, store, monkeypatch):
    monkeypatch.setattr(sampling, "MAX_LABELLED", 4)
    monkeypatch.setattr(sampling, "MAX_ANSWERS", 2)
    page = exploration_page(explore(dataset(*CASES["whole"]), encoder, store))
    assert "Features were read of 4 queries and 2 answers, drawn at random" in page
