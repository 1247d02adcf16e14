"""Several calls at once: in order, and none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twinrank.experiments.runs import at_once


def double(x):
    return 2 * x, os.getpid()


@pytest.mark.slow
def test_results_come_in_the_order_of_the_items():
    inside = at_once(double, [3, 1, 2], workers=1, device="cpu", label="Doubling")
    outside = at_once(double, [3, 1, 2], workers=2, device="cpu", label="Doubling")
    assert [value for value, _ in inside] == [value for value, _ in outside] == [6, 2, 4]
    assert {pid for _, pid in inside} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in outside}


SLEEPER = """
import os, sys, time
from pathlib import Path
from twinrank.experiments.runs import at_once

def sleep(name):
    Path(sys.argv[1], name).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    at_once(sleep, ["a", "b"], workers=2, device="cpu", label="Sleeping")
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks processes up in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER.replace("sys.argv[1]", repr(str(tmp_path))))
    parent = subprocess.Popen([sys.executable, str(script)])
    files = [tmp_path / "a", tmp_path / "b"]
    _wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def _wait_until(condition):
    end = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
