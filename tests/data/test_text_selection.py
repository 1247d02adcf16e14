"""Sentence selection: its promises for any text, and its scores and choices checked anew."""

import math
import re
from collections import Counter

import numpy as np
import pytest
import Stemmer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from twinrank.data.text_selection import Idf, Selection
from twinrank.data.texts import Readable, readable_answers, split_sentences
from twinrank.encoding import Encoder
from twinrank.errors import TwinrankError
from twinrank.languages import LANGUAGE_CODES

BUDGET = 16
WORDS = ["reset", "password", "the", "a", "invoice", "refund.", "Why?", "Åbn", "wi-fi", "(no)"]

lines = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
bodies = st.lists(lines, max_size=7).map("\n".join)


@st.composite
def readables(draw):
    title = draw(st.sampled_from(["", "Reset.", "Invoice and refund?"]))
    sections = tuple(draw(st.lists(bodies, min_size=1, max_size=4)))
    whole = " ".join(part for part in (title, "\n".join(sections)) if part)
    return Readable(whole, title, sections)


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return Encoder(str(tiny_model), max_tokens=BUDGET, precision="fp32")


def chooser(count_tokens, texts, *, budget=BUDGET, by_section=False, language="english"):
    idf = Idf.of([text.whole for text in texts])
    return Selection(idf, language, count_tokens, budget, by_section)


def plainly(text, how):
    """The same in plain Python, float64, one text and one sentence at a time."""
    if how.count_tokens([text.whole])[0] <= how.budget:
        return text.whole
    every = [text.title] * bool(text.title)
    rows = []
    for section, part in enumerate(text.sections):
        for sentence in split_sentences(part, how.language):
            rows.append((section, len(rows), sentence))
            every.append(sentence)

    def words(sentence):
        return re.findall(r"\w+", sentence.lower())

    tf = Counter(word for sentence in every for word in words(sentence))

    def score(sentence):
        weights = [
            tf[w] * (math.log((1 + how.idf.texts) / (1 + how.idf.counts.get(w, 1))) + 1)
            for w in words(sentence)
        ]
        return round(sum(weights) / max(1, len(weights)), 9)

    best = sorted(rows, key=lambda row: (-score(row[2]), row[1]))
    if how.by_section:
        turns, seen = {}, Counter()
        for section, place, _ in best:
            turns[place] = seen[section]
            seen[section] += 1
        best.sort(key=lambda row: turns[row[1]])
    taken = []
    for row in best:
        tried = [text.title, *(r[2] for r in sorted([*taken, row]))]
        if how.count_tokens([" ".join(filter(None, tried))])[0] <= how.budget:
            taken.append(row)
    chosen = [r[2] for r in sorted(taken)]
    return " ".join(filter(None, [text.title, *chosen])) if chosen else text.whole


def untitled(*sections):
    return Readable("\n".join(sections), "", sections)


# The second text begins in a section one before that in which the first ends.
@example(
    texts=[
        untitled("reset\n" + "reset " * 8, "reset " * 6),
        untitled("reset\n" + "reset " * 8, "reset reset reset refund. reset"),
    ],
    by_section=True,
)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(readables(), min_size=1, max_size=6), by_section=st.booleans())
def test_it_chooses_what_the_definition_says(texts, by_section, encoder):
    how = chooser(encoder.count_tokens, texts, by_section=by_section)
    assert how(texts) == [plainly(text, how) for text in texts]


def test_what_no_sentence_fits_is_read_from_its_beginning_and_said(encoder, caplog):
    caplog.set_level("INFO")
    endless = Readable.plain("password " * 40)
    titled = Readable("invoice " * 40 + "the.", "invoice " * 40, ("the.",))
    long = Readable.plain("password reset.\n" * 40)
    how = chooser(encoder.count_tokens, [endless])
    read = how([endless, titled, long], progress="Reading")
    assert read[:2] == [endless.whole, titled.whole]
    assert encoder.count_tokens(read[2:])[0] <= BUDGET
    assert caplog.messages == [
        "Reading: 3 of 3 texts are longer than 16 tokens; sentences are chosen, "
        "but 2 have none that fits, and are cut"
    ]


