"""A new ranker may not be worse for any type: significantly, or by more than the margin."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinrank.evaluation import METRICS, differences, summarise
from twinrank.feedback import Compared
from twinrank.feedback.gate import SHOWN, lower_within, worse


def compared(on, gains, *, queries=60, noise=0.0):
    """Two rankers whose MAP@10 differs by so much for each type."""
    rng = np.random.default_rng(0)
    old, new = [], []
    for kind, gain in gains.items():
        before = rng.uniform(0.3, 0.6, queries)
        after = before + gain + noise * rng.permutation(np.linspace(-1, 1, queries))
        for rows, values in ((old, before), (new, after)):
            ids = [f"{kind}-{n}" for n in range(queries)]
            figures = dict.fromkeys(METRICS, values)
            rows.append(pl.DataFrame({"id": ids, "type": kind, "thread": ids, **figures}))
    one, other = (summarise(pl.concat(rows), resamples=50) for rows in (new, old))
    return Compared(on, other, one, tuple(differences(one, other, SHOWN)))


def test_better_or_alike_passes():
    assert worse([compared("test", {"chat": 0.1, "mail": 0.0})]) == []
    assert worse([compared("test", {"chat": -0.01, "mail": 0.1}, noise=0.3)]) == []


def test_one_type_that_is_worse_is_enough_whatever_the_others_gain():
    (line,) = worse([compared("test", {"chat": 0.3, "mail": -0.01})])
    assert "MAP@10 of mail on test is lower by 0.010, which is significant (p = 0.0" in line
    (line,) = worse([compared("test", {"chat": 0.3, "mail": -0.03}, noise=0.5)])
    assert "MAP@10 of mail on test is lower by 0.030, more than the margin of 0.02" in line
    assert worse([compared("test", {"chat": 0.3, "mail": -0.03}, noise=0.5)], margin=0.04) == []


def test_on_feedback_it_may_not_be_lower_either_however_few_the_queries():
    (line,) = worse([compared("feedback", {"chat": -0.1}, queries=4, noise=0.9)])
    assert "more than the margin of 0.02 (4 queries, too few to tell it from chance; p = " in line
    (line,) = worse([compared("feedback", {"chat": -0.1})])
    assert "significant" in line


def test_what_is_lower_within_the_margin_passes_and_is_said():
    less = [compared("feedback", {"chat": -0.01, "mail": 0.1}, noise=0.3)]
    assert worse(less) == []
    (line,) = lower_within(less)
    assert line.startswith(
        "MAP@10 of chat on feedback is lower by 0.010, within the margin of 0.02"
    )


@settings(max_examples=15, deadline=None)
@given(st.floats(-0.2, 0.2), st.floats(0, 0.5), st.floats(0, 0.1))
def test_what_gets_worse_never_passes_where_better_did_not(gain, noise, margin):
    reasons = [
        worse([compared("test", {"chat": g}, queries=20, noise=noise)], margin=margin)
        for g in (gain, gain - 0.1)
    ]
    assert len(reasons[1]) >= len(reasons[0])


def test_what_is_told_of_it_is_json():
    plain = compared("test", {"chat": 0.1}).as_dict()
    assert {d["type"] for d in plain["differences"]} == {None, "chat"}
    assert plain["new"]["types"]["chat"]["map@10"] == pytest.approx(
        plain["old"]["types"]["chat"]["map@10"] + 0.1
    )
