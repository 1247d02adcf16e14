"""`twinrank serve` in processes of its own, for the tests that ask a running service."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.service.test_server import served
from twinrank.feedback import Verdict
from twinrank.feedback.database import Feedback


@dataclass(frozen=True)
class Service:
    """A running service, and the file of its verdicts."""

    url: str
    database: Path

    def verdicts(self) -> list[Verdict]:
        """All that is stored, oldest first."""
        with closing(Feedback.open(str(self.database))) as feedback:
            return feedback.verdicts()


@contextmanager
def serving(ranker: Path, database: Path, *options: str) -> Iterator[Service]:
    """Serve a ranker on a free port until the block ends."""
    with served(ranker, "--feedback", str(database), *options) as (_, address):
        yield Service(address, database)
