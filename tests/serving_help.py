"""`twinrank serve` in processes of its own, for the tests that ask a running service."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen


@dataclass(frozen=True)
class Service:
    """A running service, and the file of its verdicts."""

    url: str
    database: Path


@contextmanager
def serving(ranker: Path, database: Path, *options: str) -> Iterator[Service]:
    """Serve a ranker on a free port until the block ends."""
    log = database.with_suffix(".log")
    command = [sys.executable, "-m", "twinrank.cli", "serve", str(ranker), "--port", "0"]
    with log.open("w") as said:
        process = subprocess.Popen(
            [*command, "--feedback", str(database), *options], stdout=said, stderr=said
        )
        try:
            yield Service(_address(process, log), database)
        finally:
            process.terminate()
            process.wait(60)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(1200):  # tenths of a second
        time.sleep(0.1)
        assert process.poll() is None, log.read_text()
        found = re.search(r"at (http://127\.0\.0\.1:\d+)", log.read_text())
        try:
            if found and urlopen(f"{found[1]}/readyz").status == 200:  # noqa: S310
                return found[1]
        except URLError:
            continue
    raise AssertionError(log.read_text())
