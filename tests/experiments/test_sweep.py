import subprocess
import sys
import time
import traceback
from dataclasses import replace
from itertools import pairwise

import optuna
import polars as pl
import psutil
import pytest
from optuna.trial import TrialState

from tests.postgres import empty_database
from tests.processes import results
from twinrank.encoding import FeatureStore
from twinrank.errors import TwinrankError
from twinrank.experiments import sweep as sweeping
from twinrank.experiments.sweep import Search, TrialContext, find_database, open_study, sweep
from twinrank.experiments.sweep_ranges import Choices, Ranges, vary
from twinrank.recipe import Recipe
from twinrank.training import train

pytestmark = pytest.mark.slow

WIDE = """
[training]
learning_rate = {low = 1e-5, high = 1e-1, log = true}
batch_size = {choices = [32, 64, 128]}
[towers]
dropout = {low = 0.0, high = 0.6}
"""


@pytest.fixture(scope="module")
def ranges_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("ranges") / "wide.toml"
    file.write_text(WIDE)
    return file


@pytest.fixture(scope="module")
def search(recipes, help_centre, ranges_file):
    recipe = recipes["towers"]
    return Search(help_centre, recipe, Ranges.load(ranges_file, recipe))


def context_in(folder, storage=None, track=None):
    database = find_database(storage, folder)
    return TrialContext(database, FeatureStore(), folder, track, "cpu")


def found_in(folder, search, trials=12, workers=1, **context):
    return sweep(search, context_in(folder, **context), trials=trials, workers=workers)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def found(search, home):
    return found_in(home, search)


