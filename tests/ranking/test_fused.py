from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit, softmax

from tests.ranker_files import version_folder
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.ranking import (
    PARTS,
    Confidence,
    PastQueries,
    Ranker,
    best_first,
    log_odds,
)
from twinrank.ranking.dense import projected
from twinrank.ranking.past_queries import NEAREST
from twinrank.training import train
from twinrank.training.calibration import calibrate_confidence

TEXTS = ["it wont let me in again", "User: hello\nAgent: hi\nUser: where is my money??"]


@pytest.fixture
def fused(recipes, help_centre):
    return train(help_centre, recipes["fused"], store=FeatureStore())


def test_parts_make_up_the_score(fused):
    parts = fused.channel.parts(TEXTS)
    assert set(parts) == set(PARTS) == set(fused.channel.weights)
    np.testing.assert_allclose(sum(parts.values()), fused.scores(TEXTS), rtol=1e-5)
    for answers in fused.rank(TEXTS):
        for answer in answers:
            assert sum(answer.parts.values()) == pytest.approx(answer.score, rel=1e-5)


def test_confidence_is_platts_curve_of_the_first_and_the_softmax_of_what_it_leaves(fused):
    curve, count = fused.confidence, len(fused.answers)
    for scores, answers in zip(fused.scores(TEXTS), fused.rank(TEXTS, count), strict=True):
        p = np.sort(softmax(scores.astype(np.float64)))[::-1]
        sure = expit(curve.slope * np.log(p[0] / (1 - p[0])) + curve.intercept)
        expected = np.minimum(sure, (1 - sure) * p / (1 - p[0]))
        expected[0] = sure
        np.testing.assert_allclose([a.confidence for a in answers], expected, rtol=1e-5)
    first = [answers[0].confidence for answers in fused.rank(TEXTS)]
    np.testing.assert_allclose(first, curve.of(fused.scores(TEXTS)), rtol=1e-9)


def test_confidence_is_finite_where_one_answer_is_certain():
    sure = Confidence(slope=1.0, intercept=0.0).of_each(np.array([0.0, 900.0, 1.0]), np.arange(3))
    np.testing.assert_allclose(sure, [0, 1, 0], atol=1e-300)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.floats(-5, 5),
    st.floats(-50, 50),
)
def test_the_confidences_of_a_ranking_come_to_one_at_most_and_fall(scores, slope, intercept):
    row = np.array(scores)
    curve = Confidence(slope=slope, intercept=intercept)
    sure = curve.of_each(row, best_first(row, len(row)))
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


def test_a_query_without_a_known_word_has_no_confidence_and_no_part_in_the_fit(
    recipes, help_centre
):
    words = train(help_centre, recipes["bm25"])
    assert {answer.confidence for answer in words.rank("zzz qqq", 100)[0]} == {0}
    assert words.rank("zzz qqq", min_confidence=1e-9) == [[]]
    asked = help_centre.split("validation")
    odd = replace(asked, frame=asked.frame.with_columns(text=pl.lit("zzz")))
    both = replace(
        asked,
        frame=pl.concat([asked.frame, odd.frame]),
        labels=sparse.vstack([asked.labels, odd.labels], format="csr"),
    )
    found = calibrate_confidence(words.channel, both)
    assert found.slope == pytest.approx(words.confidence.slope)


@pytest.mark.parametrize("least", [np.nan, -0.1, 1.1, np.inf])
def test_a_confidence_that_is_none_is_refused(fused, least):
    with pytest.raises(RankerError, match=r"min_confidence is .*; give a number from 0 to 1"):
        fused.rank(TEXTS, min_confidence=least)


def test_what_it_learned_is_kept_with_newcomers(fused, help_centre, tmp_path):
    first = help_centre.answers.head(1)
    fused.remove_answers(first["id"])
    fused.add_answers(first)
    fused.save(tmp_path)
    loaded = Ranker.load(tmp_path)
    assert loaded.channel.weights == fused.channel.weights
    assert loaded.confidence == fused.confidence
    assert loaded.channel.past.texts == help_centre.split("train").texts
    assert loaded.channel.past.newcomers.sum() == 1
    for name, part in fused.channel.parts(TEXTS).items():
        np.testing.assert_allclose(loaded.channel.parts(TEXTS)[name], part, rtol=1e-4, atol=1e-5)


