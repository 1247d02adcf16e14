"""A running `twinrank serve` for the tests of its pages."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page

from tests.service.test_server import served
from twinrank.feedback import Verdict
from twinrank.feedback.database import Feedback

QUESTION = "it wont let me in again"


@dataclass(frozen=True)
class Service:
    """Its address, and its database."""

    url: str
    database: Path

    def verdicts(self) -> list[Verdict]:
        """All that is stored, oldest first."""
        with closing(Feedback.open(str(self.database))) as feedback:
            return feedback.verdicts()


@contextmanager
def serving(ranker: Path, database: Path, *options: str) -> Iterator[Service]:
    """`twinrank serve` in processes of its own until the block ends."""
    with served(ranker, "--feedback", str(database), *options) as (_, address):
        yield Service(address, database)


def ask(page: Page, text: str = QUESTION) -> None:
    """Type a question on the page, and send it."""
    page.get_by_label("Your question").fill(text)
    page.get_by_label("Your question").press("Enter")
