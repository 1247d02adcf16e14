import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, R, Success, nDCG
from scipy import sparse
from scipy.special import log_softmax

from twinrank.evaluation.metrics import per_query, ranks_of_right
from twinrank.ranking import top_k

MEASURES = {f"accuracy@{k}": Success @ k for k in (1, 3, 10)} | {
    f"map@{k}": AP @ k for k in (3, 10)
}
MEASURES |= {"ndcg@10": nDCG @ 10, "mrr@10": RR @ 10, "recall@10": R @ 10, "recall@100": R @ 100}
CASES = given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 12),
    answers=st.integers(1, 30),
    ties=st.booleans(),
)


def case(seed: int, queries: int, answers: int, *, ties: bool):
    """Random scores and one to four right answers a query, of grades from 1 to 3."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(queries, answers)).astype(np.float32)
    if ties:
        scores = np.round(scores)
    labels = np.zeros((queries, answers), dtype=np.float32)
    for row in labels:
        right = rng.choice(answers, size=rng.integers(1, min(4, answers) + 1), replace=False)
        row[right] = rng.integers(1, 4, size=len(right))
    return scores, sparse.csr_array(labels)


def assert_equal_to_ir_measures(got, scores, labels):
    """With our tie-breaking made explicit; a score that is not finite is never right there."""
    run = {}
    for i, row in enumerate(scores):
        order = np.argsort(-np.where(np.isnan(row), np.inf, row), kind="stable")
        names = [f"a{j}" if np.isfinite(row[j]) else f"spoilt{j}" for j in order]
        run[f"q{i}"] = {name: float(len(row) - rank) for rank, name in enumerate(names)}
    qrels = {
        f"q{i}": {f"a{j}": int(g) for j, g in zip(row.indices, row.data, strict=True)}
        for i, row in enumerate(labels)
    }
    reference = ir_measures.iter_calc(list(MEASURES.values()), qrels, run)
    values = {(str(value.measure), value.query_id): value.value for value in reference}
    for name, measure in MEASURES.items():
        expected = [values[str(measure), f"q{i}"] for i in range(labels.shape[0])]
        np.testing.assert_allclose(got[name], expected, atol=1e-6, err_msg=name)


@CASES
@settings(deadline=None, max_examples=60)
def test_equal_to_ir_measures_and_the_loss_is_the_mass_on_all_right_answers(
    seed, queries, answers, ties
):
    scores, labels = case(seed, queries, answers, ties=ties)
    got = per_query(scores, labels)
    assert_equal_to_ir_measures(got, scores, labels)
    right = labels.toarray() > 0
    mass = (np.exp(log_softmax(scores.astype(np.float64), axis=1)) * right).sum(axis=1)
    np.testing.assert_allclose(got["loss"], -np.log(mass), rtol=1e-9, atol=1e-12)


@CASES
@settings(deadline=None, max_examples=60)
def test_a_score_that_is_not_finite_never_counts_for_a_ranker(seed, queries, answers, ties):
    scores, labels = case(seed, queries, answers, ties=ties)
    rng = np.random.default_rng(seed)
    spoilt = rng.random(scores.shape) < 0.3
    scores[spoilt] = rng.choice([np.nan, np.inf, -np.inf], size=spoilt.sum())
    got = per_query(scores, labels)
    assert_equal_to_ir_measures(got, scores, labels)
    assert not np.isnan(got["loss"]).any()
    assert np.isinf(got["loss"][np.isnan(scores).any(axis=1)]).all()


@CASES
@settings(deadline=None, max_examples=40)
def test_ranks_are_positions_in_the_ranking_that_is_shown(seed, queries, answers, ties):
    scores, labels = case(seed, queries, answers, ties=ties)
    owner = np.repeat(np.arange(queries), np.diff(labels.indptr))
    ranks = ranks_of_right(scores, labels)
    for i, j, rank in zip(owner, labels.indices, ranks, strict=True):
        assert top_k(scores[i], answers)[rank - 1] == j


def test_the_denominator_is_all_right_answers_even_beyond_k():
    four = sparse.csr_array([[1.0, 1, 1, 1, 0]])
    got = per_query(np.array([[5.0, 4, 3, 2, 1]]), four)
    assert got["map@3"][0] == pytest.approx(3 / 4)


@CASES
@settings(deadline=None, max_examples=40)
def test_the_order_of_answers_and_of_queries_does_not_matter(seed, queries, answers, ties):
    """Ties are broken by the order of the answers: then those of queries alone are moved."""
    scores, labels = case(seed, queries, answers, ties=ties)
    rng = np.random.default_rng(seed)
    rows, columns = (
        rng.permutation(queries),
        np.arange(answers) if ties else rng.permutation(answers),
    )
    got, moved = (
        per_query(scores, labels),
        per_query(scores[rows][:, columns], labels[rows][:, columns].sorted_indices()),
    )
    for metric, values in got.items():
        np.testing.assert_allclose(moved[metric], values[rows], atol=1e-12, err_msg=metric)
        assert metric == "loss" or ((values >= 0) & (values <= 1 + 1e-12)).all()


def test_grades_count_in_ndcg_alone():
    """Three answers of grades 0, 3 and 1, ranked so: by hand, and as trec_eval has it."""
    ranked, graded = np.array([[3.0, 2.0, 1.0]]), sparse.csr_array([[0.0, 3.0, 1.0]])
    got, flat = per_query(ranked, graded), per_query(ranked, (graded > 0).astype(np.float64))
    by_hand = (3 / np.log2(3) + 1 / np.log2(4)) / (3 / np.log2(2) + 1 / np.log2(3))
    assert got["ndcg@10"][0] == pytest.approx(by_hand)
    assert [m for m in got if got[m][0] != flat[m][0]] == ["ndcg@10"]
    best = per_query(np.array([[0.0, 2.0, 1.0]]), graded)
    assert best["ndcg@10"][0] == 1.0