def test_a_newcomer_is_given_what_the_recipe_says_instead_of_a_past(fused, help_centre):
    first = help_centre.answers.head(1)
    before = fused.channel.unweighed(TEXTS)
    fused.remove_answers(first["id"])
    fused.add_answers(first)
    after = fused.channel.unweighed(TEXTS)
    assert (after["past"][:, -1] == fused.recipe.memory.newcomer).all()
    np.testing.assert_allclose(after["past"][:, :-1], before["past"][:, 1:], rtol=1e-5)
    np.testing.assert_allclose(after["dense"][:, :-1], before["dense"][:, 1:], rtol=1e-5)


def test_silent_below_a_confidence(fused):
    least = fused.rank(TEXTS)[0][0].confidence
    assert fused.rank(TEXTS[0], min_confidence=least * 0.99)[0]
    assert fused.rank(TEXTS[0], min_confidence=min(least * 1.01, 1)) == [[]]
    fused.confidence = None
    with pytest.raises(RankerError, match="knows no confidence"):
        fused.rank(TEXTS, min_confidence=0.5)


def test_a_damaged_past_is_named(fused, tmp_path):
    fused.save(tmp_path)
    (version_folder(tmp_path) / "past.jsonl").write_text("")
    with pytest.raises(RankerError, match=r"past.jsonl: not as manifest.json says"):
        Ranker.load(tmp_path)


def past():
    labels = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    return PastQueries(["a", "b", "c", "d"], sparse.csr_array(labels), np.zeros(3, bool))


def test_a_prior_counts_labels_and_a_newcomers_is_average():
    np.testing.assert_allclose(past().prior(), np.log1p([3, 2, 0]))
    np.testing.assert_allclose(past().add(1).prior(), np.log1p([3, 2, 0, 5 / 3]), rtol=1e-6)
    kept = past().add(1).keep(np.array([False, True, True, True]))
    np.testing.assert_allclose(kept.prior(), np.log1p([2, 0, 1]), rtol=1e-6)


def test_words_of_the_nearest_past_queries_are_summed_by_answer():
    rng = np.random.default_rng(0)
    p = NEAREST + 15
    labels = (rng.random((p, 3)) < 0.4).astype(np.float32)
    products = rng.random((4, p)).astype(np.float32)
    many = PastQueries([""] * p, sparse.csr_array(labels), np.zeros(3, bool))
    got = many.by_words(products)
    for i in range(4):
        nearest = sorted(range(p), key=lambda j: -products[i, j])[:NEAREST]
        expected = np.log1p(sum(products[i, j] * labels[j] for j in nearest))
        np.testing.assert_allclose(got[i], expected, rtol=1e-5)


def test_log_odds_are_those_of_the_softmax():
    scores = np.random.default_rng(1).normal(size=(20, 6)) * 3
    best = softmax(scores, axis=1).max(axis=1)
    np.testing.assert_allclose(log_odds(scores), np.log(best / (1 - best)), rtol=1e-9)
    assert log_odds(scores[:, :1]).tolist() == [0] * 20


def test_an_offset_stays_with_its_answer_and_a_newcomer_has_none(fused, help_centre):
    ids = help_centre.answers["id"].to_list()
    learned, before = fused.dense.offsets, fused.channel.parts(TEXTS)["dense"]
    assert learned.shape == (len(ids), 32)
    assert learned.norm(dim=1).min() > 0
    assert fused.dense.towers.offsets is None  # they belong to the answers
    fused.put_answers(help_centre.answers[[2]])
    np.testing.assert_allclose(fused.channel.parts(TEXTS)["dense"], before, rtol=1e-4, atol=1e-5)
    fused.remove_answers(ids[2:3])
    fused.add_answers(help_centre.answers[[2]])
    assert torch.equal(fused.dense.offsets[:-1], learned[[i for i in range(len(ids)) if i != 2]])
    assert not fused.dense.offsets[-1].any()
    reader = fused.dense.reader
    bare = projected(fused.dense.towers, reader(reader.passages(help_centre.answers[[2]]).rows))
    last = fused.dense.vectors.owner == len(ids) - 1
    torch.testing.assert_close(fused.dense.vectors.rows[last], bare)
