"""The admin view of `twinrank serve` in a real Chromium, over a database with a history."""

import re
import shutil
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from scipy.stats import binomtest

from tests.serving_help import serving
from twinrank.feedback import Verdict
from twinrank.feedback.database import Feedback
from twinrank.feedback.feedback_statistics import Traffic
from twinrank.ranking import RULES, Learned, Ranker

pytestmark = pytest.mark.slow

TODAY = datetime.now(UTC)
SIZES = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]
NONE = "\N{EN DASH}"
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
    assert rows(page, "Answers with most misses")[0][:3] == ["Reset your password", "4", "1"]
    assert rows(page, "Answers with most misses")[0][3].startswith("80")
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


def test_days_that_are_not_whole_are_marked(admin):
    page = admin().page
    traffic = page.locator("figure", has_text="Traffic by type")
    expect(traffic.locator(".readout")).to_contain_text(", so far: question")
    assert traffic.locator(".bar.part").count() == traffic.locator(".bar").count() == 2
    verdicts = page.locator("figure", has_text="Right, by the verdicts")
    verdicts.get_by_role("slider").focus()
    page.keyboard.press("Home")  # 30 days are four weeks, and two days
    expect(verdicts.locator(".readout")).to_contain_text(", no whole 7 days: 0 of 0")


def test_answers_are_found_and_read(admin):
    page = admin().page
    expect(page.locator(".browse summary", has_text="Reset your password")).to_be_visible()
    page.get_by_label("Words of a title").fill("VAT sales")
    expect(page.get_by_role("status").filter(has_text="1 answer")).to_be_visible()
    page.locator("summary", has_text="Add VAT or sales tax to invoices").click()
    expect(page.locator(".browse .panel h3").first).to_be_visible()
    page.get_by_label("Words of a title").fill("")
    expect(page.get_by_role("status").filter(has_text="74 answers")).to_be_visible()
    page.locator("section", has_text="Words of a title").get_by_role("button", name="Show").click()
    expect(page.locator(".browse:not(.misses) > li")).to_have_count(74)


def test_misses_lead_to_the_answer_and_back(admin):
    page = admin().page
    misses = page.locator(
        "section", has=page.get_by_role("heading", name="Queries that went wrong")
    )
    expect(misses.get_by_text("5 queries, the newest first")).to_be_visible()
    page.get_by_role("table", name="most misses").get_by_role("link").click()
    expect(misses.get_by_text("4 queries for which “Reset your password”")).to_be_visible()
    expect(misses.get_by_role("heading")).to_be_focused()
    expect(misses.locator("li", has_text="where is wrong-3").first).to_contain_text(
        "password wrong"
    )
    misses.get_by_role("link", name="Reset your password").first.click()
    answer = page.locator(".browse details", has_text="Reset your password")
    expect(answer.locator("h3").first).to_be_visible()
    answer.get_by_role("link", name="Queries for which it was wrong").click()
    expect(misses.get_by_text("4 queries for which")).to_be_visible()
    misses.get_by_role("link", name="All queries").click()
    expect(misses.get_by_text("5 queries, the newest first")).to_be_visible()
    page.get_by_role("table", name="Wanted answers").get_by_role("link").click()
    expect(misses.get_by_text("Right, and not shown:")).to_be_visible()
    page.go_back()
    expect(misses.get_by_text("5 queries, the newest first")).to_be_visible()


@pytest.fixture
def editing(opened, history):
    """Opens the form of an answer; gives the page, and reads the answer as it is stored."""

    def open_(id_):
        page = opened(1200, reduced_motion="reduce").page
        page.goto(f"{history.url}/admin#answer={id_}")
        page.get_by_role("button", name="Edit").click()
        return page

    return open_, lambda id_: httpx.get(f"{history.url}/v1/answers/{id_}").json()


def test_an_answer_is_edited_and_the_edit_undone(editing, history):
    open_, stored = editing
    url = f"{history.url}/v1/answers/edited"
    sections = [{"title": "", "text": "Before."}, {"title": "One", "text": "First <b>part</b>."}]
    whole = "Before.\nOne\nFirst <b>part</b>."
    put = {"title": "Kites", "text": whole, "sections": sections, "metadata": {"locale": "da"}}
    former = httpx.put(url, params={"plain": True}, json=put).raise_for_status().json()
    page = open_("edited")
    page.get_by_label("Title", exact=True).fill(f"Kites {SCRIPT}")
    page.get_by_label("Address").fill("javascript:alert(1)")
    text = page.locator(".edit textarea")
    assert text.input_value() == "Before.\n\n## One\nFirst <b>part</b>."
    text.fill("Before.\n\n## One\nFirst <b>part</b>.\n\n## Two\nSecond: 1 * 2 * 3.")
    preview = page.locator(".preview")
    assert preview.locator("h4").all_inner_texts() == ["One", "Two"]
    expect(preview).to_contain_text("First <b>part</b>.")
    assert preview.locator("a, b, script").count() == 0
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".panel .good")).to_be_visible()
    expect(page.get_by_role("button", name="Edit")).to_be_focused()
    now = stored("edited")
    assert (now["title"], now["metadata"]) == (f"Kites {SCRIPT}", {"locale": "da"})
    assert now["sections"] == [*sections, {"title": "Two", "text": "Second: 1 * 2 * 3."}]
    assert now["text"] == f"{whole}\nTwo\nSecond: 1 * 2 * 3."
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".panel .good", has_text="Undone.")).to_be_visible()
    assert stored("edited") == former
    assert page.evaluate("window.pwned") is None


