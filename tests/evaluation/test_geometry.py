import itertools
import json
import math
import warnings
from dataclasses import replace
from importlib import import_module

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.evaluation import centroid_views, geometry
from twinrank.evaluation.geometry import measure_space
from twinrank.ranking import FrozenTowers, Passages
from twinrank.training import fit

pytestmark = pytest.mark.filterwarnings("error")

FIGURES = {
    "centroid_distance",
    "centroid_distance_relative",
    "answer_distance",
    "answer_distance_relative",
    "type_auc",
    "alignment",
    "type_alignment",
    "uniformity",
    "answer_uniformity",
    "effective_rank",
    "answer_share",
    "type_share",
}


def case(seed, *, n=40, m=7, d=5, types=2, more_labels=0.3):
    """Random vectors; some queries have two right answers; two queries a thread."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, m))
    for row in labels:
        row[rng.choice(m, size=1 + (rng.random() < more_labels), replace=False)] = 1
    kinds = [f"type {i}" for i in rng.integers(types, size=n)]
    threads = [f"t{i // 2}" for i in range(n)]
    queries, answers = rng.normal(size=(n, d)) + 1, rng.normal(size=(m, d)) * 2
    return queries, answers, sparse.csr_array(labels), kinds, threads


def scaled(queries, answers):
    both = np.vstack([queries, answers])
    low, high = both.min(axis=0), both.max(axis=0)
    both = np.array(
        [[(v - a) / (b - a) for v, a, b in zip(row, low, high, strict=True)] for row in both]
    )
    return both[: len(queries)], both[len(queries) :]


def apart(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def reference(queries, answers, labels, types, _threads):
    """Every figure but the probe's, from the papers, in loops over single vectors."""
    table = labels.toarray()
    n, m = table.shape
    rights = [[j for j in range(m) if table[i, j]] for i in range(n)]
    q, a = scaled(queries, answers)
    over_answers = []
    for j in range(m):
        own = sorted({types[i] for i in range(n) if j in rights[i]})
        means = [
            np.mean([q[i] for i in range(n) if j in rights[i] and types[i] == t], axis=0)
            for t in own
        ]
        if len(own) > 1:
            over_answers.append(np.mean([apart(*p) for p in itertools.combinations(means, 2)]))
    random = np.mean([apart(*pair) for pair in itertools.combinations(q, 2)])
    to_answer = np.mean([np.mean([apart(q[i], a[j]) for j in rights[i]]) for i in range(n)])
    u = [x / math.sqrt(sum(x * x)) for x in queries]
    v = [x / math.sqrt(sum(x * x)) for x in answers]
    cross = [
        apart(u[i], u[k]) ** 2
        for j in range(m)
        for i, k in itertools.combinations(range(n), 2)
        if j in rights[i] and j in rights[k] and types[i] != types[k]
    ]
    centred = queries - queries.mean(axis=0)
    share = np.sqrt(np.clip(np.linalg.eigvalsh(centred.T @ centred), 0, None))
    share /= share.sum()
    return {
        "centroid_distance": np.mean(over_answers),
        "centroid_distance_relative": np.mean(over_answers) / random,
        "answer_distance": to_answer,
        "answer_distance_relative": to_answer / random,
        "alignment": np.mean(
            [np.mean([apart(u[i], v[j]) ** 2 for j in rights[i]]) for i in range(n)]
        ),
        "type_alignment": np.mean(cross),
        "uniformity": uniformity(u),
        "answer_uniformity": uniformity(v),
        "effective_rank": math.exp(-sum(p * math.log(p) for p in share if p > 0)),
        "answer_share": epsilon_squared(queries, [r[0] if len(r) == 1 else None for r in rights]),
        "type_share": epsilon_squared(
            queries, [t if len(r) == 1 else None for t, r in zip(types, rights, strict=True)]
        ),
    }


def uniformity(unit):
    pairs = itertools.combinations(unit, 2)
    return math.log(np.mean([math.exp(-2 * apart(x, y) ** 2) for x, y in pairs]))


def epsilon_squared(points, groups):
    """Kelley's, by mean squares as textbooks give it: (SSB - (g - 1) MSW) / SST."""
    points = np.array([p for p, g in zip(points, groups, strict=True) if g is not None])
    groups = [g for g in groups if g is not None]
    names = sorted(set(groups))
    grand = points.mean(axis=0)
    inside = outside = 0.0
    for name in names:
        own = np.array([p for p, g in zip(points, groups, strict=True) if g == name])
        outside += len(own) * apart(own.mean(axis=0), grand) ** 2
        inside += sum(apart(p, own.mean(axis=0)) ** 2 for p in own)
    error = inside / (len(points) - len(names))
    return (outside - (len(names) - 1) * error) / (outside + inside)


