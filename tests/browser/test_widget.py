"""The search in another site's page: one tag, a strict policy, keys, keyboard, faults."""

import functools
import http.server
import shutil
import threading

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import QUESTION
from tests.conftest import HELP_CENTRE
from tests.service.conftest import keys_file
from tests.serving_help import serving
from twinrank.ranking import Ranker

PAGE = (HELP_CENTRE.parent / "widget.html").read_text("utf-8")
EXAMPLE = "http://127.0.0.1:8000"


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Another site: the folder of its pages, and its address."""
    folder = tmp_path_factory.mktemp("site")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Silent, directory=folder)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def open_service(site, ranker_folder, tmp_path_factory):
    database = tmp_path_factory.mktemp("widget") / "feedback.db"
    with serving(ranker_folder, database, "--origin", site[1]) as running:
        yield running


@pytest.fixture
def visit_site(opened, site):
    """Opens the example page, which asks a service."""

    def at(service, name="page.html", width=1000, scheme="light", page=PAGE):
        folder, address = site
        (folder / name).write_text(page.replace(EXAMPLE, service.url), "utf-8")
        seen = opened(width, scheme, reduced_motion="reduce")
        seen.page.goto(f"{address}/{name}")
        return seen

    return at


def ask(page, text=QUESTION):
    page.get_by_role("searchbox").fill(text)
    expect(page.get_by_role("status").first).to_have_text("5 answers")


def test_a_visitor_asks_reads_and_says_what_helped(visit_site, open_service):
    seen = visit_site(open_service)
    ask(seen.page)
    items = seen.page.get_by_role("listitem")
    expect(items).to_have_count(5)
    first = items.first.get_by_role("link").or_(items.first.get_by_role("button")).first
    assert first.inner_text()
    items.nth(1).get_by_role("button", name="No", exact=True).click()
    items.first.get_by_role("button", name="Yes").click()
    expect(seen.page.get_by_text("Thank you.")).to_have_count(2)
    wrong, right = open_service.verdicts()[-2:]
    assert (wrong.right, right.right, right.text, right.type) == (False, True, QUESTION, "question")
    assert right.answer == right.shown[0]
    assert wrong.answer == right.shown[1]
    assert seen.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_it_fits_and_is_accessible(visit_site, open_service, width, scheme):
    seen = visit_site(open_service, width=width, scheme=scheme)
    ask(seen.page)
    assert seen.too_wide <= 0
    # axe takes the ground that the browser gives a dark page for white.
    seen.page.evaluate("document.body.style.background = 'Canvas'")
    faults = Axe().run(seen.page).response["violations"]
    assert [node["failureSummary"] for fault in faults for node in fault["nodes"]] == []


def test_arrows_go_through_the_answers_and_escape_goes_back(visit_site, open_service):
    seen = visit_site(open_service)
    ask(seen.page)
    field = seen.page.get_by_role("searchbox")
    field.press("ArrowDown")
    shown = seen.page.get_by_role("listitem").locator("a, .title")
    expect(shown.nth(0)).to_be_focused()
    seen.page.keyboard.press("ArrowDown")
    expect(shown.nth(1)).to_be_focused()
    seen.page.keyboard.press("ArrowUp")
    seen.page.keyboard.press("ArrowUp")
    expect(field).to_be_focused()
    seen.page.keyboard.press("ArrowDown")
    seen.page.keyboard.press("Escape")
    expect(field).to_be_focused()


def test_texts_are_shown_as_they_are_and_only_web_addresses_are_followed(
    visit_site, trained, site, tmp_path
):
    folder = shutil.copytree(trained, tmp_path / "ranker")
    ranker = Ranker.load(folder)
    row = ranker.answers.head(1).to_dicts()[0]
    attack = "<img src=x onerror=\"document.title='owned'\"> zebra zebra zebra"
    hostile = {**row, "title": attack, "text": attack, "url": "javascript:document.title='owned'"}
    ranker.put_answers(
        ranker.answers.clear().vstack(type(ranker.answers)([hostile], schema=ranker.answers.schema))
    )
    ranker.save(folder)
    with serving(folder, tmp_path / "f.db", "--origin", site[1]) as running:
        seen = visit_site(running, "hostile.html")
        ask(seen.page, "zebra zebra")
        button = seen.page.get_by_role("button", name="zebra").first
        button.click()
        expect(button).to_have_attribute("aria-expanded", "true")
        assert seen.page.locator("li img").count() == 0
        assert "owned" not in seen.page.title()


def test_a_key_may_only_what_it_may_and_other_sites_nothing(
    visit_site, ranker_folder, site, tmp_path
):
    keys = keys_file(tmp_path)
    with serving(ranker_folder, tmp_path / "f.db", "--keys", str(keys), "--origin", site[1]) as run:
        seen = visit_site(run, "keyless.html")
        seen.page.get_by_role("searchbox").fill(QUESTION)
        expect(seen.page.get_by_text("The search does not answer just now.")).to_be_visible()
        expect(seen.page.get_by_role("button", name="Try again")).to_have_count(0)
        keyed = visit_site(
            run, "key.html", page=PAGE.replace("data-into", f'data-key="{"r" * 20}" data-into')
        )
        ask(keyed.page)
        keyed.page.get_by_role("button", name="Yes").first.click()
        expect(keyed.page.get_by_text("The search does not answer just now.")).to_be_visible()
        assert run.verdicts() == []
    with serving(ranker_folder, tmp_path / "g.db", "--origin", "https://elsewhere.example") as run:
        seen = visit_site(run, "foreign.html")
        seen.page.get_by_role("searchbox").fill(QUESTION)
        expect(seen.page.get_by_text("The search does not answer just now.")).to_be_visible()


def test_a_service_that_is_gone_is_tried_again(visit_site, ranker_folder, site, tmp_path):
    with serving(ranker_folder, tmp_path / "f.db", "--origin", site[1]) as run:
        seen = visit_site(run, "gone.html")
        ask(seen.page)
        seen.page.route("**/v1/rank", lambda route: route.abort())
        seen.page.get_by_role("searchbox").fill("another question")
        again = seen.page.get_by_role("button", name="Try again")
        expect(again).to_be_visible()
        seen.page.unroute("**/v1/rank")
        again.click()
        expect(seen.page.get_by_role("status").first).to_have_text("5 answers")


def test_without_a_place_it_stands_where_the_tag_stands(visit_site, open_service):
    seen = visit_site(open_service, "bare.html", page=PAGE.replace('data-into="#search"', ""))
    ask(seen.page)
    assert (
        seen.page.evaluate("document.querySelector('script').nextSibling.className")
        == "twinrank-widget"
    )


def test_it_is_small_and_loads_nothing_else(visit_site, open_service):
    seen = visit_site(open_service)
    ask(seen.page)
    ours = [url for url in seen.requests if url.startswith(open_service.url)]
    assert {url.removeprefix(open_service.url) for url in ours} == {"/widget.js", "/v1/rank"}
    size = seen.page.evaluate("fetch(document.querySelector('script').src).then((r) => r.text())")
    assert len(size.encode()) < 30_000
