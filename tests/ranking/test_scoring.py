from dataclasses import replace
from itertools import chain

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit, softmax

from tests.ranker_files import version_folder
from twinrank.data import answer_texts
from twinrank.errors import RankerError
from twinrank.ranking import (
    INITIAL_WEIGHTS,
    Confidence,
    PastQueries,
    Ranker,
    forget_past,
    log_odds,
    scoring,
    top_k,
)
from twinrank.ranking.past_queries import PriorSignal
from twinrank.ranking.word_classifier import WordSpace
from twinrank.training.calibration import calibrate_confidence

TEXTS = ["it wont let me in again", "User: hello\nAgent: hi\nUser: where is my money??"]


def signals(ranker, *, weighted=True):
    return ranker.scoring.signal_scores(ranker.scoring.encode(TEXTS), weighted=weighted)


def test_signals_make_up_the_score(fused):
    scores = signals(fused)
    assert set(scores) == set(INITIAL_WEIGHTS) == set(fused.scoring.weights)
    np.testing.assert_allclose(sum(scores.values()), fused.scores(TEXTS), rtol=1e-5)
    for answers in fused.rank(TEXTS):
        for answer in answers:
            assert sum(answer.parts.values()) == pytest.approx(answer.score, rel=1e-5)
    for name, unweighted in signals(fused, weighted=False).items():
        weighted = fused.scoring.weights[name] * unweighted
        np.testing.assert_allclose(scores[name], weighted, rtol=1e-5, atol=1e-6)


def test_where_no_weights_are_fitted_vectors_and_past_count_in_full(fitted):
    ranker = fitted("towers")
    raw = signals(ranker, weighted=False)
    np.testing.assert_allclose(ranker.scores(TEXTS), raw["dense"] + raw.get("past", 0), rtol=1e-5)


@pytest.mark.parametrize("cells", [1, 3_000])
def test_queries_are_scored_alike_some_at_a_time(fused, help_centre, monkeypatch, cells):
    texts = help_centre.split("test").texts[:7]
    expected, ranked = fused.scores(texts), fused.rank(texts, 3)
    monkeypatch.setattr(scoring, "CELLS_A_CHUNK", cells)
    np.testing.assert_allclose(fused.scores(texts), expected, rtol=1e-5)
    assert [[a.id for a in r] for r in fused.rank(texts, 3)] == [[a.id for a in r] for r in ranked]
    assert fused.scores([]).shape == (0, fused.answers.height)


def test_confidence_is_platts_curve_of_the_first_and_the_softmax_of_what_it_leaves(fused):
    curve, count = fused.confidence, len(fused.answers)
    for scores, answers in zip(fused.scores(TEXTS), fused.rank(TEXTS, count), strict=True):
        p = np.sort(softmax(scores.astype(np.float64)))[::-1]
        sure = expit(curve.slope * np.log(p[0] / (1 - p[0])) + curve.intercept)
        expected = np.minimum(sure, (1 - sure) * p / (1 - p[0]))
        expected[0] = sure
        np.testing.assert_allclose([a.confidence for a in answers], expected, rtol=1e-5)
    first = [answers[0].confidence for answers in fused.rank(TEXTS)]
    np.testing.assert_allclose(first, curve.of(fused.scores(TEXTS)), rtol=1e-5)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.floats(-5, 5),
    st.floats(-50, 50),
)
def test_the_confidences_of_a_ranking_come_to_one_at_most_and_fall(scores, slope, intercept):
    row = np.array(scores)
    curve = Confidence(slope=slope, intercept=intercept)
    sure = curve.of_each(row, top_k(row, len(row)))
    assert sure.sum() <= 1 + 1e-9
    assert (sure >= 0).all()
    assert (np.diff(sure) <= 1e-12).all()
    assert sure[0] == curve.of(row[None])[0]


def test_without_evidence_nothing_is_confident():
    curve = Confidence(slope=0.1, intercept=3.0)
    flat = np.array([[0.0] * 9, [2.5] * 9])
    assert curve.of(flat).tolist() == [0, 0]
    assert not curve.of_each(flat[0], np.arange(9)).any()
    assert curve.of(np.zeros((1, 1)))[0] == 0  # the only answer, and no word of it
    assert curve.of(np.ones((1, 1)))[0] > 0.9


def test_a_query_without_a_known_word_has_no_confidence_and_no_part_in_the_fit(fitted, help_centre):
    words = fitted("bm25")
    assert {answer.confidence for answer in words.rank("zzz qqq", 100)[0]} == {0}
    assert words.rank("zzz qqq", min_confidence=1e-9) == [[]]
    asked = help_centre.split("validation")
    both = replace(
        asked,
        frame=pl.concat([asked.frame, asked.frame.with_columns(text=pl.lit("zzz"))]),
        labels=sparse.vstack([asked.labels, asked.labels], format="csr"),
    )
    assert calibrate_confidence(words.scoring, both).slope == pytest.approx(words.confidence.slope)


def test_log_odds_are_those_of_the_softmax():
    scores = np.random.default_rng(1).normal(size=(20, 6)) * 3
    best = softmax(scores, axis=1).max(axis=1)
    np.testing.assert_allclose(log_odds(scores), np.log(best / (1 - best)), rtol=1e-9)
    assert log_odds(scores[:, :1]).tolist() == [0] * 20


