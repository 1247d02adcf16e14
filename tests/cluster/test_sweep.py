import threading
import time

import pytest
from optuna.trial import TrialState

from twinrank.cluster import calls_on_cluster, check_shared
from twinrank.encoding import FeatureStore
from twinrank.errors import TwinrankError
from twinrank.experiments import sweep as sweeping
from twinrank.experiments.sweep import (
    Search,
    TrialContext,
    count_trials,
    find_database,
    open_study,
    sweep,
)
from twinrank.experiments.sweep_ranges import Ranges

WIDE = "[training]\nlearning_rate = { low = 1e-5, high = 1e-1, log = true }\n"


@pytest.fixture
def search(recipes, help_centre, tmp_path):
    file = tmp_path / "wide.toml"
    file.write_text(WIDE)
    recipe = recipes["towers"]
    return Search(help_centre, recipe, Ranges.load(file, recipe))


def test_a_node_killed_in_a_sweep_costs_time_alone(second_node, search, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "DEAD_AFTER_S", 8)  # else the lost trial is waited for a minute
    store, trials = FeatureStore(), 8
    context = TrialContext(find_database(None, tmp_path), store, tmp_path, None, "cpu")
    study = open_study(search, context)

    def kill_under_way():
        while count_trials(study, TrialState.RUNNING) < 2:
            time.sleep(0.02)
        second_node()

    killer = threading.Thread(target=kill_under_way, daemon=True)
    killer.start()
    found = sweep(search, context, trials=trials, calls=calls_on_cluster)
    killer.join(1)
    assert not killer.is_alive()
    assert len(found.trials) == trials
    assert len({trial.params["training.learning_rate"] for trial in found.trials}) == trials


@pytest.mark.usefixtures("whole_cluster")
def test_a_file_of_trials_serves_one_machine_alone(monkeypatch):
    check_shared(None)
    check_shared("sqlite:////tmp/trials.db")
    with pytest.raises(TwinrankError, match="whole path"):
        check_shared("sqlite:///trials.db")
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    check_shared("postgresql://twinrank@db/sweeps")
    with pytest.raises(TwinrankError, match="--storage postgresql"):
        check_shared(None)
