import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinrank.exploration.words import LEAST, PRIOR, TOP, log_odds, marking_words

counts = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8).filter(
    lambda pairs: all(a + b for a, b in pairs)
)


def by_hand(own, rest):
    """The formula of Monroe, Colaresi and Quinn, word by word."""
    total, z = sum(own) + sum(rest), []
    for y1, y2 in zip(own, rest, strict=True):
        prior = PRIOR * (y1 + y2) / total
        odds = [
            math.log((y + prior) / (sum(side) + PRIOR - y - prior))
            for y, side in ((y1, own), (y2, rest))
        ]
        z.append((odds[0] - odds[1]) / math.sqrt(1 / (y1 + prior) + 1 / (y2 + prior)))
    return z


@given(counts)
def test_log_odds_are_those_of_the_formula_and_change_their_sign_with_the_sides(pairs):
    own, rest = (np.array(side) for side in zip(*pairs, strict=True))
    found = log_odds(own, rest)
    np.testing.assert_allclose(found, by_hand(own.tolist(), rest.tolist()), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found, -log_odds(rest, own), rtol=1e-9, atol=1e-12)


def test_a_word_of_one_type_marks_it_and_a_word_of_both_marks_none():
    texts = ["hello agent please", "agent please help"] * 50 + ["please reset", "help please"] * 50
    found = marking_words(texts, ["chat"] * 100 + ["search"] * 100)
    first = dict(found.group_by("type", maintain_order=True).first().select("type", "word").rows())
    assert first == {"chat": "agent", "search": "reset"}
    assert "please" not in set(found.filter(type="chat")["word"])
    row = found.filter(word="agent").row(0)
    assert row[3:] == (pytest.approx(10_000 / 3), 0.0)
    assert (found["z"] > LEAST).all()
    assert (found.group_by("type").len()["len"] <= TOP).all()


@pytest.mark.parametrize(
    ("texts", "types"),
    [([], []), (["one word"], ["a"]), (["1 2 3", "!"], ["a", "b"]), (["", "word"], ["a", "b"])],
)
def test_where_there_is_nothing_to_compare_no_word_marks(texts, types):
    assert marking_words(texts, types).is_empty()