def test_a_text_is_scored_beside_the_answers_that_fit(fused):
    """An answer's own text has its share of the softmax of what texts say, p / (1 + p)."""
    fused.scoring = replace(fused.scoring, weights={**fused.scoring.weights, "words": 0.5})
    queries, scoring = fused.scoring.encode(TEXTS[:1]), fused.scoring
    parts = scoring.signal_scores(queries)
    of_answers = (parts["dense"] + parts["words"])[0].astype(np.float64)
    texts = ["reset the password", "refund"]
    vectors = scoring.dense.embed_documents(texts)
    dense = scoring.weights["dense"] * scoring.dense.towers.scale * (queries.vectors @ vectors.T)
    words = 0.5 * scoring.words.score_documents(TEXTS[0], texts)
    for fits in (np.ones(len(of_answers), bool), np.arange(len(of_answers)) < 3):
        odds = np.exp(dense[0] + words) / np.exp(of_answers[fits]).sum()
        chances = scoring.score_texts(queries, texts, vectors, fits)
        np.testing.assert_allclose(chances, odds / (1 + odds), rtol=1e-4)
    none = scoring.score_texts(queries, texts, vectors, np.zeros(len(of_answers), bool))
    assert ((none > 0) & (none < 1)).all()


def test_silent_below_a_confidence(fused):
    least = fused.rank(TEXTS)[0][0].confidence
    assert fused.rank(TEXTS[0], min_confidence=least * 0.99)[0]
    assert fused.rank(TEXTS[0], min_confidence=min(least * 1.01, 1)) == [[]]
    for wrong in (np.nan, -0.1, 1.1):
        with pytest.raises(RankerError, match=r"min_confidence is .*; give a number from 0 to 1"):
            fused.rank(TEXTS, min_confidence=wrong)
    fused.confidence = None
    with pytest.raises(RankerError, match="knows no confidence"):
        fused.rank(TEXTS, min_confidence=0.5)


def test_a_newcomer_is_given_what_the_recipe_says_instead_of_a_past(fused, help_centre, tmp_path):
    first = help_centre.answers.head(1)
    before = signals(fused, weighted=False)
    fused.remove_answers(first["id"])
    fused.add_answers(first)
    after = signals(fused, weighted=False)
    assert (after["past"][:, -1] == np.float32(fused.recipe.memory.newcomer)).all()
    for name in ("past", "dense"):
        np.testing.assert_allclose(after[name][:, :-1], before[name][:, 1:], rtol=1e-5)

    fused.save(tmp_path)
    loaded = Ranker.load(tmp_path)
    assert loaded.scoring.weights == fused.scoring.weights
    assert loaded.confidence == fused.confidence
    asked = [help_centre.split(split).texts for split in ("train", "validation")]
    assert loaded.past.texts == [*chain(*asked)]
    assert loaded.past.newcomers.sum() == 1
    for name, scores in signals(loaded, weighted=False).items():
        np.testing.assert_allclose(scores, after[name], rtol=1e-4, atol=1e-5)
    (version_folder(tmp_path) / "past.jsonl").write_text("")
    with pytest.raises(RankerError, match=r"past.jsonl: not as it was written"):
        Ranker.load(tmp_path)


def test_a_prior_counts_labels_and_a_newcomers_is_average():
    labels = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    vectors, newcomers = np.zeros((4, 2), np.float32), np.zeros(3, bool)
    past = PastQueries([], [], vectors, sparse.csr_array(labels), newcomers)
    np.testing.assert_allclose(past.prior, np.log1p([3, 2, 0]))
    assert PriorSignal(past).width == 7
    wider = past.upsert(np.array([1, 3]))
    np.testing.assert_allclose(wider.prior, np.log1p([3, 2, 0, 5 / 3]), rtol=1e-6)
    fewer = wider.select(np.array([False, True, True, True]))
    np.testing.assert_allclose(fewer.prior, np.log1p([2, 0, 1]), rtol=1e-6)


def test_words_of_past_queries_that_are_forgotten_are_not_known_any_more(fused, tmp_path):
    fused.save(tmp_path)
    forget_past(tmp_path, lambda id_, text: True)
    after = Ranker.load(tmp_path).scoring.classifier
    assert after.rows.shape[0] == after.weights.shape[0] == fused.answers.height
    known = WordSpace.of(answer_texts(fused.answers), "english").idf > 0
    assert not (after.space.idf[~known]).any()
    assert (fused.scoring.classifier.space.idf[~known]).any()


def test_a_ranker_of_other_signals_is_refused(fused, tmp_path):
    fused.scoring = replace(fused.scoring, weights={**fused.scoring.weights, "past words": 0.2})
    fused.save(tmp_path)
    with pytest.raises(RankerError, match="made by a version with other signals; train again"):
        Ranker.load(tmp_path)


def test_an_offset_stays_with_its_answer_and_a_newcomer_has_none(fused, help_centre):
    ids = help_centre.answers["id"].to_list()
    learned, before = fused.dense.offsets, signals(fused)["dense"]
    assert learned.shape == (len(ids), 32)
    assert np.linalg.norm(learned, axis=1).min() > 0
    fused.put_answers(help_centre.answers[[2]])
    np.testing.assert_allclose(signals(fused)["dense"], before, rtol=1e-4, atol=1e-5)
    fused.remove_answers(ids[2:3])
    fused.add_answers(help_centre.answers[[2]])
    np.testing.assert_array_equal(fused.dense.offsets[:-1], np.delete(learned, 2, axis=0))
    assert not fused.dense.offsets[-1].any()
    texts = fused.dense.reader.passages(help_centre.answers[[2]]).rows
    bare, last = fused.dense.embed_passages(texts), fused.dense.vectors.owner == len(ids) - 1
    np.testing.assert_allclose(fused.dense.vectors.rows[last], bare, atol=1e-6)
