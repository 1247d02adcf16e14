import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from twinrank.evaluation import Calibration, coverage_curve, expected_calibration_error, reliability
from twinrank.evaluation.confidence import BINS, THRESHOLDS, calibrations

queries = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def arrays(pairs):
    confidence, right = zip(*pairs, strict=True)
    return np.array(confidence), np.array(right)


@given(queries)
@settings(deadline=None)
def test_the_error_is_that_of_the_paper(pairs):
    """Sum over bins of |B| / n |acc(B) - conf(B)|, a bin at a time (Guo et al. 2017, eq. 3)."""
    error = 0.0
    for b in range(BINS):
        last = b == BINS - 1
        inside = [(c, r) for c, r in pairs if int(c * BINS) == b or (last and c == 1)]
        if inside:
            confidence, accuracy = np.mean([c for c, _ in inside]), np.mean([r for _, r in inside])
            error += len(inside) / len(pairs) * abs(accuracy - confidence)
    assert expected_calibration_error(*arrays(pairs)) == pytest.approx(error, abs=1e-12)


def test_who_draws_by_the_confidence_is_calibrated():
    rng = np.random.default_rng(0)
    confidence = rng.random(50_000)
    right = rng.random(50_000) < confidence
    assert expected_calibration_error(confidence, right) < 0.02
    assert expected_calibration_error(np.full(50_000, 0.9), right) == pytest.approx(0.4, abs=0.01)


@given(queries)
@settings(deadline=None)
def test_the_curve_counts_what_is_answered(pairs):
    points = Calibration.of(*arrays(pairs)).curve
    assert [point.min_confidence for point in points] == list(THRESHOLDS)
    for point in points:
        kept = [r for c, r in pairs if c >= point.min_confidence]
        assert point.coverage == pytest.approx(len(kept) / len(pairs))
        assert point.accuracy == (pytest.approx(sum(kept) / len(kept)) if kept else None)


def test_each_type_is_measured_by_its_own_queries():
    rows = pl.DataFrame(
        {
            "type": ["b", "a", "b", "a"],
            "confidence": [1.0, 0.0, 1.0, 0.0],
            "accuracy@1": [1.0, 1.0, 1.0, 1.0],
        }
    )
    found = calibrations(rows)
    assert list(found) == ["overall", "a", "b"]
    assert [found[name].error for name in found] == [0.5, 1.0, 0.0]


@given(queries)
@settings(deadline=None)
def test_the_bins_of_the_diagram_make_up_the_error(pairs):
    bins = reliability(*arrays(pairs))
    assert sum(b.queries for b in bins) == len(pairs)
    off = sum(b.queries * abs(b.accuracy - b.confidence) for b in bins) / len(pairs)
    assert off == pytest.approx(expected_calibration_error(*arrays(pairs)), abs=1e-12)
    assert all(
        low - 1e-12 <= b.accuracy <= high + 1e-12 for b in bins for low, high in [b.interval]
    )


def test_the_interval_is_wilsons():
    """Against statsmodels."""
    (one,) = reliability(np.full(10, 0.5), np.arange(10) < 7)
    expected = proportion_confint(7, 10, method="wilson")
    assert one.interval == pytest.approx(expected)


@given(queries)
@settings(deadline=None)
def test_every_confidence_is_a_point_of_the_coverage_curve(pairs):
    confidence, right = arrays(pairs)
    curve = coverage_curve(confidence, right)
    assert [point.min_confidence for point in curve] == sorted(set(confidence.tolist()))
    assert curve[0].coverage == 1
    for point in curve:
        kept = confidence >= point.min_confidence
        assert point.coverage == pytest.approx(kept.mean())
        assert point.accuracy == pytest.approx(right[kept].mean())
