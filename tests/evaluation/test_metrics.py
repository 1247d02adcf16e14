import ir_measures
import numpy as np
import pytest
import ranx
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, Success
from scipy import sparse
from scipy.special import log_softmax

from twinrank.evaluation import METRICS, per_query
from twinrank.evaluation.metrics import ranks_of_right
from twinrank.ranking import top_k


def case(seed: int, queries: int, answers: int, *, ties: bool):
    """Random scores and one to four right answers a query."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(queries, answers)).astype(np.float32)
    if ties:
        scores = np.round(scores)
    labels = np.zeros((queries, answers), dtype=np.float32)
    for row in labels:
        row[rng.choice(answers, size=rng.integers(1, min(4, answers) + 1), replace=False)] = 1
    return scores, sparse.csr_array(labels)


def measured_by_ir_measures(run, labels: sparse.csr_array) -> dict[str, list[float]]:
    measures = {f"accuracy@{k}": Success @ k for k in (1, 3, 10)}
    measures |= {f"map@{k}": AP @ k for k in (3, 10)}
    found = ir_measures.iter_calc(list(measures.values()), as_qrels(labels), run)
    values = {(str(value.measure), value.query_id): value.value for value in found}
    return {
        name: [values[str(measure), f"q{i}"] for i in range(labels.shape[0])]
        for name, measure in measures.items()
    }


def as_run(scores: np.ndarray) -> dict[str, dict[str, float]]:
    """Scores for the reference libraries, with our tie-breaking made explicit in them."""
    run = {}
    for i, row in enumerate(scores):
        order = np.argsort(-row, kind="stable")
        run[f"q{i}"] = {f"a{j}": float(len(row) - place) for place, j in enumerate(order)}
    return run


def as_qrels(labels: sparse.csr_array) -> dict[str, dict[str, int]]:
    return {
        f"q{i}": {f"a{j}": 1 for j in labels.indices[labels.indptr[i] : labels.indptr[i + 1]]}
        for i in range(labels.shape[0])
    }


CASES = given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 12),
    answers=st.integers(1, 30),
    ties=st.booleans(),
)


@CASES
@settings(deadline=None, max_examples=60)
def test_equal_to_ir_measures(seed, queries, answers, ties):
    scores, labels = case(seed, queries, answers, ties=ties)
    ours = per_query(scores, labels)
    for name, expected in measured_by_ir_measures(as_run(scores), labels).items():
        np.testing.assert_allclose(ours[name], expected, atol=1e-6, err_msg=name)


@CASES
@settings(deadline=None, max_examples=60)
def test_a_score_that_is_not_finite_never_counts_for_a_ranker(seed, queries, answers, ties):
    """Against ir-measures, where such an answer is none that is right, and NaN is the highest."""
    scores, labels = case(seed, queries, answers, ties=ties)
    rng = np.random.default_rng(seed)
    spoilt = rng.random(scores.shape) < 0.3
    scores[spoilt] = rng.choice([np.nan, np.inf, -np.inf], size=spoilt.sum())
    run = {}
    for i, row in enumerate(scores):
        order = np.argsort(-np.where(np.isnan(row), np.inf, row), kind="stable")
        names = [f"a{j}" if np.isfinite(row[j]) else f"spoilt{j}" for j in order]
        run[f"q{i}"] = {name: float(answers - place) for place, name in enumerate(names)}
    ours = per_query(scores, labels)
    for name, expected in measured_by_ir_measures(run, labels).items():
        np.testing.assert_allclose(ours[name], expected, atol=1e-6, err_msg=name)
    assert not np.isnan(ours["loss"]).any()
    assert np.isinf(ours["loss"][np.isnan(scores).any(axis=1)]).all()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_ranx(seed, ties):
    scores, labels = case(seed, 40, 25, ties=ties)
    ours = per_query(scores, labels)
    names = {f"accuracy@{k}": f"hit_rate@{k}" for k in (1, 3, 10)} | {"map@3": "map@3"}
    names |= {"map@10": "map@10"}
    theirs = ranx.evaluate(
        ranx.Qrels(as_qrels(labels)), ranx.Run(as_run(scores)), list(names.values())
    )
    for name, theirs_name in names.items():
        assert ours[name].mean() == pytest.approx(theirs[theirs_name], abs=1e-9), name


@CASES
@settings(deadline=None, max_examples=40)
def test_ranks_are_places_in_the_ranking_that_is_shown(seed, queries, answers, ties):
    scores, labels = case(seed, queries, answers, ties=ties)
    owner = np.repeat(np.arange(queries), np.diff(labels.indptr))
    ranks = ranks_of_right(scores, labels)
    for i, j, rank in zip(owner, labels.indices, ranks, strict=True):
        assert top_k(scores[i], answers)[rank - 1] == j


@CASES
@settings(deadline=None, max_examples=40)
def test_loss_is_the_mass_on_all_right_answers(seed, queries, answers, ties):
    scores, labels = case(seed, queries, answers, ties=ties)
    mass = (np.exp(log_softmax(scores.astype(np.float64), axis=1)) * labels.toarray()).sum(axis=1)
    np.testing.assert_allclose(
        per_query(scores, labels)["loss"], -np.log(mass), rtol=1e-9, atol=1e-12
    )


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_bounds_and_monotony(seed):
    scores, labels = case(seed, 10, 15, ties=True)
    got = per_query(scores, labels)
    assert set(got) == set(METRICS)
    assert all(((got[m] >= 0) & (got[m] <= 1)).all() for m in METRICS if m != "loss")
    assert (got["accuracy@1"] <= got["accuracy@3"]).all()
    assert (got["accuracy@3"] <= got["accuracy@10"]).all()
    assert (got["map@3"] <= got["map@10"]).all()
    assert (got["loss"] >= 0).all()


def test_one_right_answer_gives_one_over_rank():
    labels = sparse.csr_array(np.array([[0, 0, 0, 1.0]]))
    got = per_query(np.array([[4.0, 3.0, 1.0, 2.0]]), labels)
    assert got["map@3"][0] == pytest.approx(1 / 3)
    assert got["accuracy@1"][0] == 0
    assert got["accuracy@3"][0] == 1


def test_denominator_is_all_right_answers_even_beyond_k():
    labels = sparse.csr_array(np.array([[1.0, 1, 1, 1, 0]]))
    got = per_query(np.array([[5.0, 4, 3, 2, 1]]), labels)
    assert got["map@3"][0] == pytest.approx(3 / 4)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(1, 50))
def test_top_k_is_a_stable_sort(scores, k):
    row = np.array(scores, dtype=np.float32)
    assert top_k(row, k).tolist() == np.argsort(-row, kind="stable")[:k].tolist()
