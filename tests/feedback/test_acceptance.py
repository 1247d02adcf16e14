"""A new ranker may not be worse for any type: significantly, or by more than the margin."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinrank.evaluation import METRICS, differences, summarise
from twinrank.feedback.learning import COMPARED_METRICS, Compared, find_losses


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
    before, after = (summarise(pl.concat(rows), resamples=50) for rows in (old, new))
    return Compared(on, before, after, tuple(differences(after, before, COMPARED_METRICS)))


NOISY = {"queries": 60, "noise": 0.5}


@pytest.mark.parametrize(
    ("on", "gains", "options", "margin", "worse", "tolerated"),
    [
        ("test", {"chat": 0.1, "mail": 0.0}, {}, 0.02, None, None),
        (
            "test",
            {"chat": 0.3, "mail": -0.01},
            {},
            0.02,
            "0.010, which is significant (60 que",
            0,
        ),
        ("test", {"chat": 0.3, "mail": -0.03}, NOISY, 0.02, "0.030, more than the margin of", 0),
        ("test", {"chat": 0.3, "mail": -0.03}, NOISY, 0.04, None, "0.030, within the margin of"),
        ("feedback", {"mail": -0.1}, {}, 0.02, "0.100, which is significant", None),
        (
            *("feedback", {"mail": -0.1}, {"queries": 4, "noise": 0.9}, 0.02),
            *("0.100, more than the margin of 0.02 (4 queries, too few to tell it from", None),
        ),
    ],
)
def test_a_type_that_is_lower_is_worse_or_within_the_margin(
    on, gains, options, margin, worse, tolerated
):
    losses = find_losses([compared(on, gains, **options)], margin=margin)
    for lines, wanted in zip(losses, (worse, tolerated), strict=True):
        assert len(lines) == bool(wanted)
        assert all(f"MAP@10 of mail on {on} is lower by {wanted}" in line for line in lines)


@settings(max_examples=15, deadline=None)
@given(st.floats(-0.2, 0.2), st.floats(0, 0.5), st.floats(0, 0.1))
def test_what_gets_worse_never_passes_where_better_did_not(gain, noise, margin):
    worse = [
        find_losses([compared("test", {"chat": g}, queries=20, noise=noise)], margin=margin)[0]
        for g in (gain, gain - 0.1)
    ]
    assert len(worse[1]) >= len(worse[0])
