"""What other processes take of the machine."""

import subprocess
import sys
import time

import psutil

from races.others import used_by_others


def test_a_process_that_is_not_waited_for_counts():
    began, taken = time.perf_counter(), used_by_others()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        burning = psutil.Process(process.pid)
        while sum(burning.cpu_times()[:2]) < 0.5:
            time.sleep(0.05)
        cores, seconds = taken(), time.perf_counter() - began
        process.kill()
    assert cores * seconds > 0.4
