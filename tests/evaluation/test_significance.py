import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinrank.evaluation import METRICS, differences, holm, summarise
from twinrank.evaluation.significance import permutation_p


def rows(values, threads=None, types=None):
    n = len(values)
    frame = {"id": [str(i) for i in range(n)], "type": types or ["a"] * n}
    frame["thread"] = [str(t) for t in (threads or range(n))]
    return pl.DataFrame(frame).with_columns(pl.Series(m, values, dtype=pl.Float64) for m in METRICS)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=20)  # each call of statsmodels has Python look for garbage
def test_holm_is_statsmodels(p):
    from statsmodels.stats.multitest import multipletests

    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9))
def test_the_p_value_is_the_share_of_signs_as_extreme(values):
    """All 2^n signs, counted one by one."""
    observed = abs(sum(values))
    signs = itertools.product([1, -1], repeat=len(values))
    sums = [abs(sum(s * v for s, v in zip(sign, values, strict=True))) for sign in signs]
    expected = np.mean([s >= observed for s in sums])
    assert permutation_p(rows(values), "map@10") == pytest.approx(expected)


def test_queries_of_one_thread_flip_together():
    values = [1.0] * 8
    assert permutation_p(rows(values), "loss") == pytest.approx(2 / 2**8)
    assert permutation_p(rows(values, threads=[0, 0, 1, 1, 2, 2, 3, 3]), "loss") == 2 / 2**4


def test_differences_overall_and_by_type():
    types = ["a", "a", "b", "b"]
    first, second = (summarise(rows(v, types=types)) for v in ([1, 1, 1, 0], [0, 0, 1, 1]))
    got = {d.kind: d for d in differences(first, second, ["map@3"])}
    assert [got[k].mean for k in (None, "a", "b")] == [0.25, 1.0, -0.5]
    assert (got["a"].interval, got["b"].interval) == ([1.0, 1.0], [-1.0, 0.0])
    reverse = {d.kind: d for d in differences(second, first, ["map@3"])}
    assert (reverse[None].mean, reverse[None].p) == (-0.25, got[None].p)


def test_the_queries_must_be_the_same():
    two, three = summarise(rows([1, 0])), summarise(rows([1, 0, 1]))
    with pytest.raises(ValueError, match="same queries"):
        differences(two, three, ["map@3"])
    assert [d.p for d in differences(two, two, ["map@3", "loss"])] == [1.0] * 4
