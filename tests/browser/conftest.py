"""A real Chromium for pages: the system's own, driven by Playwright; nothing is downloaded.

Where there is none the tests are skipped, and pytest says why; with TWINRANK_REQUIRE_BROWSER set,
as in CI, they fail.
"""

import os
import shutil
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, sync_playwright

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
def look(browser):
    """Opens a file at a width, light or dark, with no network; all figures are drawn."""
    contexts = []

    def opened(file, width=1000, scheme="light"):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
        context.set_default_timeout(120_000)  # ms: other tests may share the cores
        contexts.append(context)
        seen = Look(context.new_page())
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.goto(file.as_uri())
        seen.page.wait_for_function(DRAWN)
        return seen

    yield opened
    for context in contexts:
        context.close()