@given(st.integers(0, 10_000), st.integers(2, 4))
@settings(deadline=None, max_examples=20)
def test_every_formula_is_the_papers(seed, types):
    space = case(seed, types=types)
    got = measure_space(*space)
    assert set(got) == FIGURES
    for name, value in reference(*space).items():
        assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_the_probe_is_a_logistic_regression_over_whole_threads():
    queries, answers, labels, types, threads = case(3, n=120)
    got = measure_space(queries, answers, labels, types, threads, seed=4)["type_auc"]
    kinds = np.array([t == "type 1" for t in types])
    areas = []
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=4)
    for train, test in folds.split(queries, kinds, threads):
        assert not {threads[i] for i in train} & {threads[i] for i in test}
        mean, spread = queries[train].mean(axis=0), queries[train].std(axis=0)
        probe = LogisticRegression(C=0.01, max_iter=1000).fit(
            (queries[train] - mean) / spread, kinds[train]
        )
        scores = probe.decision_function((queries[test] - mean) / spread)
        wins = [(a > b) + (a == b) / 2 for a in scores[kinds[test]] for b in scores[~kinds[test]]]
        areas.append(np.mean(wins))  # Mann and Whitney
    assert got == pytest.approx(np.mean(areas), abs=1e-6)


def test_the_probe_of_three_types_is_one_against_the_rest():
    queries, answers, labels, types, threads = case(5, n=150, types=3)
    queries[:, 0] += [3.0 * (t == "type 2") for t in types]
    got = measure_space(queries, answers, labels, types, threads)["type_auc"]
    kinds = np.array(types)
    areas = []
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(
        queries, kinds, threads
    ):
        mean, spread = queries[train].mean(axis=0), queries[train].std(axis=0)
        probe = LogisticRegression(C=0.01, max_iter=1000).fit(
            (queries[train] - mean) / spread, kinds[train]
        )
        chances = probe.predict_proba((queries[test] - mean) / spread)
        ones = [
            roc_auc_score(kinds[test] == c, chances[:, i]) for i, c in enumerate(probe.classes_)
        ]
        areas.append(np.mean(ones))
    assert got == pytest.approx(np.mean(areas), abs=1e-6)
    assert got > 0.6


def test_types_that_are_chance_and_types_apart():
    queries, answers, labels, types, threads = case(0, n=1000, d=3)
    assert 0.45 < measure_space(queries, answers, labels, types, threads)["type_auc"] < 0.55
    queries[:, 1] += [9.0 * (t == "type 1") for t in types]
    got = measure_space(queries, answers, labels, types, threads)
    assert got["type_auc"] == pytest.approx(1)
    assert got["type_share"] > 0.7


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
@settings(deadline=None, max_examples=20)
def test_scale_and_shift_leave_distances_shares_and_ranks(seed, scale, shift):
    queries, answers, *rest = case(seed)
    before = measure_space(queries, answers, *rest)
    after = measure_space(queries * scale + shift, answers * scale + shift, *rest)
    on_the_sphere = {"alignment", "type_alignment", "uniformity", "answer_uniformity"}
    for name in FIGURES - on_the_sphere - {"type_auc"}:
        assert after[name] == pytest.approx(before[name], rel=1e-6, abs=1e-9), name
    scaled_alone = measure_space(queries * scale, answers * scale, *rest)
    for name in on_the_sphere:
        assert scaled_alone[name] == pytest.approx(before[name], rel=1e-9), name


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_rotation_leaves_what_is_on_the_sphere_shares_and_ranks(seed):
    queries, answers, *rest = case(seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
    before, after = (measure_space(queries @ t, answers @ t, *rest) for t in (np.eye(5), turn))
    # Distances are not among these: they are scaled feature by feature. Nor is the probe's.
    for name in FIGURES - {"type_auc"}:
        if "distance" not in name:
            assert after[name] == pytest.approx(before[name], rel=1e-7, abs=1e-9), name


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=10)
def test_the_order_of_queries_does_not_matter(seed):
    queries, answers, labels, types, threads = case(seed, types=3)
    order = np.random.default_rng(seed).permutation(len(queries))
    before = measure_space(queries, answers, labels, types, threads)
    moved = [types[i] for i in order], [threads[i] for i in order]
    after = measure_space(queries[order], answers, labels[order], *moved)
    for name in FIGURES - {"type_auc"}:  # the folds are drawn in the order of the queries
        assert after[name] == pytest.approx(before[name], rel=1e-9), name


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_equal_directions_have_rank_k(k):
    queries = np.vstack([np.eye(6)[:k], -np.eye(6)[:k]]) * 3 + 7
    labels = sparse.csr_array(np.ones((2 * k, 1)))
    ids = [str(i) for i in range(2 * k)]
    got = measure_space(queries, np.ones((1, 6)), labels, ["a"] * (2 * k), ids)
    assert got["effective_rank"] == pytest.approx(k)


