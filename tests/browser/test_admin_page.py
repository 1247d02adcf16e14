"""The admin view of `twinrank serve` in a real Chromium, over a database with a history."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from scipy.stats import binomtest

from tests.serving_help import serving
from twinrank.feedback import Verdict
from twinrank.feedback.database import Feedback
from twinrank.feedback.feedback_statistics import Traffic

pytestmark = pytest.mark.slow

TODAY = datetime.now(UTC)
SIZES = [(width, scheme) for width in (400, 1600) for scheme in ("light", "dark")]
SCRIPT = "<script>window.pwned = 1</script>"


def verdict(key, answer, right, shown, days=0):
    at = TODAY - timedelta(days)
    return Verdict(key, f"where is {key}", "question", answer, right, shown, "r", at)


@pytest.fixture(scope="module")
def history(ranker_folder, tmp_path_factory):
    """A service with traffic on two days, and verdicts."""
    database = tmp_path_factory.mktemp("admin") / "feedback.db"
    with closing(Feedback.open(str(database))) as feedback:
        day, earlier = TODAY.date(), TODAY.date() - timedelta(40)
        feedback.add_traffic(
            {
                (day, "question"): Traffic(100, 60, 5),
                (day, SCRIPT): Traffic(20, 20, 0),
                (earlier, "question"): Traffic(1_000, 500, 0),
            }
        )
        for n in range(4):
            feedback.add(verdict(f"wrong-{n}", "nw-101", False, ("nw-101",)))
        feedback.add(verdict("right", "nw-101", True, ("nw-101",)))
        feedback.add(verdict("wanted", "nw-102", True, ("nw-101",)))
    with serving(ranker_folder, database) as running:
        yield running


@pytest.fixture
def admin(opened, history):
    def at(width=1200, scheme="light"):
        seen = opened(width, scheme, reduced_motion="reduce")
        seen.page.goto(f"{history.url}/admin")
        seen.page.locator(".tiles").wait_for()
        return seen

    return at


def figures(page):
    return dict(
        zip(
            page.locator(".tile dt").all_inner_texts(),
            page.locator(".tile dd:not(.hint)").all_inner_texts(),
            strict=True,
        )
    )


def rows(page, caption):
    table = page.get_by_role("table", name=caption)
    return [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()]


def test_it_counts_what_was_asked_and_said(admin):
    seen = admin()
    page = seen.page
    shown = figures(page)
    assert shown == {
        "Requests": "120",
        "Confident": "67%",
        "Withheld": "4%",
        "Right": "17%",
        "To learn from": "2",
    }
    assert [row[:2] for row in rows(page, "By type")] == [["question", "100"], [SCRIPT, "20"]]
    assert rows(page, "Answers with most misses") == [["Reset your password", "4", "1", "80%"]]
    assert rows(page, "Wanted answers")[0][1:] == ["1"]
    with page.expect_response("**/v1/stats?days=90"):
        page.get_by_label("90 days").check(force=True)
    expect(page.locator(".tile dd").first).to_have_text("1,120")
    assert page.evaluate("window.pwned") is None
    assert seen.complaints == []


def test_a_chart_is_read_by_keyboard_and_by_mouse(admin):
    page = admin().page
    chart = page.locator("figure", has_text="Traffic by type")
    slider = chart.get_by_role("slider")
    expect(chart.locator(".readout")).to_contain_text(f"question 100 · {SCRIPT} 20")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(chart.locator(".readout")).to_contain_text("question 0")
    assert slider.get_attribute("aria-valuetext") == chart.locator(".readout").inner_text()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 12, box["y"] + 20)
    expect(chart.locator(".readout")).to_contain_text("question 100")
    bars = chart.locator(".bar").all()
    heights = [bar.bounding_box()["height"] for bar in bars]
    assert heights[0] / heights[1] == pytest.approx(5, rel=0.1)


def answering(reply):
    return lambda route: route.fulfill(json=reply)


def test_a_type_has_one_colour_whatever_the_range(admin):
    page = admin().page

    def colours():
        legend = page.locator("figure", has_text="Traffic by type").locator(".legend li").all()
        return {one.inner_text(): one.get_attribute("class") for one in legend}

    day = {"confident": 0, "withheld": 0, "right": 0, "wrong": 0, "date": f"{TODAY.date()}"}
    types = ["chat", "mail", "search", "voice", "form", "fax", "note"]  # the most frequent first
    rows = [{**day, "type": kind, "requests": 9} for kind in types]
    stub = {"misses": [], "wanted": [], "verdicts": 0, "learnable": 0, "ranker": "r"}
    seen = []
    for days, some in ((7, rows), (90, rows[::-1]), (30, rows[2:4])):
        reply = {**stub, "days": some, "types": types}
        page.route(f"**/v1/stats?days={days}", answering(reply))
        page.get_by_label(f"{days} days").check(force=True)
        expect(page.locator("#spoken")).to_have_text(f"The last {days} days.")
        seen.append(colours())
    assert seen[0] == seen[1]
    assert len(set(seen[0].values())) == 6
    assert "all other types" in seen[0]
    assert seen[2].items() <= seen[0].items()
    assert len(seen[2]) == 2


def test_no_share_is_shown_of_a_few(admin):
    page = admin().page
    day = {"type": "chat", "withheld": 1, "date": f"{TODAY.date()}"}
    row = {**day, "requests": 4, "confident": 2, "right": 2, "wrong": 2}
    misses = [{"id": "x", "title": "X", "wrong": 1, "right": 0}]
    stub = {"misses": misses, "wanted": [], "verdicts": 4, "learnable": 2, "ranker": "r"}
    reply = {**stub, "days": [row], "types": ["chat"]}
    page.route("**/v1/stats?days=7", answering(reply))
    page.get_by_label("7 days").check(force=True)
    expect(page.locator(".tile dd").first).to_have_text("4")
    assert figures(page)["Right"] == figures(page)["Confident"] == "\N{EN DASH}"
    expect(page.locator(".tiles")).to_contain_text("2 of 4 judged queries: too few for a share")
    assert "%" not in page.locator("table").all_inner_texts()[0]
    assert rows(page, "Answers with most misses")[0][-1] == "\N{EN DASH}"


def test_answers_are_found_and_read(admin):
    page = admin().page
    page.get_by_label("Words of a title").fill("VAT sales")
    expect(page.locator(".browse li")).to_have_count(1)
    expect(page.get_by_role("status").filter(has_text="1 answer")).to_be_visible()
    page.locator("summary", has_text="Add VAT or sales tax to invoices").click()
    expect(page.locator(".browse .panel h3").first).to_be_visible()
    page.get_by_label("Words of a title").fill("")
    expect(page.locator(".browse li")).to_have_count(74)


def test_a_share_has_wilsons_interval(admin):
    page = admin().page
    share = "([part, whole]) => import('/static/charts.js').then((m) => m.share(part, whole))"
    for part, whole in [(0, 3), (7, 9), (120, 400)]:
        found = page.evaluate(share, [part, whole])
        expected = binomtest(part, whole).proportion_ci(method="wilson")
        assert [found["low"], found["high"]] == pytest.approx(list(expected), abs=1e-4)
    assert page.evaluate(share, [0, 0]) is None


def test_nothing_and_no_connection_are_said(admin):
    page = admin().page
    empty = {"days": [], "misses": [], "wanted": [], "verdicts": 0, "ranker": "r"}
    empty |= {"learnable": 0, "types": []}
    page.route("**/v1/stats?days=7", lambda route: route.fulfill(json=empty))
    page.get_by_label("7 days").check(force=True)
    expect(page.get_by_text("Nothing was asked in the last 7 days.")).to_be_visible()
    page.context.set_offline(True)
    page.get_by_label("30 days").check(force=True)
    expect(page.locator(".notice")).to_contain_text("No connection to the service")
    page.context.set_offline(False)
    expect(page.locator(".charts").first).to_be_visible()
    expect(page.locator(".notice")).to_be_hidden()


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_it_fits_and_can_be_read_by_all(admin, history, width, scheme):
    seen = admin(width, scheme)
    page = seen.page
    page.get_by_text("Every day as a table").click()
    page.locator(".browse summary").first.click()
    page.locator(".browse .panel h3").first.wait_for()
    assert seen.too_wide <= 0
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_snapshot()
    assert seen.complaints == []
    assert all(request.startswith(history.url) for request in seen.requests)
