"""A running `twinrank serve` for the tests of its pages."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from twinrank.data import Verdict

QUESTION = "it wont let me in again"


@dataclass(frozen=True)
class Service:
    """A running `twinrank serve`, and its database."""

    url: str
    database: Path

    def verdicts(self) -> list[Verdict]:
        """All that is stored, oldest first."""
        from twinrank.serve.feedback import Feedback

        with closing(Feedback.open(str(self.database))) as feedback:
            return feedback.verdicts()


@contextmanager
def serving(ranker: Path, database: Path, *options: str) -> Iterator[Service]:
    """`twinrank serve` in processes of its own, on a free port, until the block ends."""
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


def ask(page, text=QUESTION):
    """Type a question on the page, and send it."""
    page.get_by_label("Your question").fill(text)
    page.get_by_label("Your question").press("Enter")
