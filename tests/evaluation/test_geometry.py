import itertools
import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.decomposition import PCA

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.evaluation import centroid_view, geometry
from twinrank.evaluation.geometry import measure_space, type_auc
from twinrank.training import train

pytestmark = pytest.mark.filterwarnings("error")


def case(seed, *, n=40, m=7, d=5, types=2):
    """Random vectors; some queries have two right answers; two queries a thread."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, m))
    for row in labels:
        row[rng.choice(m, size=1 + (rng.random() < 0.3), replace=False)] = 1
    kinds = [f"type {i}" for i in rng.integers(types, size=n)]
    threads = [f"t{i // 2}" for i in range(n)]
    queries, answers = rng.normal(size=(n, d)) + 1, rng.normal(size=(m, d)) * 2
    return queries, answers, sparse.csr_array(labels), kinds, threads


def apart(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def reference(queries, answers, labels, types, _threads=None):
    """Every figure but the probe's, from the papers, in loops over single vectors."""
    table = labels.toarray()
    n, m = table.shape
    rights = [[j for j in range(m) if table[i, j]] for i in range(n)]
    both = np.vstack([queries, answers])
    scaled = (both - both.min(axis=0)) / (both.max(axis=0) - both.min(axis=0))
    q, a = scaled[:n], scaled[n:]
    over_answers = []
    for j in range(m):
        kinds = sorted({types[i] for i in range(n) if j in rights[i]})
        means = [
            np.mean([q[i] for i in range(n) if j in rights[i] and types[i] == t], axis=0)
            for t in kinds
        ]
        if len(kinds) > 1:
            over_answers.append(np.mean([apart(*p) for p in itertools.combinations(means, 2)]))
    random = np.mean([apart(*pair) for pair in itertools.combinations(q, 2)])
    to_answer = np.mean([np.mean([apart(q[i], a[j]) for j in rights[i]]) for i in range(n)])
    single = [i for i in range(n) if len(rights[i]) == 1]
    return {
        "centroid_distance": np.mean(over_answers),
        "centroid_distance_relative": np.mean(over_answers) / random,
        "answer_distance": to_answer,
        "answer_distance_relative": to_answer / random,
        "answer_share": epsilon_squared(queries[single], [rights[i][0] for i in single]),
        "type_share": epsilon_squared(queries[single], [types[i] for i in single]),
    }


def epsilon_squared(points, groups):
    """Kelley's, by mean squares as textbooks give it: (SSB - (g - 1) MSW) / SST."""
    names, inside, outside = set(groups), 0.0, 0.0
    for name in names:
        members = points[[g == name for g in groups]]
        outside += len(members) * apart(members.mean(axis=0), points.mean(axis=0)) ** 2
        inside += sum(apart(p, members.mean(axis=0)) ** 2 for p in members)
    error = inside / (len(points) - len(names))
    return (outside - (len(names) - 1) * error) / (outside + inside)


@given(st.integers(0, 10_000), st.integers(2, 4))
@settings(deadline=None, max_examples=20)
def test_every_formula_is_the_papers(seed, types):
    space = case(seed, types=types)
    got, expected = measure_space(*space), reference(*space)
    assert set(got) == {*expected, "type_auc"}
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("types", [2, 3])
def test_the_probe_tells_types_apart_where_they_lie_apart(types):
    queries, answers, labels, kinds, threads = case(3, n=150, types=types)
    assert 0.3 < measure_space(queries, answers, labels, kinds, threads)["type_auc"] < 0.7
    queries += 3.0 * np.eye(5)[[int(kind[-1]) for kind in kinds]]
    assert measure_space(queries, answers, labels, kinds, threads)["type_auc"] > 0.9


def test_the_probe_keeps_threads_whole():
    """Where each thread has a place of its own that says nothing of others, it learns nothing."""
    rng = np.random.default_rng(0)
    threads, kinds = np.repeat(np.arange(40), 4), np.repeat(np.arange(40) % 2, 4)
    points = rng.normal(size=(40, 60))[threads] + rng.normal(size=(160, 60)) / 100
    assert type_auc(points, kinds, list(map(str, threads)), seed=0) < 0.8


def test_figures_that_compare_nothing_are_none():
    queries, answers, labels, types, threads = case(1)
    got = measure_space(queries, answers, labels, ["a"] * 40, threads)
    between_types = {"centroid_distance", "centroid_distance_relative"}
    undefined = {name for name, value in got.items() if value is None}
    assert undefined == between_types | {"type_auc", "type_share"}
    few_threads = [f"t{i % 4}" for i in range(40)]
    assert measure_space(queries, answers, labels, types, few_threads)["type_auc"] is None