def test_shares_are_chance_without_structure_and_one_with_nothing_else():
    rng = np.random.default_rng(0)
    spaces = [case(seed, n=40, m=15, more_labels=0) for seed in range(60)]
    found = [measure_space(*space)["answer_share"] for space in spaces]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found))
    owner = rng.integers(4, size=30)
    answers = rng.normal(size=(4, 5))
    labels = sparse.csr_array(np.eye(4)[owner])
    ids = [str(i) for i in range(30)]
    got = measure_space(answers[owner], answers, labels, ["a"] * 30, ids)
    assert got["answer_share"] == pytest.approx(1)
    assert got["answer_distance"] == pytest.approx(0)
    assert got["alignment"] == pytest.approx(0)


def test_a_sample_stands_for_all_pairs(monkeypatch):
    space = case(0, n=900, m=600)
    whole = measure_space(*space)
    room = import_module("twinrank.evaluation.geometry")  # the function has its name
    monkeypatch.setattr(room, "SAMPLE", 400)
    one, again, other = (measure_space(*space, seed=s) for s in (0, 0, 1))
    assert one == again
    assert one["uniformity"] != other["uniformity"]
    for name in ("uniformity", "answer_uniformity", "answer_distance_relative"):
        assert one[name] == pytest.approx(whole[name], rel=0.05)


def test_one_type_has_nothing_between_types():
    queries, answers, labels, _, threads = case(1)
    got = measure_space(queries, answers, labels, ["a"] * 40, threads)
    undefined = {name for name, value in got.items() if value is None}
    assert undefined == {
        "centroid_distance",
        "centroid_distance_relative",
        "type_auc",
        "type_alignment",
        "type_share",
    }


def test_too_few_threads_for_a_probe():
    queries, answers, labels, types, _ = case(1)
    threads = [f"t{i % 4}" for i in range(40)]
    assert measure_space(queries, answers, labels, types, threads)["type_auc"] is None


def test_float32_answers_and_features_that_are_constant():
    queries, answers, labels, types, threads = case(2)
    queries[:, 2] = answers[:, 2] = 0.1
    kept = [0, 1, 3, 4]
    expected = measure_space(queries[:, kept], answers[:, kept], labels, types, threads)
    got = measure_space(queries, answers, labels, types, threads)
    for name in ("centroid_distance", "answer_distance", "answer_share", "effective_rank"):
        assert got[name] == pytest.approx(expected[name], rel=1e-9)
    halved = measure_space(queries, answers.astype(np.float32), labels, types, threads)
    assert halved["answer_distance"] == pytest.approx(got["answer_distance"], rel=1e-5)


