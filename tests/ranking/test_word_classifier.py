"""The classifier of words beside scikit-learn's, and what becomes of it as answers come and go."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from twinrank.ranking import PastQueries, QueryBatch, word_classifier
from twinrank.ranking.bm25 import tokenise
from twinrank.ranking.word_classifier import RIDGE, SCALE, WordClassifier, WordSpace

PAST = [
    "my invoice shows the wrong address",
    "cannot reset my password, the reset mail never comes",
    "the invoice has no VAT number",
    "password reset link is expired",
    "where do I change the address on an invoice?",
]
LABELS = [[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 0], [1, 0, 0]]
ANSWERS = ["Change the address on invoices", "Reset your password", "Add a VAT number"]
ASKED = ["reset password please", "VAT on the invoice is wrong", "quux"]


def past_of(texts=PAST, labels=LABELS):
    labels = sparse.csr_array(np.asarray(labels, np.float32))
    vectors = np.zeros((len(texts), 2), np.float32)
    return PastQueries(texts, [None] * len(texts), vectors, labels, np.zeros(labels.shape[1], bool))


def batch(texts=ASKED):
    return QueryBatch(texts, np.empty((len(texts), 0), np.float32))


def rows_of(*texts):
    return pl.DataFrame([{"title": text, "text": ""} for text in texts])


@pytest.fixture
def classifier():
    return WordClassifier.fit(past_of(), ANSWERS, "english")


def test_vectors_are_those_of_scikit_learn():
    space, texts = WordSpace.of([*PAST, *ANSWERS], "english"), [*ASKED, *PAST]
    reference = TfidfVectorizer(
        analyzer=lambda text: tokenise([text], "english")[0], sublinear_tf=True, min_df=2
    ).fit([*PAST, *ANSWERS])
    ours, theirs = space.vectors(texts), reference.transform(texts)
    np.testing.assert_allclose((ours @ ours.T).toarray(), (theirs @ theirs.T).toarray(), atol=1e-6)


def test_scores_are_those_of_ridge_regression(classifier):
    labels = np.array(LABELS, float)
    targets = np.vstack([labels / labels.sum(axis=1, keepdims=True), np.eye(3)])
    ridge = Ridge(alpha=RIDGE, fit_intercept=False, tol=1e-8).fit(classifier.rows, targets)
    expected = SCALE * ridge.predict(classifier.space.vectors(ASKED))
    np.testing.assert_allclose(classifier.scores(batch()), expected, atol=1e-4)
    assert not classifier.scores(batch())[2].any()  # no known word


def test_words_add_up_to_the_score_the_most_first(classifier):
    worth, _ = classifier.explain(ASKED[0], [1, 0])
    assert [*worth][:2] in (["reset", "password"], ["password", "reset"])
    assert sum(worth.values()) == pytest.approx(classifier.scores(batch())[0, 1], rel=1e-4)
    assert classifier.explain("quux", [1]) == [{"quux": 0}]
    assert classifier.explain("", [1, 2]) == [{}, {}]


def test_words_of_a_script_without_spaces_are_explained():
    texts = ["パスワードをリセットできません", "請求書の住所を変更したい"] * 2
    answers = ["パスワードのリセット", "請求書の住所", "VAT"]
    classifier = WordClassifier.fit(past_of(texts, [*LABELS[:2]] * 2), answers, "english")
    for text in (*texts, "İstanbul VATs İ", "VATs, a VAT!"):
        (worth,) = classifier.explain(text, [0])
        score = classifier.scores(batch([text]))[0, 0]
        assert sum(worth.values()) == pytest.approx(score, rel=1e-3, abs=1e-4)


def test_what_no_two_texts_say_any_more_is_not_known_any_more():
    space = WordSpace.of(["carolsson asks", "carolsson asks", "who asks"], "english")
    after = space.without_rare(["who asks", "he asks"])
    assert space.vectors(["carolsson"]).nnz and space.vectors(["carolsson"]).data[0] == 1
    assert not after.vectors(["carolsson"]).data.any()
    np.testing.assert_array_equal(after.idf[after.idf > 0], space.idf[after.idf > 0])
    assert after.vectors(["asks"]).data.any()


@given(st.permutations(range(3)), st.integers(1, 2))
def test_answers_may_go_in_any_order(order, count):
    classifier = WordClassifier.fit(past_of(), ANSWERS, "english")
    before, stays = classifier.scores(batch()), np.ones(3, bool)
    stays[order[:count]] = False
    after = classifier.select(stays)
    assert after.rows.shape[0] == after.weights.shape[0] == len(PAST) + stays.sum()
    lost = SCALE * (classifier.space.vectors(ASKED) @ classifier.rows[len(PAST) :][~stays].T)
    expected = before - lost.toarray() @ classifier.weights[len(PAST) :][~stays]
    np.testing.assert_allclose(after.scores(batch()), expected[:, stays], atol=1e-4)


def test_a_newcomer_is_known_by_its_text_and_the_others_keep_their_scores(classifier):
    before = classifier.scores(batch())
    after = classifier.upsert(rows_of("The reset of a password"), np.array([3]))
    scores = after.scores(batch())
    np.testing.assert_allclose(scores[:, :3], before, atol=1e-5)
    assert scores[0, 3] > 1
    assert scores[0, 3] > scores[1, 3]
    again = classifier.upsert(rows_of("The reset of a password"), np.array([1]))
    assert again.rows.shape == classifier.rows.shape
    np.testing.assert_array_equal(again.weights, classifier.weights)


def test_many_newcomers_are_fitted_as_one_by_one(classifier, monkeypatch):
    texts = [f"The {word} of a password" for word in ("reset", "address", "invoice")]
    by_one = classifier.upsert(rows_of(*texts), np.arange(3, 6))
    monkeypatch.setattr(word_classifier, "MAX_ONE_BY_ONE", 2)
    at_once = classifier.upsert(rows_of(*texts), np.arange(3, 6))
    np.testing.assert_allclose(at_once.weights, by_one.weights, atol=1e-4)


def test_labels_that_come_back_are_fitted_as_all_were(classifier):
    without = np.array([True, False, True])
    smaller = classifier.select(without)
    back = smaller.upsert(rows_of(ANSWERS[1]), np.array([2]))
    assert np.isfinite(back.weights).all()  # some queries have no answer now
    labels = np.array(LABELS, np.float32)[:, [0, 2, 1]]
    again = back.with_past(replace(back.past, labels=sparse.csr_array(labels)))
    whole = WordClassifier.fit(past_of(labels=labels), [ANSWERS[i] for i in (0, 2, 1)], "english")
    np.testing.assert_allclose(again.weights[:, 2], whole.weights[:, 2], atol=1e-4)
    np.testing.assert_allclose(again.scores(batch())[:, 2], whole.scores(batch())[:, 2], atol=1e-3)
    more = past_of([*PAST, "no password"], [*labels, [0, 0, 1]])
    wider = again.with_past(more)
    assert wider.rows.shape[0] == len(PAST) + 1 + 3
    assert wider.weights[len(PAST), 2] > 0


def test_without_texts_scores_and_reasons_stay(classifier):
    shared = classifier.without_texts()
    assert not shared.past.has_texts and shared.without_texts().rows is shared.rows
    again = WordClassifier.fitted(shared.past, ANSWERS, shared.space, shared.weights, shared.spread)
    for each in (shared, again):
        np.testing.assert_allclose(each.scores(batch()), classifier.scores(batch()), atol=1e-4)
    stays = np.array([True, False, True])
    smaller, expected = (each.select(stays).scores(batch()) for each in (again, classifier))
    np.testing.assert_allclose(smaller, expected, atol=1e-4)
    (worth,), (expected_worth,) = (each.explain(ASKED[0], [1]) for each in (again, classifier))
    assert worth == pytest.approx(expected_worth, abs=1e-4)


def test_without_texts_a_newcomer_is_fitted_nearly_as_with_them(classifier):
    newcomer = (rows_of("The reset of a password"), np.array([3]))
    expected = classifier.upsert(*newcomer).scores(batch())[:, 3]
    shared = classifier.without_texts().upsert(*newcomer)
    np.testing.assert_allclose(shared.scores(batch())[:, 3], expected, atol=0.25 * expected.max())
    labels = shared.with_past(shared.past.relabel(3, [], lambda texts: texts, newcomer=True))
    np.testing.assert_array_equal(labels.weights, shared.weights)
