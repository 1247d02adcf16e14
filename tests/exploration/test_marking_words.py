import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from twinrank.exploration.marking_words import (
    MAX_WORDS,
    MIN_Z,
    PRIOR_WORDS,
    WORD,
    find_marking_words,
    log_odds,
)

counts = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8).filter(
    lambda pairs: all(a + b for a, b in pairs)
)


def by_hand(counts_here, rest):
    """The formula of Monroe, Colaresi and Quinn, word by word."""
    total, z = sum(counts_here) + sum(rest), []
    for y1, y2 in zip(counts_here, rest, strict=True):
        prior = PRIOR_WORDS * (y1 + y2) / total
        odds = [
            math.log((y + prior) / (sum(side) + PRIOR_WORDS - y - prior))
            for y, side in ((y1, counts_here), (y2, rest))
        ]
        z.append((odds[0] - odds[1]) / math.sqrt(1 / (y1 + prior) + 1 / (y2 + prior)))
    return z


@given(counts)
def test_log_odds_are_those_of_the_formula_and_change_their_sign_with_the_sides(pairs):
    counts_here, rest = (np.array(side) for side in zip(*pairs, strict=True))
    z = log_odds(counts_here, rest)
    np.testing.assert_allclose(
        z, by_hand(counts_here.tolist(), rest.tolist()), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(z, -log_odds(rest, counts_here), rtol=1e-9, atol=1e-12)


def test_a_word_of_one_type_marks_it_and_a_word_of_both_marks_none():
    texts = ["hello agent please", "agent please help"] * 50 + ["please reset", "help please"] * 50
    words = find_marking_words(texts, ["chat"] * 100 + ["search"] * 100)
    first = dict(words.group_by("type", maintain_order=True).first().select("type", "word").rows())
    assert first == {"chat": "agent", "search": "reset"}
    assert "please" not in set(words.filter(type="chat")["word"])
    row = words.filter(word="agent").row(0)
    assert row[3:] == (pytest.approx(10_000 / 3), 0.0)
    assert (words["z"] > MIN_Z).all()
    assert (words.group_by("type").len()["len"] <= MAX_WORDS).all()


@pytest.mark.parametrize(
    ("texts", "types"),
    [([], []), (["one word"], ["a"]), (["1 2 3", "!"], ["a", "b"]), (["", "word"], ["a", "b"])],
)
def test_where_there_is_nothing_to_compare_no_word_marks(texts, types):
    assert find_marking_words(texts, types).is_empty()


def test_words_are_those_of_scikit_learn():
    texts = ["It's a WORD, don't; é-mail 2nd _x x1 a b", "naïve caf\u00e9\u2019s 42 ab"]
    vectorizer = CountVectorizer(token_pattern=rf"(?u){WORD.pattern}")
    vectorizer.fit(texts)
    words = {word for text in texts for word in WORD.findall(text.lower())}
    assert words == set(vectorizer.get_feature_names_out())
