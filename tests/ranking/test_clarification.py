from collections import Counter
from math import log

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinrank.data.texts import answer_texts
from twinrank.errors import RankerError
from twinrank.ranking import RankedAnswer, choose_options
from twinrank.ranking.bm25 import Bm25, tokenise
from twinrank.ranking.clarification import find_terms

BODY = "Open the settings of the program and choose the pane of your account there first of all"


def frame(*pairs):
    titles, texts = zip(*pairs, strict=True)
    return pl.DataFrame({"title": titles, "text": texts})


@given(st.lists(st.floats(0, 1), max_size=8))
def test_options_are_likely_each_and_together(confidences):
    confidences = sorted((c / max(1, sum(confidences)) for c in confidences), reverse=True)
    answers = frame(*[(f"title{i}", BODY) for i in range(8)])
    likely = [i for i, c in enumerate(confidences[:3]) if c >= 0.05]
    worth = len(likely) >= 2 and sum(confidences[i] for i in likely) >= 0.5
    assert choose_options(answers, confidences, "english") == (likely if worth else [])


@pytest.mark.parametrize(
    ("other", "offered"),
    [
        (("Install the program", BODY), False),  # the same
        (("Installing the programs", f"{BODY}!"), False),  # words are compared by their stems
        (("Install the program", f"{BODY} today"), False),  # nine of ten words
        (("Install the program on iOS", BODY), True),  # the title tells it apart
        (("Install the program", "Write to the seller, who will send you a disk"), True),
    ],
)
def test_what_is_nearly_the_same_is_no_choice(other, offered):
    answers = frame(("Install the program", BODY), other, ("Invoices", "Pay by card."))
    assert choose_options(answers, [0.3, 0.3, 0.3], "english") == ([0, 1, 2] if offered else [0, 2])


@pytest.mark.parametrize("with_words", [True, False])
def test_terms_are_an_options_own_by_tf_idf(help_centre, with_words):
    answers, chosen = help_centre.answers, [0, 3, 5]
    texts = answer_texts(answers)
    words = Bm25(texts, language="english") if with_words else None
    stems = tokenise(texts, "english")
    frequency = Counter(stem for of_answer in stems for stem in set(of_answer))
    titles = tokenise(answers["title"].to_list(), "english")
    for number, terms in zip(chosen, find_terms(answers, chosen, "english", words), strict=True):
        shared = {stem for other in chosen if other != number for stem in stems[other]}
        worth = {
            stem: count * log((1 + len(texts)) / frequency[stem])
            for stem, count in Counter(stems[number]).items()
            if stem not in shared and stem not in titles[number] and not stem.isdecimal()
        }
        got = [worth[stem] for (stem,) in tokenise(terms, "english")]
        assert got == pytest.approx(sorted(worth.values(), reverse=True)[:3])
        assert all(term in texts[number].lower() for term in terms)


def test_terms_of_a_language_without_spaces_are_words():
    answers = frame(
        ("パスワードを変更する", "設定を開いて新しいパスワードを入力します"),
        ("請求書を受け取る", "設定を開いて住所を入力します"),
    )
    first, second = find_terms(answers, [0, 1], "japanese", None)
    assert "新しい" in first
    assert "住所" in second
    assert not {"設定", "入力", "パスワード"}.intersection(first + second)


def test_an_answer_without_words_has_no_terms():
    answers = frame(("!", ""), ("2024", "1 2 3"), ("Invoices", "Pay by card."))
    assert find_terms(answers, [0, 1, 2], "english", None)[:2] == [(), ()]


def test_a_question_goes_by_the_confidence_of_the_first(ranker):
    ids, titles = ranker.answers["id"], ranker.answers["title"]
    sure = (0.4, 0.2, 0.1, 0.06, 0.04)
    ranking = [RankedAnswer(i + 1, ids[i], titles[i], 0.0, None, c) for i, c in enumerate(sure)]
    options = ranker.clarify(ranking)
    assert [(o.id, o.title, o.confidence) for o in options] == [
        (a.id, a.title, a.confidence) for a in ranking[:3]
    ]
    assert all(0 < len(option.terms) <= 3 for option in options)
    assert ranker.clarify(ranking, below=0.41) == options
    assert ranker.clarify(ranking, below=0.4) == ranker.clarify(ranking, below=0.0) == []
    assert ranker.clarify([]) == []
    assert ranker.clarify([RankedAnswer(1, ids[0], titles[0], 0.0)]) == []  # no confidence
    with pytest.raises(RankerError, match="rank again"):
        ranker.clarify([*ranking, RankedAnswer(6, "gone", "Gone", 0.0, None, 0.0)])


def test_frequency_counts_the_answers_with_a_word():
    words = Bm25(["Cats and a cat", "the cat", "dogs"], language="english")
    assert [words.frequency("cat"), words.frequency("dog")] == [2, 1]
    assert words.select(np.array([False, True, True])).frequency("cat") == 1
