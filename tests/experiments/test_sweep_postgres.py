"""Two processes share a sweep on a real PostgreSQL server."""

import re
import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

pytestmark = pytest.mark.slow

TRIALS = 8


def test_two_processes_share_one_sweep(postgres, recipe_files, help_centre_folder, tmp_path):
    (tmp_path / "ranges.toml").write_text(
        "training.learning_rate = {low = 1e-5, high = 1e-1, log = true}"
    )
    processes = []
    for name in ("one", "two"):  # at the same time, on a database still empty
        args = ["sweep", help_centre_folder, "--recipe", recipe_files["towers"], "--trials", TRIALS]
        args += ["--ranges", tmp_path / "ranges.toml", "--storage", postgres, "--workers", 1]
        program = [sys.executable, "-m", "twinrank.cli", *args, "--out", tmp_path / name]
        processes.append(
            subprocess.Popen(list(map(str, program)), stderr=subprocess.PIPE, text=True)
        )
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    here = [int(re.search(r"(\d+) of \d+ trials carried out", text)[1]) for text in said]
    (name,) = optuna.get_all_study_names(postgres)
    done = optuna.load_study(study_name=name, storage=postgres).trials
    assert {trial.state for trial in done} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert sum(here) == len(done)
    assert all(here)
    # Both may begin the last one in the same moment.
    assert TRIALS <= len(done) <= TRIALS + 1
    assert len({trial.params["training.learning_rate"] for trial in done}) == len(done)
    best = [(tmp_path / name / "best.toml").read_text() for name in ("one", "two")]
    assert best[0].splitlines()[1:] == best[1].splitlines()[1:]
