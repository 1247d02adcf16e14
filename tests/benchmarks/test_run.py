"""Ratios to peers: kept through a kill, compared with the run before, shown on a page."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import typer

import run
from races import kept
from races.page import bench_page, bench_table, change_figure
from races.race import NotHereError, Race, Unit, turns_of
from races.ratio import change, ratio, verdict
from races.results import results
from races.setting import Setting

BENCHMARKS = Path(run.__file__).parent
WORDS = ("faster", "slower")
NAMES = [f"race-{i}" for i in range(14)]


def measured(rng, factor=1.0):
    """A side's value on a machine whose load, shared by a turn, comes and goes."""
    return 5 * factor * rng.lognormal(sigma=0.08)


def units(rng, slower=()):
    def race(name):
        factor = 1.5 if name in slower else 1.0
        return lambda setting: Race(
            lambda: measured(rng, factor), lambda: 3 * measured(rng), most=5, warm_up=False
        )

    return [Unit(name, name, "a peer", "ms", race(name)) for name in NAMES]


def carried_out(out, own, *, fresh=True):
    """A whole run of these units, measured by a pretended clock."""
    folder = kept.begin(out, kept.about("data 1", [u.name for u in own], 5, 1), fresh=fresh)
    for number in range(5):
        run.hold(own, Setting(Path(), number, Path(), ExitStack()), folder, 0.05)
    return kept.whole(folder)


@pytest.fixture(autouse=True)
def dates(monkeypatch):
    """Runs that are a second apart."""
    seconds = iter(range(60))
    real = kept.datetime

    class Clock(real):
        @classmethod
        def now(cls, zone):
            return real(2026, 1, 1, 0, 0, next(seconds), tzinfo=zone)

    monkeypatch.setattr(kept, "datetime", Clock)


@pytest.fixture
def two_runs(tmp_path):
    rng = np.random.default_rng(0)
    carried_out(tmp_path, units(rng))
    own = units(rng, slower=("race-3",))
    now = carried_out(tmp_path, own)
    return results(own, now, kept.before(tmp_path, now))


def test_a_slow_down_is_called_and_noise_is_not(two_runs):
    verdicts = {one.unit.name: one.verdict for one in two_runs.races}
    assert verdicts.pop("race-3") == "slower"
    assert set(verdicts.values()) == {"as before"}
    (slower,) = two_runs.changed(-1)
    assert slower.change.value == pytest.approx(1 / 1.5, rel=0.15)


def test_of_many_runs_in_which_nothing_changed_few_call_anything():
    rng = np.random.default_rng(1)
    called = slow = 0
    for _ in range(300):
        passes = rng.normal(1, 0.05, (2, len(NAMES), 5))  # logarithms
        found = [change(now, before, len(NAMES)) for now, before in zip(*passes, strict=True)]
        called += any(verdict(one, WORDS) != "as before" for one in found)
        dragged = change(passes[0][0] - math.log(1.5), passes[1][0], len(NAMES))
        slow += verdict(dragged, WORDS) == "slower"
    assert called / 300 <= 0.07
    assert slow / 300 >= 0.95


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    rng = np.random.default_rng(2)
    found = [ratio(rng.normal(math.log(2), 0.1, 5).tolist()) for _ in range(1000)]
    assert np.mean([one.interval[0] <= 2 <= one.interval[1] for one in found]) == pytest.approx(
        0.95, abs=0.02
    )


def test_one_pass_has_no_interval_and_is_compared_with_nothing():
    assert ratio([0.0]).interval is None
    assert change([0.0], [0.0, 0.1], 1) is None


def test_sides_take_turns_at_being_first_and_the_warm_up_does_not_count():
    seen = []
    sides = [lambda name=name: seen.append(name) or 1.0 for name in ("ours", "peer")]
    turns = turns_of(Race(*sides, floor=lambda: 0.5, most=2), seconds=0)
    assert seen == ["ours", "peer"] * 2 + ["peer", "ours"]
    assert turns == [{"ours": 1.0, "peer": 1.0, "floor": 0.5}] * 2


def test_where_more_is_better_ours_is_above():
    unit = Unit("q", "q", "p", "MAP", lambda s: Race(lambda: 0.6, lambda: 0.3), True)
    held = [kept.Held(({"ours": 0.6, "peer": 0.3},))] * 2
    now = kept.Stored({"date": "b"}, {"q": held}, [1.0])
    (one,) = results([unit], now, None).races
    assert one.ratio.value == pytest.approx(2) and one.verdict == ""


