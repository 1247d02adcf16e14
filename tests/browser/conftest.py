"""A real Chromium for pages, the system's own, driven by Playwright, and a service to visit.

Where there is none the tests are skipped, and pytest says why; with TWINRANK_REQUIRE_BROWSER set,
as in CI, they fail.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.serving_help import serving

expect.set_options(timeout=30_000)  # ms: other tests may share the cores

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRAWN = "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))"


QUESTION = "it wont let me in again"


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


def ask(page: Page, text: str = QUESTION) -> None:
    """Type a question on the page, and send it."""
    page.get_by_label("Your question").fill(text)
    page.get_by_label("Your question").press("Enter")


def ask_and_wait(page: Page) -> None:
    """Ask, and wait until the page shows the new ranking: the former one goes with its panels."""
    ask(page)
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


def unfold(page: Page) -> None:
    """Show the unlikely answers, if there are any."""
    page.evaluate("document.querySelector('#more[aria-expanded=false]:not([hidden])')?.click()")


@pytest.fixture(scope="session")
def ranker_folder(trained, tmp_path_factory) -> Path:
    """A ranker with every channel, whose answers may be changed."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("served") / "ranker")


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
def visit(opened, service):
    """Opens a page of the service; nothing on it moves."""

    def at(width=1200, scheme="light", url=f"{service.url}/"):
        seen = opened(width, scheme, reduced_motion="reduce")
        seen.page.goto(url)
        return seen

    return at


@pytest.fixture
def look(opened):
    """Opens a file at a width, light or dark, with no network; all figures are drawn."""

    def at(file, width=1000, scheme="light"):
        seen = opened(width, scheme, offline=True)
        seen.page.goto(file.as_uri())
        seen.page.wait_for_function(DRAWN)
        return seen

    return at