def test_who_edits_second_is_told(editing, history):
    open_, stored = editing
    url = f"{history.url}/v1/answers/shared"
    httpx.put(url, json={"title": "Hangar", "text": "As it was."}).raise_for_status()
    page = open_("shared")
    page.locator(".edit textarea").fill("Mine.")
    httpx.put(url, json={"title": "Hangar", "text": "Theirs."}).raise_for_status()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("somebody changed this answer meanwhile")
    assert stored("shared")["text"] == "Theirs."
    page.get_by_text("As it is now").click()
    expect(page.get_by_role("alert").get_by_text("Theirs.")).to_be_visible()
    page.get_by_role("button", name="Save mine in its place").click()
    expect(page.locator(".panel .good")).to_be_visible()
    assert (stored("shared")["text"], stored("shared")["sections"]) == ("Mine.", [])
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".panel .good", has_text="Undone.")).to_be_visible()
    assert stored("shared")["text"] == "Theirs."


def test_what_is_not_saved_is_not_lost_by_a_search(editing):
    page = editing[0]("nw-103")
    page.locator(".edit textarea").fill("Half a")
    page.get_by_label("Words of a title").fill("VAT")
    expect(page.get_by_text("Save or cancel what you edit first.")).to_be_visible()
    assert page.locator(".edit textarea").input_value() == "Half a"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_label("Words of a title").fill("VAT sales")
    expect(page.get_by_role("status").filter(has_text="1 answer")).to_be_visible()


def test_learning_is_rolled_back_and_back_again(opened, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "ranker")
    ranker = Ranker.load(folder)
    learned = Learned(fingerprint="f", queries=25, hold_back=0.2, on=date(2026, 1, 2))
    ranker.origin = ranker.origin.model_copy(update={"learned": learned})
    ranker.save(folder, keep=True)
    with serving(folder, tmp_path / "feedback.db") as running:
        page = opened(1200, reduced_motion="reduce").page
        page.goto(f"{running.url}/admin")
        heading = page.get_by_role("heading", name="What the ranker learned")
        box = page.locator("section", has=heading)
        expect(box).to_contain_text("25 texts that people judged, on Friday 2 January")
        expect(box).to_contain_text("No judged text waits")
        page.on("dialog", lambda dialog: dialog.accept())
        for state in ("nothing from verdicts yet", "25 texts"):
            box.get_by_role("button", name="Go back to the ranker before").click()
            expect(box.locator("p").first).to_contain_text(f"It has learned {state}")


@pytest.mark.parametrize("role", ["read", "write"])
def test_a_key_shows_no_words_that_it_may_not_read(opened, history, trained, tmp_path, role):
    """One that reads alone, and one that sees some answers alone, of another's verdicts."""
    keys = tmp_path / "keys"
    keys.write_text(f"{role} {'k' * 20} acme {'brand=acme' if role == 'write' else ''}\n")
    database = shutil.copy(history.database, tmp_path / "feedback.db")
    folder = shutil.copytree(trained, tmp_path / "ranker")
    with serving(folder, database, "--keys", str(keys)) as running:
        page = opened(1200, reduced_motion="reduce").page
        replies = []

        def note(reply):
            replies.append(reply)

        page.on("response", note)
        page.goto(f"{running.url}/admin")
        page.get_by_role("textbox", name="Key").fill("k" * 20)
        page.get_by_role("button", name="Use this key").click()
        wanted = "That is not allowed" if role == "read" else "Nothing was asked"
        expect(page.get_by_text(wanted).first).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert page.get_by_role("heading", name="What the ranker learned").is_hidden()
        assert "where is" not in page.locator("body").inner_text()
        api = [reply for reply in replies if "/v1/" in reply.url]
        assert {reply.status for reply in api} > {401, 403}
        assert not any("where is" in reply.text() for reply in api)


