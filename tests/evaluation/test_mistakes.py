from collections import Counter

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from twinrank.encoding import FeatureStore
from twinrank.evaluation import evaluate, mistakes
from twinrank.evaluation.mistakes import outcomes
from twinrank.training import train

answers = st.sampled_from(["a", "b", "c"])


def table(pairs):
    """Rows of queries given by their right and first answers."""
    schema = {"right": pl.String, "first": pl.String}
    rows = pl.DataFrame(pairs, schema=schema, orient="row")
    loss = pl.Series("loss", range(len(pairs)), dtype=pl.Float64)
    return rows.with_columns(loss).with_row_index("id")


@given(st.lists(st.tuples(answers, answers), max_size=30))
@settings(deadline=None)
def test_pairs_are_counted_both_ways(pairs):
    got = mistakes(table(pairs))
    wrong = Counter((right, first) for right, first in pairs if right != first)
    queries = Counter(right for right, _ in pairs)
    assert (got.queries, got.misses.height) == (len(pairs), wrong.total())
    directed = {(r, f): (n, of) for r, f, n, of in got.directed.iter_rows()}
    assert directed == {pair: (n, queries[pair[0]]) for pair, n in wrong.items()}
    together = Counter(tuple(sorted(pair)) for pair in wrong.elements())
    confused = {
        (a, b): (n, wrong[b, a], wrong[a, b], queries[a] + queries[b])
        for (a, b), n in together.items()
    }
    columns = ("misses", "one_for_other", "other_for_one", "queries")
    rows = got.confused.select("one", "other", *columns).rows()
    assert {(a, b): tuple(counts) for a, b, *counts in rows} == confused
    assert got.confused["misses"].to_list() == sorted(together.values(), reverse=True)


def test_the_worst_and_the_surest():
    rows = table([("a", "b"), ("a", "a"), ("b", "c"), ("c", "a")])
    assert mistakes(rows).worst(2)["id"].to_list() == [3, 2]
    assert mistakes(rows).surest(2).is_empty()
    sure = rows.with_columns(confidence=pl.Series([0.1, 0.9, 0.8, 0.3]))
    assert mistakes(sure).surest(2)["id"].to_list() == [2, 3]


scores = st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=6)
right_sets = st.sets(st.integers(0, 3), min_size=1, max_size=3)


@given(scores, st.data())
@settings(deadline=None)
def test_outcomes_are_those_of_a_sorted_list(values, data):
    """Against Python's stable sort, ties by the earlier answer."""
    right = [data.draw(right_sets) for _ in values]
    table = np.array([[j in columns for j in range(4)] for columns in right], dtype=np.float32)
    got = outcomes(np.array(values, dtype=np.float32), sparse.csr_array(table))
    for i, (row, columns) in enumerate(zip(values, right, strict=True)):
        order = sorted(range(4), key=lambda j: -row[j])
        best = next(j for j in order if j in columns)
        assert (got["first"][i], got["right"][i]) == (order[0], best)
        assert got["rank"][i] == order.index(best) + 1


def test_they_are_those_of_the_ranker(recipes, help_centre):
    ranker = train(help_centre, recipes["fused"], store=FeatureStore())
    rows = evaluate(ranker, help_centre, resamples=0).per_query
    firsts = [ranking[0] for ranking in ranker.rank(rows["text"].to_list(), k=1)]
    assert rows["first"].to_list() == [answer.id for answer in firsts]
    np.testing.assert_allclose(rows["confidence"], [answer.confidence for answer in firsts])
    got = mistakes(rows)
    assert got.misses.height == rows.height - rows["accuracy@1"].sum()
    assert ((rows["rank"] <= 3).cast(float) == rows["accuracy@3"]).all()
    labels = set(help_centre.labels.select("query", "answer").iter_rows())
    assert all(pair in labels for pair in rows.select("id", "right").iter_rows())
    values = got.as_dict(5)
    assert values["misses"] == got.misses.height
    assert len(values["worst"]) == 5
    assert values["worst"][0]["loss"] == got.misses["loss"].max()
