import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from tests.exploration.conftest import dataset
from twinrank.exploration import sample as sampling
from twinrank.exploration.checks import (
    MAX_WORDS,
    MIN_Z,
    PRIOR_WORDS,
    find_marking_words,
)
from twinrank.exploration.sample import draw_sample


def marking_by_hand(texts, types):
    """The formula of Monroe, Colaresi and Quinn, word by word."""
    pattern = r"(?u)\b[^\W\d_][\w'\u2019]+\b"
    find_words = CountVectorizer(token_pattern=pattern).build_analyzer()
    counters = {kind: Counter() for kind in types}
    for text, kind in zip(texts, types, strict=True):
        counters[kind].update(find_words(text))
    marks = {}
    for kind, counts in counters.items():
        rest = sum((counters[k] for k in counters if k != kind), Counter())
        total = counts.total() + rest.total()
        for word in counts if rest and len(counts + rest) > 1 else ():
            prior = PRIOR_WORDS * (counts[word] + rest[word]) / total
            odds = [
                math.log((side[word] + prior) / (side.total() + PRIOR_WORDS - side[word] - prior))
                for side in (counts, rest)
            ]
            spread = math.sqrt(1 / (counts[word] + prior) + 1 / (rest[word] + prior))
            z = (odds[0] - odds[1]) / spread
            if z > MIN_Z:
                marks[kind, word] = z
    return marks


WORDS = st.sampled_from(["it's", "RESET", "é-mail", "2nd", "caf\u00e9\u2019s", "_x", "a", "agent"])
TEXTS = st.lists(st.tuples(st.sampled_from("abc"), st.lists(WORDS, max_size=40)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_marking_words_are_those_of_the_formula(rows):
    texts, types = [" ".join(words) for _, words in rows], [kind for kind, _ in rows]
    words = find_marking_words(texts, types)
    marks = marking_by_hand(texts, types)
    assert {(kind, word): z for kind, word, z, *_ in words.rows()} == pytest.approx(marks)
    assert (words.group_by("type").len()["len"] <= MAX_WORDS).all()


def test_a_word_of_one_type_marks_it_and_a_word_of_both_marks_none():
    texts = ["hello agent please", "agent please help"] * 50 + ["please reset", "help please"] * 50
    words = find_marking_words(texts, ["chat"] * 100 + ["search"] * 100)
    first = dict(words.group_by("type", maintain_order=True).first().select("type", "word").rows())
    assert first == {"chat": "agent", "search": "reset"}
    assert "please" not in set(words.filter(type="chat")["word"])
    assert words.filter(word="agent").row(0)[3:] == (pytest.approx(10_000 / 3), 0.0)


def test_of_much_whole_threads_are_drawn_and_right_answers_first(encoder, store, monkeypatch):
    queries = [(f"q{t}{k}", k, f"t{t}", f"text {t} {k}") for t in range(30) for k in "ab"]
    labels = [(f"q{t}{k}", f"a{t % 5}", "train") for t in range(0, 30, 3) for k in "ab"]
    data = dataset(queries, labels, [(f"a{i}", f"Title {i}", "text") for i in range(20)])
    sample = draw_sample(data, encoder, store)
    assert (sample.queries_left_out, sample.answers_left_out, sample.labels.nnz) == (0, 0, 20)
    features = encoder.encode([queries[7][3]])[0, 1]
    np.testing.assert_allclose(sample.features[7], features, atol=1e-5)
    for name, most in (("MAX_LABELLED", 8), ("MAX_UNLABELLED", 4), ("MAX_ANSWERS", 6)):
        monkeypatch.setattr(sampling, name, most)
    sample = draw_sample(data, encoder, store)
    assert (sample.queries_left_out, sample.answers_left_out) == (60 - 12, 14)
    assert sample.frame.group_by("thread").len()["len"].to_list() == [2] * 6
    assert sample.labelled.sum() == sample.labels.nnz == 8
    right = set(sample.answers["id"].gather(np.unique(sample.labels.indices)))
    assert right <= {f"a{i}" for i in range(5)}
