import time

import numpy as np
import pytest

from training_scale import Limits, Setting, crossings, drawn, exponents, fitted, growing
from twinrank.training import Trainer

SIZES = [1_000, 10_000, 100_000, 1_000_000]


def costs(**epochs):
    """Of an epoch by answers, for each series; memory grows with the square root."""
    return [
        {
            "grows": "answers",
            "series": name,
            "size": size,
            "answers": size,
            "queries": 1_000,
            "begin_s": 0.0,
            "step_s": 1.0,
            "epoch_s": of(size),
            "memory_mb": size**0.5,
        }
        for name, of in epochs.items()
        for size in SIZES
    ]


def test_exponents_are_slopes_from_where_growth_shows():
    (line, noisy) = exponents(
        costs(exact=lambda n: 3.0 * n, sampled=lambda n: n * (2 if n == 100_000 else 1))
    )
    assert line["epoch_s"] == pytest.approx([1, 1, 1])
    assert line["memory_mb"] == pytest.approx([0.5, 0.5, 0.5])
    slope, low, high = noisy["epoch_s"]
    assert low < slope < high and slope == pytest.approx(1)
    assert line["settings"] == 3


def test_indexes_change_places_where_their_costs_are_equal():
    found = crossings(costs(exact=lambda n: n, stale=lambda n: n / 4, sampled=lambda n: 5_000.0))
    assert [(each["from"], each["to"]) for each in found] == [
        ("exact", "sampled"),
        ("stale", "sampled"),
    ]
    assert [each["answers"] for each in found] == pytest.approx([5_000, 20_000], rel=1e-3)


def test_what_would_take_too_long_or_too_much_is_left_out():
    before = {"took_s": 4.0, "memory_mb": 100.0}
    until = time.perf_counter() + 60
    assert Limits(50, 1_100, until).allow(before, 10)
    assert not Limits(30, 1_100, until).allow(before, 10)
    assert not Limits(50, 900, until).allow(before, 10)
    assert not Limits(50, 1_100, until - 90).allow(before, 10)


@pytest.mark.parametrize("index", ["exact", "stale", "sampled"])
def test_a_training_is_timed_and_left(index):
    step = Trainer.step
    found = fitted(Setting(index, answers=300, queries=1_000, past=index != "stale"), steps=2)
    assert found["step_s"] > 0 and found["begin_s"] >= 0
    assert found["epoch_s"] == pytest.approx(found["begin_s"] + 8 * found["step_s"])
    assert Trainer.step is step


def test_each_series_grows_in_one_thing():
    for grows, series in growing():
        other = {"answers": "queries", "queries": "answers"}[grows]
        assert len({(each.name, getattr(each, other)) for each in series}) == 1
        assert (np.diff([getattr(each, grows) for each in series]) > 0).all()


def test_the_page_says_what_was_left_out():
    figures = {
        "machine": "a machine",
        "costs": costs(exact=lambda n: n),
        "exponents": exponents(costs(exact=lambda n: n)),
        "skipped": ["exact: 3 answers"],
    }
    text = drawn(figures)
    assert "Left out: exact: 3 answers." in text and "1.00 (1.00 to 1.00)" in text