def test_the_budget_holds_where_sentences_cost_more_together_than_apart():
    def count(texts):  # a joint between two words costs a token too
        return np.array([2 + max(0, 2 * len(text.split()) - 1) for text in texts])

    text = Readable.plain("invoice refund.\nreset password.\nhello booking.")
    how = chooser(count, [text], budget=9)
    (read,) = how([text])
    assert read == "invoice refund. reset password."
    assert count([read])[0] == 9
    how = chooser(count, [text], budget=8)
    assert how([text]) == ["invoice refund."]


def test_many_texts_are_read_in_parts_and_none_is_no_error(encoder, help_centre, monkeypatch):
    texts = readable_answers(help_centre.answers)
    how = chooser(encoder.count_tokens, texts, budget=300)
    whole = how(texts)
    assert all(read != text.whole for read, text in zip(whole, texts, strict=True))
    monkeypatch.setattr("twinrank.data.text_selection.TEXTS_AT_ONCE", 7)
    assert how(texts) == whole
    assert Idf.of([text.whole for text in texts]) == how.idf
    assert (encoder.count_tokens(whole) <= 300).all()
    nothing = chooser(encoder.count_tokens, [])
    assert nothing([]) == []
    assert nothing([Readable.plain("")]) == [""]


def test_weights_are_those_of_scikit_learn_and_stay_on_disk(tmp_path):
    texts = [
        "Nulstil din adgangskode: \xe5bn Indstillinger, s\xe5 Konti.",
        *("Reset the password, then reset the PIN_2.", "The password is a b c.", ""),
    ]
    vectorizer = TfidfVectorizer(tokenizer=re.compile(r"\w+").findall, token_pattern=None).fit(
        texts
    )
    idf = Idf.of(texts)
    for word, column in vectorizer.vocabulary_.items():
        assert idf.weight(word) == pytest.approx(vectorizer.idf_[column], rel=1e-12)
    assert {"\xe5bn", "pin_2", "a"} < set(vectorizer.vocabulary_)
    assert idf.counts == {"password": 2, "the": 2}
    assert idf.weight("unheard") == idf.weight("reset") > idf.weight("the")
    idf.save(tmp_path / "idf.json")
    with (tmp_path / "idf.json").open("rb") as stream:
        assert Idf.load(stream) == idf
    assert math.isfinite(Idf.of([]).weight("word"))


@pytest.mark.parametrize(
    ("text", "language", "sentences"),
    [
        (
            "Hej hr. Jensen. Ca. 20 kr. om ugen. Tak!",
            "danish",
            ["Hej hr. Jensen.", "Ca. 20 kr. om ugen.", "Tak!"],
        ),
        (
            "Other ways\n- press this\n\n  - or that  \nUser: hi",
            "english",
            ["Other ways", "- press this", "- or that", "User: hi"],
        ),
    ],
)
def test_abbreviations_end_no_sentence_and_line_ends_do(text, language, sentences):
    assert split_sentences(text, language) == sentences


def test_every_language_of_a_recipe_has_rules_for_sentences():
    assert set(Stemmer.algorithms()) <= set(LANGUAGE_CODES)
    with pytest.raises(TwinrankError, match="no rules for sentences in 'klingon'; choose arabic"):
        split_sentences("nuqneH", "klingon")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Cannot sign in\nI tried twice.", "Cannot sign in"),
        ("\nHow do I pay?  \n\nBy card.", "How do I pay?"),
        ("User: Cannot sign in\nAgent: Why?", ""),
        ("Hello.\nI tried twice.", ""),
        ("Hello,\nI tried twice.", ""),
        ("one line", ""),
        ("one line\n \n", ""),
    ],
)
def test_the_title_of_a_query_is_a_first_line_that_is_no_turn_and_no_sentence(text, title):
    readable = Readable.plain(text)
    assert readable.title == title and readable.whole == text
    assert title or readable.sections == (text,)