def test_a_killed_run_keeps_what_is_done(tmp_path):
    script = tmp_path / "held.py"
    script.write_text(
        "import sys, time; from pathlib import Path\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import run; from races.race import Race, Unit; from types import SimpleNamespace\n"
        "def slow(setting): time.sleep(60)\n"
        "quick = lambda setting: Race(time.perf_counter, lambda: 2.0, most=1)\n"
        "units = [Unit('one', 'one', 'p', 'ms', quick), Unit('two', 'two', 'p', 'ms', slow)]\n"
        f"run.hold(units, SimpleNamespace(number=0), Path({str(tmp_path)!r}), 0)\n"
    )
    first = kept.place(tmp_path, 0, "one")
    with subprocess.Popen([sys.executable, str(script)]) as process:
        while not first.exists() and process.poll() is None:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    done = first.read_text()
    quick = [
        Unit(name, name, "p", "ms", lambda setting: Race(lambda: 1.0, lambda: 2.0))
        for name in ("one", "two")
    ]
    run.hold(quick, Setting(Path(), 0, Path(), ExitStack()), tmp_path, 0)
    assert first.read_text() == done
    assert json.loads(kept.place(tmp_path, 0, "two").read_text())["turns"][0]["peer"] == 2.0


def test_a_run_goes_on_where_one_alike_ended_and_a_whole_one_does_not(tmp_path):
    plan = kept.about("data 1", ["a"], 2, 1)
    begun = kept.begin(tmp_path, plan)
    assert kept.begin(tmp_path, plan) == begun
    assert kept.begin(tmp_path, {**plan, "commit": "another"}) != begun
    (begun / "bench.json").write_text("{}")
    assert kept.begin(tmp_path, plan) != begun


def test_only_runs_on_such_a_machine_and_these_data_are_compared(tmp_path):
    rng = np.random.default_rng(0)
    now = carried_out(tmp_path, units(rng))
    assert kept.before(tmp_path, now) is None
    other = now.about | {"date": "2030", "machine": {"cpu": "another"}}
    assert kept.before(tmp_path, kept.Stored(other, {}, [])) is None
    later = kept.Stored(now.about | {"date": "2030"}, {}, [])
    assert kept.before(tmp_path, later) == now


def test_what_is_stored_names_the_machine_by_kind_alone(tmp_path):
    now = carried_out(tmp_path, units(np.random.default_rng(0)))
    stored = next(tmp_path.glob("*/bench.json")).read_text()
    assert set(now.about["machine"]) == {"cpu", "cores", "threads"}
    assert os.uname().nodename not in stored and str(tmp_path) not in stored


def test_what_a_machine_lacks_is_said_and_a_fault_stops_no_other_race(tmp_path, caplog):
    def lacking(_):
        raise NotHereError("no wrk")

    def broken(_):
        raise ValueError("a peer changed")

    def whole(_):
        return Race(lambda: 1.0, lambda: 2.0)

    own = [Unit(p.__name__, p.__name__, "p", "ms", p) for p in (lacking, broken, whole)]
    with pytest.raises(SystemExit):
        run.hold(own, Setting(Path(), 0, Path(), ExitStack()), tmp_path, 0)
    names = {file.stem for file in (tmp_path / "pass-0").iterdir()}
    assert names == {"lacking", "whole"}
    assert "a peer changed" in caplog.text


def test_races_are_chosen_by_how_their_names_begin():
    own = units(np.random.default_rng(0))
    assert [unit.name for unit in run.named(own, "race-13, race-2")] == ["race-2", "race-13"]
    assert run.named(own, "") == own
    with pytest.raises(typer.BadParameter, match="no race begins with 'encode'"):
        run.named(own, "encode")


def test_the_page_and_the_table_say_what_changed(two_runs):
    text = bench_page(two_runs)
    assert "race-3, against a peer" in text and "Since the run before" in text
    assert "src=" not in text.split("</style>")[1].split("<script")[0]
    assert bench_table(two_runs).row_count == len(NAMES)


def test_each_mark_stands_beside_its_own_name(two_runs):
    figure = change_figure(two_runs)
    worse, same = figure.data
    assert (worse.name, list(worse.y)) == ("worse", [3])
    assert figure.layout.yaxis.ticktext[3] == "race-3"
    assert list(same.y) == [place for place in range(len(NAMES)) if place != 3]