def test_the_best_recipe_loads_and_reaches_the_same_again(found, help_centre, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(found.best_toml)
    best = Recipe.load(file)
    assert best == found.best
    assert best.training.epochs == 8  # what is not varied stays
    ranker = train(help_centre, best, store=FeatureStore())
    values = [t.value for t in found.study.trials if t.state == TrialState.COMPLETE]
    assert ranker.origin.quality["loss"] == min(values) == found.reached(found.trials[0])
    first = found.study.trials[0]  # the recipe as it is
    assert first.params["training.learning_rate"] == 3e-3
    ranker = train(help_centre, found.search.recipe, store=FeatureStore())
    assert first.user_attrs["quality"] == ranker.origin.quality


def test_a_second_call_does_only_what_is_missing(found, home, search):
    before = [(trial.number, trial.value, trial.params) for trial in found.study.trials]
    assert found_in(home, search, trials=12).study.trials == found.study.trials
    more = found_in(home, search, trials=13).study.trials
    assert [(trial.number, trial.value, trial.params) for trial in more][:-1] == before


def test_no_trial_depends_on_the_test_split_and_one_worker_repeats_itself(found, search, tmp_path):
    labels = search.dataset.labels.filter(pl.col("split") != "test")
    without = replace(search, dataset=replace(search.dataset, labels=labels))
    again = found_in(tmp_path, without, trials=8)
    told = [(t.params, t.value, t.intermediate_values) for t in again.study.trials]
    first = found.study.trials[:8]
    assert told == [(t.params, t.value, t.intermediate_values) for t in first]


def test_two_workers_share_the_trials_which_are_tracked(search, tmp_path):
    found = found_in(tmp_path, search, trials=6, workers=2, track="tensorboard")
    assert len({tuple(trial.params.values()) for trial in found.trials}) == 6
    began = sorted((trial.datetime_start, trial.datetime_complete) for trial in found.trials)
    assert any(start < end for (_, end), (start, _) in pairwise(began))
    folders = {path.parent.name for path in tmp_path.glob("trials/*/tensorboard")}
    assert folders == {str(trial.number) for trial in found.trials}


def test_the_worst_type_is_maximised(search, tmp_path):
    even = replace(search, objective="worst-type")
    found = found_in(tmp_path, even, trials=12)
    whole = [trial for trial in found.trials if trial.state == TrialState.COMPLETE]
    for trial in whole:
        types = trial.user_attrs["quality"]["types"].values()
        assert trial.value == min(figures["map@10"] for figures in types)
    assert found.reached(found.trials[0]) == max(trial.value for trial in whole)


def test_another_sweep_does_not_go_on_in_the_same_folder(found, home, search):
    assert found.trials
    with pytest.raises(TwinrankError, match=r"sweep\.db: holds another sweep; choose"):
        found_in(home, replace(search, seed=1))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@127.0.0.1:1/x", r"me:\*\*\*@127.0.0.1:1/x: .*check the address"),
        ("mysql://me:secret@127.0.0.1:1/x", r"me:\*\*\*@127.0.0.1:1/x: .*install its driver"),
        ("host=h dbname=d password=secret", "the address of the storage is no URL"),
        ("sqlite://", "in memory"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_the_password(
    search, tmp_path, url, message
):
    with pytest.raises(TwinrankError, match=message) as caught:
        found_in(tmp_path, search, storage=url)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_trial_that_diverges_says_why_and_is_never_the_best(search, tmp_path):
    rates = {"training.learning_rate": Choices(choices=(1e-3, 1e35))}
    recipe = vary(search.recipe, {"training.epochs": 2}, name="short", source="")
    tried = replace(search, recipe=recipe, ranges=Ranges(rates), seed=1)
    found = found_in(tmp_path, tried, trials=6)
    assert found.best.training.learning_rate == 1e-3
    assert {trial.params["training.learning_rate"] for trial in found.trials} == {1e-3}
    assert len(found.trials) + len(found.failed) == 6
    assert "lower the recipe's training.learning_rate" in found.as_dict()["failed"][0]["why"]
    alone = {"training.learning_rate": Choices(choices=(1e34, 1e35))}
    with pytest.raises(TwinrankError, match=r"no trial reached a figure \(trial 0: "):
        found_in(tmp_path / "alone", replace(tried, ranges=Ranges(alone)), trials=2)


def test_a_trial_that_others_took_for_dead_is_given_up_and_done_again(
    search, tmp_path, monkeypatch
):
    fits = []

    def standing_still(*args, **kwargs):
        fits.append(kwargs)
        if len(fits) == 1:
            place = f"sqlite:///{tmp_path / sweeping.FILE_NAME}"
            study = optuna.load_study(study_name=search.name, storage=place)
            (running,) = study.get_trials(states=(TrialState.RUNNING,))
            study._storage.set_trial_state_values(running._trial_id, state=TrialState.FAIL)
        return train(*args, **kwargs)

    monkeypatch.setattr(sweeping, "train", standing_still)
    found = found_in(tmp_path, search, trials=2)
    states = [trial.state for trial in found.study.trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]


def begun(search, address, out):
    """The numbers of trials, once this process has opened a study or made it."""
    return [trial.number for trial in open_study(search, context_in(out, address)).trials]


@pytest.mark.parametrize("server", ["sqlite", "postgres"])
def test_ten_that_begin_one_sweep_at_once_make_its_tables_once(server, search, tmp_path, request):
    address = None
    if server == "postgres":
        address = empty_database(request.getfixturevalue("postgres"))
    assert results(begun, search, address, tmp_path) == [[0]] * 10


def test_a_trial_that_died_before_its_first_heartbeat_is_not_waited_for(
    search, tmp_path, monkeypatch
):
    monkeypatch.setattr(sweeping, "DEAD_AFTER_S", 1)
    study, known = open_study(search, context_in(tmp_path)), set()
    study.ask()  # as a process does right before its heartbeats begin
    sweeping.fail_killed(study, known)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
    time.sleep(3)  # the database counts in seconds
    sweeping.fail_killed(study, known)
    assert study.trials[0].state == TrialState.FAIL


def test_kill_9_loses_at_most_the_trials_under_way(
    search, recipe_files, ranges_file, help_centre_folder, tmp_path, monkeypatch
):
    """Two workers, killed with their parent in the middle; a second call ends the sweep."""
    program = [sys.executable, "-m", "twinrank.cli", "sweep", help_centre_folder]
    program += ["--recipe", recipe_files["towers"], "--ranges", ranges_file, "--out", tmp_path]
    study = open_study(search, context_in(tmp_path))
    process = subprocess.Popen([*map(str, program), "--trials", "500", "--workers", "2"])

    def done(trials):
        return {t.number: t for t in trials if t.state.is_finished()}

    try:
        deadline = time.monotonic() + 240
        while len(done(study.trials)) < 6:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)  # they end by themselves
    assert not alive
    before = study.trials
    finished, lost = done(before), [t for t in before if not t.state.is_finished()]
    assert len(lost) <= 2
    monkeypatch.setattr(sweeping, "DEAD_AFTER_S", 1)
    wanted = len(finished) + 2
    after = {t.number: t for t in found_in(tmp_path, search, trials=wanted).study.trials}
    assert all(after[number] == trial for number, trial in finished.items())
    ended = [t for t in after.values() if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(ended) == wanted
    again = [t.params for t in ended if t.number not in finished]
    for trial in lost:
        assert after[trial.number].state == TrialState.FAIL
        if len(trial.params) == 3:
            assert trial.params in again  # it was done again