DEGENERATE = {
    "one query": (np.ones((1, 3)), np.ones((2, 3))),
    "two equal queries": (np.full((2, 3), 0.1), np.full((2, 3), 0.7)),
    "all zero": (np.zeros((12, 3)), np.zeros((4, 3))),
    "all constant": (np.full((13, 3), 0.1), np.full((5, 3), 0.1)),
    "a zero among others": (np.vstack([np.eye(3), np.zeros((1, 3))]), np.eye(3)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_spaces_give_numbers_or_none(name):
    queries, answers = DEGENERATE[name]
    n, m = len(queries), len(answers)
    labels = sparse.csr_array(np.eye(m)[np.arange(n) % m])
    types = ["ab"[i % 2] for i in range(n)]
    got = measure_space(queries, answers, labels, types, [str(i) for i in range(n)])
    assert all(value is None or math.isfinite(value) for value in got.values()), got
    if (queries == queries[0]).all():
        for figure in ("answer_share", "type_share", "answer_distance_relative"):
            assert got[figure] is None


def assert_same(got, expected):
    for name, value in expected.items():
        assert got[name] == (value and pytest.approx(value, rel=1e-6, abs=1e-9)), name


def test_rounding_is_neither_spread_nor_a_feature():
    queries, answers, *rest = case(6)
    rng = np.random.default_rng(6)
    point = np.full((40, 5), 0.3)
    collapsed = measure_space(point + rng.normal(size=(40, 5)) * 1e-8, answers, *rest)
    assert_same(collapsed, measure_space(point, answers, *rest))
    assert (collapsed["answer_share"], collapsed["type_auc"]) == (None, 0.5)
    dead = [
        np.hstack([x, rng.normal(size=(len(x), 2)) * [1e-32, 1e-8]]) for x in (queries, answers)
    ]
    assert_same(measure_space(*dead, *rest), measure_space(queries, answers, *rest))


@pytest.fixture(scope="module")
def ranker(recipes, help_centre):
    return train(help_centre, recipes["towers"], store=FeatureStore())


def vectors(ranker, queries):
    return ranker.dense.embed_queries(queries.texts).astype(np.float64)


def test_of_a_ranker_with_other_answers_besides(ranker, help_centre):
    queries = help_centre.split("test")
    got = json.loads(json.dumps(geometry(ranker, help_centre).as_dict()))
    assert (got["queries"], got["answers"]) == queries.labels.shape
    answers = ranker.vectors.rows.astype(np.float64)
    space = (vectors(ranker, queries), answers, queries.labels, queries.frame["type"].to_list())
    for name, value in reference(*space).items():
        assert got[name] == pytest.approx(value, rel=1e-5), name
    turned = help_centre.answers.reverse()
    data = Dataset("turned", turned, help_centre.queries, help_centre.labels)
    assert_same(geometry(ranker, data).figures, geometry(ranker, help_centre).figures)


def test_no_space_is_refused(recipes, help_centre):
    words = train(help_centre, recipes["bm25"], store=FeatureStore())
    for measured in (geometry, centroid_view):
        with pytest.raises(RankerError, match=r"ranks by words .* take a recipe with an encoder"):
            measured(words, help_centre)


def test_the_view_of_the_centroids(ranker, help_centre):
    queries = help_centre.split("test")
    points, frame = vectors(ranker, queries), queries.frame
    view = centroid_view(ranker, help_centre)
    columns = {answer: i for i, answer in enumerate(help_centre.answers["id"])}
    means, members = [], []
    for row in view.centroids.iter_rows(named=True):
        right = queries.labels.toarray()[:, columns[row["answer"]]] > 0
        inside = np.flatnonzero(right & (frame["type"] == row["type"]).to_numpy())
        assert row["queries"] == len(inside) > 0
        assert row["title"] == help_centre.answers["title"][columns[row["answer"]]]
        means.append(points[inside].mean(axis=0))
        off = np.linalg.norm(points[inside] - means[-1], axis=1)
        assert row["text"] in {frame["text"][int(i)] for i in inside[off < off.min() + 1e-9]}
        members.append(inside)
    assert sum(map(len, members)) == queries.labels.nnz
    pca = PCA(2).fit(means)
    assert view.explained == pytest.approx(tuple(pca.explained_variance_ratio_), rel=1e-5)
    expected = pca.transform(points)
    signs = np.sign((view.queries.select("x", "y").to_numpy() * expected).sum(axis=0))
    for rows, plane in ((view.queries, expected), (view.centroids, pca.transform(means))):
        np.testing.assert_allclose(rows.select("x", "y"), plane * signs, atol=1e-5)


def test_the_view_of_one_query(ranker, help_centre):
    first = help_centre.labels.filter(pl.col("split") == "test").head(1)
    single = Dataset("one", help_centre.answers, help_centre.queries, first)
    view = centroid_view(ranker, single)
    assert (view.explained, view.centroids["queries"].to_list()) == ((0.0, 0.0), [1])
    assert geometry(ranker, single).queries == 1