def test_gaps_are_looked_for_when_asked(admin):
    page = admin().page
    page.get_by_text("Look for topics").click()
    section = page.get_by_role("region", name="Which article is missing?")
    topic = section.get_by_role("listitem").filter(has=page.get_by_role("heading"))
    expect(topic).to_have_count(1)
    expect(topic).to_contain_text("4 of 6 queries without a right answer")
    topic.get_by_text("What was asked").click()
    expect(topic.get_by_text("where is wrong-1")).to_be_visible()


def test_the_shadow_is_compared_when_asked(admin):
    page = admin().page
    section = page.get_by_role("region", name="Should another ranker take over?")
    section.get_by_text("Compare with the shadow").click()
    expect(section.get_by_text("None is there.")).to_be_visible()
    judged = {"queries": 40, "interval": None, "p": 0.012, "ranker": 0.5, "shadow": 0.75}
    counts = {"queries": 200, "same_first": 150, "shared": 480, "confident": 100}
    report = {
        **{"ranker": "aaa", "shadow": "bbb", "advice": "switch"},
        "interleaved": {"ranker": 3, "shadow": 9, "p": 0.146},
        "judged": [{**judged, "type": None}, {**judged, "type": SCRIPT, "queries": 3}],
        "types": [{**counts, "type": "question", "shadow_confident": 120, "skipped": 7}],
    }
    page.route("**/v1/shadow", lambda route: route.fulfill(json=report))
    page.reload()
    section.get_by_text("Compare with the shadow").click()
    expect(section.get_by_role("status")).to_contain_text("Switch: by the verdicts")
    caption = "A right answer among the first three"
    section.get_by_role("table", name=caption).wait_for()
    shown = [[cell.replace("\xa0", "") for cell in cells] for cells in rows(page, caption)]
    assert shown == [["all", "40", "50%", "75%", "0.012"], [SCRIPT, "3", *2 * [NONE], "0.012"]]
    agreed = [cell.replace("\xa0", "") for cell in rows(page, "How far they agree")[0]]
    assert agreed == ["question", "200", "75%", "80%", "50%", "60%"]
    expect(section.get_by_text("right in 3 queries, the shadow's in 9 (p 0.146)")).to_be_visible()
    expect(section.get_by_text("7 queries were not compared")).to_be_visible()
    assert page.evaluate("window.pwned") is None


def test_rules_are_edited_and_take_effect(admin, history, ranker_folder):
    page = admin().page
    section = page.get_by_role("region", name="Pins and synonyms")
    section.get_by_text("Answers that come first").click()
    box = section.get_by_role("textbox", name="Rules, as TOML")
    expect(box).to_have_value(re.compile("An answer that comes first"))
    save = section.get_by_role("button", name="Save")
    box.fill("[[pins]]\nquery = 'zebra'\n")
    save.click()
    expect(section.get_by_text("pins.0.answer: Field required")).to_be_visible()
    last = Ranker.load(ranker_folder).answers["id"][-1]
    box.fill(f"[[pins]]\nquery = 'zebra'\nanswer = '{last}'\n")
    save.click()
    expect(section.get_by_text("In use: 1 pin,")).to_be_visible()
    expect(section.locator(".notice")).to_be_hidden()
    reply = httpx.post(f"{history.url}/v1/rank", json={"text": "Zebra!"}).json()
    assert (reply["answers"][0]["id"], reply["answers"][0]["pinned"]) == (last, "zebra")
    (ranker_folder / RULES).write_text("# somebody else's\n")
    box.fill("# mine\n")
    save.click()
    expect(section.get_by_text("Somebody else changed that meanwhile")).to_be_visible()
    section.get_by_role("button", name="Try now").click()
    expect(box).to_have_value("# somebody else's\n")
    (ranker_folder / RULES).unlink()


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
    expect(page.locator("#problem .notice")).to_contain_text("No connection to the service")
    page.context.set_offline(False)
    expect(page.locator(".charts").first).to_be_visible()
    expect(page.locator("#problem .notice")).to_be_hidden()


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_it_fits_and_can_be_read_by_all(admin, history, width, scheme):
    seen = admin(width, scheme)
    page = seen.page
    page.get_by_text("Every day as a table").click()
    page.locator(".browse:not(.misses) summary").first.click()
    page.get_by_role("button", name="Edit").click()
    page.locator(".misses > li").first.wait_for()
    page.get_by_role("heading", name="What the ranker learned").wait_for()
    assert (
        page.locator(".scroll").evaluate_all(
            "(all) => all.some((x) => x.scrollWidth > x.clientWidth + 1)"
        )
        is False
    )
    assert seen.too_wide <= 0
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_snapshot()
    assert seen.complaints == []
    assert all(request.startswith(history.url) for request in seen.requests)
