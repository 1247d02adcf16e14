"""A real Chromium for pages, the system's own, driven by Playwright, and a service to visit.

Where there is none the tests are skipped, and pytest says why; with TWINRANK_REQUIRE_BROWSER set,
as in CI, they fail.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Page, sync_playwright

from twinrank.data import Verdict
from twinrank.experiment import fit

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRAWN = "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))"


@dataclass
class Look:
    """An open page, what the browser complained of, and what it asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def too_wide(self) -> int:
        """Pixels by which the page is wider than its window."""
        root = "document.documentElement"
        return self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth")


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


@pytest.fixture(scope="session")
def ranker_folder(help_centre, recipes, tmp_path_factory) -> Path:
    """A ranker with every channel, trained on the tiny encoder."""
    folder = tmp_path_factory.mktemp("served") / "ranker"
    fit(help_centre, recipes["fused"], out=folder)
    return folder


@pytest.fixture(scope="session")
def service(ranker_folder, tmp_path_factory):
    """A service that all who do not change its settings share."""
    with serving(ranker_folder, tmp_path_factory.mktemp("feedback") / "feedback.db") as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        missing = pytest.fail if os.environ.get("TWINRANK_REQUIRE_BROWSER") else pytest.skip
        missing("no chromium: pages are not tested in a browser; `apt-get install chromium`")
    with sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu"]
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser):
    """Opens an empty page at a width, light or dark, whose complaints and requests are noted."""
    contexts = []

    def new(width=1000, scheme="light", **options):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, **options)
        context.set_default_timeout(120_000)  # ms: other tests may share the cores
        contexts.append(context)
        seen = Look(context.new_page())
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        return seen

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def look(opened):
    """Opens a file at a width, light or dark, with no network; all figures are drawn."""

    def at(file, width=1000, scheme="light"):
        seen = opened(width, scheme, offline=True)
        seen.page.goto(file.as_uri())
        seen.page.wait_for_function(DRAWN)
        return seen

    return at