DEGENERATE = {
    "one query": (np.ones((1, 3)), np.ones((2, 3))),
    "one query, zero": (np.zeros((1, 3)), np.zeros((1, 3))),
    "two equal queries": (np.full((2, 3), 0.1), np.full((2, 3), 0.7)),
    "all zero": (np.zeros((12, 3)), np.zeros((4, 3))),
    "all constant": (np.full((13, 3), 0.1), np.full((5, 3), 0.1)),
    "a zero among others": (np.vstack([np.eye(3), np.zeros((1, 3))]), np.eye(3)),
    "one dimension": (np.arange(11.0)[:, None], np.ones((2, 1))),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_spaces_give_numbers_or_none(name):
    queries, answers = DEGENERATE[name]
    n, m = len(queries), len(answers)
    labels = sparse.csr_array(np.eye(m)[np.arange(n) % m])
    types = ["ab"[i % 2] for i in range(n)]
    got = measure_space(queries, answers, labels, types, [str(i) for i in range(n)])
    assert all(value is None or math.isfinite(value) for value in got.values()), got
    if n == 1 or (queries == queries[0]).all():
        for figure in ("effective_rank", "answer_share", "type_share", "answer_distance_relative"):
            assert got[figure] is None
    if name in ("all zero", "all constant"):
        assert got["uniformity"] == pytest.approx(0)
        assert got["type_auc"] == 0.5


def test_a_collapse_with_rounding_is_a_collapse():
    _, answers, *rest = case(0)
    noise = np.random.default_rng(0).normal(size=(40, 5)) * 1e-8
    exact = measure_space(np.full((40, 5), 0.3), answers, *rest)
    got = measure_space(np.full((40, 5), 0.3) + noise, answers, *rest)
    for name in FIGURES:
        expected = exact[name]
        assert got[name] == (expected and pytest.approx(expected, rel=1e-6, abs=1e-9)), name
    assert got["effective_rank"] is got["answer_distance_relative"] is None
    assert got["type_auc"] == 0.5


def test_a_dead_feature_is_not_blown_up():
    queries, answers, *rest = case(6)
    rng = np.random.default_rng(6)
    before = measure_space(queries, answers, *rest)
    dead = [
        np.hstack([x, rng.normal(size=(len(x), 2)) * [1e-32, 1e-8]]) for x in (queries, answers)
    ]
    after = measure_space(*dead, *rest)
    for name in FIGURES:
        assert after[name] == pytest.approx(before[name], rel=1e-6), name


def test_queries_without_any_label():
    queries, answers, labels, types, threads = case(0)
    got = measure_space(queries, answers, sparse.csr_array(labels.shape), types, threads)
    assert got["alignment"] is got["answer_distance"] is got["answer_share"] is None
    assert got["uniformity"] < 0


@pytest.fixture(scope="module")
def ranker(recipes, help_centre):
    return fit(help_centre, recipes["towers"], store=FeatureStore())


def with_vectors(ranker, vectors):
    signals = {"dense": replace(ranker.dense, vectors=vectors)}
    ranker.scoring = replace(ranker.scoring, signals=signals)


def vectors(ranker, queries):
    """Query vectors, from the tower's own weights."""
    return ranker.dense.embed_queries(queries.texts).astype(np.float64)


def test_of_a_ranker(ranker, help_centre):
    queries = help_centre.split("test")
    got = geometry(ranker, help_centre)
    plain = json.loads(json.dumps(got.as_dict()))
    assert plain["split"] == "test" and plain["data"] == "help-centre"
    assert (plain["queries"], plain["answers"]) == queries.labels.shape
    assert (plain["dim"], plain["type_auc"]) == (32, got.figures["type_auc"])
    space = vectors(ranker, queries), ranker.dense.vectors.rows.astype(np.float64)
    expected = reference(*space, queries.labels, queries.frame["type"].to_list(), None)
    for name, value in expected.items():
        assert plain[name] == pytest.approx(value, rel=1e-5), name


def test_answers_the_ranker_has_besides_are_kept_apart(recipes, help_centre):
    ranker = fit(help_centre, recipes["zero-shot"], store=FeatureStore())
    before = geometry(ranker, help_centre)
    twins = help_centre.answers.with_columns(id=pl.col("id") + "-twin")
    ranker.answers = pl.concat([twins, ranker.answers])
    rows = ranker.dense.vectors.rows
    with_vectors(ranker, Passages(np.concatenate([rows[::-1], rows]), None, 2 * len(rows)))
    after = geometry(ranker, help_centre)
    assert after.answers == 2 * before.answers
    for name in FIGURES - {"answer_uniformity"}:
        assert after.figures[name] == pytest.approx(before.figures[name], rel=1e-6), name
    views = centroid_views(ranker, help_centre)
    assert not views[0].centroids["answer"].str.ends_with("-twin").any()


def test_words_have_no_space(recipes, help_centre):
    ranker = fit(help_centre, recipes["bm25"])
    for measured in (geometry, centroid_views):
        with pytest.raises(RankerError, match=r"ranks by words .* take a recipe with an encoder"):
            measured(ranker, help_centre)


def test_vectors_that_are_not_finite_are_refused(recipes, help_centre):
    ranker = fit(help_centre, recipes["zero-shot"], store=FeatureStore())
    vectors = ranker.dense.vectors
    with_vectors(ranker, vectors.of(vectors.rows * np.float32("nan")))
    with pytest.raises(RankerError, match="not finite"):
        geometry(ranker, help_centre)


def planes(points, cells):
    """The three ways, each by its own eigenvectors of a covariance."""

    def axes(x, size):
        values, directions = np.linalg.eigh(np.cov(x.T))
        return directions[:, ::-1][:, :size], values[::-1][:size] / values.sum()

    means = np.array([points[own].mean(axis=0) for own in cells])
    turn, shares = axes(means, 2)
    yield (means - means.mean(axis=0)) @ turn, (points - means.mean(axis=0)) @ turn, shares
    turn, _ = axes(points, 30)
    small = (points - points.mean(axis=0)) @ turn
    means = np.array([small[own].mean(axis=0) for own in cells])
    turn, shares = axes(means, 2)
    yield (means - means.mean(axis=0)) @ turn, (small - means.mean(axis=0)) @ turn, shares
    turn, shares = axes(points, 2)
    flat = (points - points.mean(axis=0)) @ turn
    yield np.array([flat[own].mean(axis=0) for own in cells]), flat, shares


def test_the_three_views(ranker, help_centre):
    queries = help_centre.split("test")
    points, frame = vectors(ranker, queries), queries.frame
    views = centroid_views(ranker, help_centre)
    table = views[0].centroids
    places = {answer: i for i, answer in enumerate(help_centre.answers["id"])}
    cells = []
    for row in table.iter_rows(named=True):
        right = queries.labels.toarray()[:, places[row["answer"]]] > 0
        own = np.flatnonzero(right & (frame["type"] == row["type"]).to_numpy())
        assert row["queries"] == len(own) > 0
        assert row["title"] == help_centre.answers["title"][places[row["answer"]]]
        off = np.linalg.norm(points[own] - points[own].mean(axis=0), axis=1)
        ties = {frame["text"][int(i)] for i in own[off < off.min() + 1e-9]}
        assert row["text"] in ties
        cells.append(own)
    assert sum(map(len, cells)) == queries.labels.nnz
    for view, (means, single, shares) in zip(views, planes(points, cells), strict=True):
        assert view.explained == pytest.approx(tuple(shares), rel=1e-5)
        signs = np.sign((view.queries.select("x", "y").to_numpy() * single).sum(axis=0))
        for ours, theirs in ((view.centroids, means), (view.queries, single)):
            np.testing.assert_allclose(ours.select("x", "y").to_numpy(), theirs * signs, atol=1e-5)
    assert views[0].queries["id"].to_list() == frame["id"].to_list()
    for ids, row in zip(views[0].queries["answer"], queries.labels.toarray(), strict=True):
        assert ids.split(", ") == [help_centre.answers["id"][int(j)] for j in np.flatnonzero(row)]
    again = centroid_views(ranker, help_centre)
    assert all(a.queries.equals(b.queries) for a, b in zip(views, again, strict=True))


def test_views_of_a_space_without_spread(recipes, help_centre, monkeypatch):
    ranker = fit(help_centre, recipes["zero-shot"], store=FeatureStore())
    for constant in (0.0, 0.1):
        monkeypatch.setattr(
            FrozenTowers, "project_queries", lambda _, f, c=constant: np.full_like(f, c)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for view in centroid_views(ranker, help_centre):
                assert view.explained == (0.0, 0.0)
                for frame in (view.centroids, view.queries):
                    assert not frame.select("x", "y").to_numpy().any()
        got = geometry(ranker, help_centre).figures
        assert got["effective_rank"] is None and got["uniformity"] == pytest.approx(0)


def test_views_of_one_dimension_and_of_one_query(recipes, help_centre, monkeypatch):
    ranker = fit(help_centre, recipes["zero-shot"], store=FeatureStore())
    monkeypatch.setattr(FrozenTowers, "project_queries", lambda _, f: f * (np.arange(32) == 0))
    for view in centroid_views(ranker, help_centre):
        assert view.explained == pytest.approx((1.0, 0.0))
        assert not view.queries["y"].to_numpy().any()
    monkeypatch.undo()
    first = help_centre.labels.filter(pl.col("split") == "test").head(1)
    single = type(help_centre)("one", help_centre.answers, help_centre.queries, first)
    for view in centroid_views(ranker, single):
        assert view.explained == (0.0, 0.0)
        assert view.centroids["queries"].to_list() == [1]
    assert geometry(ranker, single).queries == 1
