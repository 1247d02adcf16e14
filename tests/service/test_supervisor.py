"""Workers that die, hang or do not stop, and what killed services leave."""

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock
from uvicorn import Config

from twinrank.service import supervisor
from twinrank.service.server import remove_stale_folders
from twinrank.service.supervisor import Supervisor, Worker

BLOCKED = "TWINRANK_TEST_BLOCKED"  # file that a worker makes when it blocks


def blocked():
    """An application whose load does not end."""
    Path(os.environ[BLOCKED]).touch()
    time.sleep(600)


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """A worker that has answered, and blocks."""
    monkeypatch.setenv(BLOCKED, str(tmp_path / "blocked"))
    worker = Worker(Config(f"{__name__}:blocked", factory=True, log_config=None), [])
    worker.start()
    while worker.find_fault() is None:
        if worker._answered_s is not None and (tmp_path / "blocked").exists():
            break
        time.sleep(0.05)
    yield worker
    worker.end()


def test_a_worker_that_dies_while_it_is_asked_is_known_to_be_dead(worker):
    worker.process.kill()
    worker.process.join()
    assert worker.find_fault() == "died"


@pytest.mark.parametrize(
    ("limit", "why"), [("START_S", "was not ready"), ("GRACE_S", "did not answer")]
)
def test_a_worker_that_hangs_is_given_up(worker, monkeypatch, limit, why):
    assert worker.find_fault() is None
    monkeypatch.setattr(supervisor, limit, -1)
    assert why in worker.find_fault()


def test_a_worker_that_does_not_stop_is_killed(worker, monkeypatch):
    monkeypatch.setattr(supervisor, "GRACE_S", 0.5)
    monkeypatch.setattr(supervisor.signal, "signal", lambda *_: None)
    every = Supervisor(worker.config, [])
    every.processes = [worker]
    every.terminate_all()
    every.join_all()
    assert worker.exitcode == -9


def test_what_a_killed_service_left_is_removed(tmp_path):
    for name in ("twinrank-metrics-a", "twinrank-metrics-b", "another"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    with FileLock(tmp_path / "twinrank-metrics-b" / "lock"):
        remove_stale_folders(Path(tmp_path))
        assert {each.name for each in tmp_path.iterdir()} == {"twinrank-metrics-b", "another"}
