"""Two processes share a sweep on a real PostgreSQL server, started for the test."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

TRIALS = 8


def _programs():
    """Where PostgreSQL's server programs are: on the path, or where Debian puts them."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "initdb").exists() else None


def _user():
    """It does not run as root: whose server it is to be, and how to become that user."""
    if not hasattr(os, "getuid") or os.getuid():
        return None, []
    import pwd

    try:
        return pwd.getpwnam("postgres"), ["runuser", "-u", "postgres", "--"]
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")


@pytest.fixture(scope="module")
def server():
    """The address of a database in a server that listens on a socket in its own folder."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (initdb)")
    user, become = _user()
    home = Path(tempfile.mkdtemp(prefix="pg"))  # its socket's path has to be short
    try:
        if user:
            os.chown(home, user.pw_uid, user.pw_gid)
        home.chmod(0o755)
        call = partial(subprocess.run, cwd=home, check=True, stdout=subprocess.DEVNULL, timeout=120)
        made = [programs / "initdb", "-D", home / "data", "-A", "trust", "-U", "twinrank", "-N"]
        call([*become, *map(str, made)])
        options = f"-c listen_addresses='' -c fsync=off -k {home}"
        control = [*become, str(programs / "pg_ctl"), "-D", str(home / "data"), "-w"]
        call([*control, "-l", str(home / "log"), "-o", options, "start"])
        try:
            yield f"postgresql://twinrank@/postgres?host={home}"
        finally:
            call([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_two_processes_share_one_sweep(server, recipe_files, help_centre_folder, tmp_path):
    (tmp_path / "ranges.toml").write_text(
        "training.learning_rate = {low = 1e-5, high = 1e-1, log = true}"
    )
    processes = []
    for name in ("one", "two"):  # at the same time, on a database still empty
        args = ["sweep", help_centre_folder, "--recipe", recipe_files["towers"], "--trials", TRIALS]
        args += ["--ranges", tmp_path / "ranges.toml", "--storage", server, "--workers", 1]
        program = [sys.executable, "-m", "twinrank.cli", *args, "--out", tmp_path / name]
        processes.append(
            subprocess.Popen(list(map(str, program)), stderr=subprocess.PIPE, text=True)
        )
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    here = [int(re.search(r"(\d+) of \d+ trials carried out", text)[1]) for text in said]
    (name,) = optuna.get_all_study_names(server)
    done = optuna.load_study(study_name=name, storage=server).trials
    assert {trial.state for trial in done} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert sum(here) == len(done)
    assert all(here)
    # Both may begin the last one in the same moment.
    assert TRIALS <= len(done) <= TRIALS + 1
    assert len({trial.params["training.learning_rate"] for trial in done}) == len(done)
    best = [(tmp_path / name / "best.toml").read_text() for name in ("one", "two")]
    assert best[0].splitlines()[1:] == best[1].splitlines()[1:]
