import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twinrank.evaluation import METRICS, summarise
from twinrank.evaluation.reliability import expected_calibration_error, measure_calibration

BINS = 15
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
        inside = [(c, r) for c, r in pairs if min(int(c * BINS), BINS - 1) == b]
        if inside:
            confidence, accuracy = np.mean([c for c, _ in inside]), np.mean([r for _, r in inside])
            error += len(inside) / len(pairs) * abs(accuracy - confidence)
    assert expected_calibration_error(*arrays(pairs)) == pytest.approx(error, abs=1e-12)


@given(queries)
@settings(deadline=None)
def test_curves_count_the_queries_that_are_answered(pairs):
    confidence, right = arrays(pairs)
    rows = pl.DataFrame({"confidence": confidence, "accuracy@1": right.astype(float)})
    rows = rows.with_columns(pl.col("accuracy@1").alias("accuracy@3"), among_options=pl.lit(None))
    curve = measure_calibration(rows).curve
    assert [point.min_confidence for point in curve] == [0, 0.2, 0.4, 0.6, 0.8]
    for point in curve:
        answered = confidence >= point.min_confidence
        accuracy = right[answered].mean() if answered.any() else None
        assert point.coverage == pytest.approx(answered.mean())
        assert point.accuracy == (accuracy and pytest.approx(accuracy))


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5), st.sampled_from([None, 0, 1]))))
def test_asking_is_measured_on_those_asked_and_on_the_others(queries):
    assume(queries)
    confidence, ranks, among = zip(*queries, strict=True)
    rows = pl.DataFrame(
        {
            "confidence": confidence,
            "accuracy@1": [float(rank == 1) for rank in ranks],
            "accuracy@3": [float(rank <= 3) for rank in ranks],
            "among_options": pl.Series(among, dtype=pl.Boolean, strict=False),
        }
    )

    def mean(values):
        return sum(values) / len(values) if values else None

    for point in measure_calibration(rows).asking:
        asked = [q for q in queries if q[0] < point.ask_below and q[2] is not None]
        others = [q for q in queries if q[0] >= point.ask_below or q[2] is None]
        assert [point.share, point.first, point.among] == pytest.approx(
            [
                len(asked) / len(queries),
                mean([q[1] == 1 for q in asked]),
                mean([q[2] for q in asked]),
            ]
        )
        assert point.others_first == pytest.approx(mean([q[1] == 1 for q in others]))
        assert point.others_top_3 == pytest.approx(mean([q[1] <= 3 for q in others]))


def test_each_type_is_measured_by_its_own_queries():
    rows = pl.DataFrame({"id": list("1234"), "type": list("baba"), "thread": list("1234")})
    rows = rows.with_columns(**{metric: pl.lit(1.0) for metric in METRICS})
    rows = rows.with_columns(
        confidence=pl.Series([1.0, 0.0, 1.0, 0.0]), among_options=pl.lit(None, pl.Boolean)
    )
    errors = {name: value.error for name, value in summarise(rows).confidence.items()}
    assert errors == {"overall": 0.5, "a": 1.0, "b": 0.0}
