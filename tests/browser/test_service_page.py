"""The page of `twinrank serve` in a real Chromium, against a running service and its database."""

import re

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import QUESTION, ask, ask_and_wait

pytestmark = pytest.mark.slow

SIZES = [(width, scheme) for width in (400, 1600) for scheme in ("light", "dark")]
TURNS = [
    "hiya its Carol. wont let me in",
    "Hi Carol, what do you see on the screen?",
    "it wants a code from my phone but the phone went in the dog bath, send me an invoice",
]


def titles(page):
    return page.locator(".answer h3").all_inner_texts()


def talk(page, turns):
    """Write turns; a ranking follows each."""
    page.get_by_text("Conversation", exact=True).click()
    for number, text in enumerate(turns, start=1):
        if number > 1:
            page.get_by_role("textbox", name=f"Turn {number - 1}").press("Enter")
        with page.expect_response("**/v1/rank"):
            page.get_by_role("textbox", name=f"Turn {number}").fill(text)
        expect(page.locator("#verdict q")).to_have_text(text)
        yield titles(page)


def test_a_question_is_ranked_and_judged_and_the_verdict_is_stored(visit, service):
    seen = visit()
    page = seen.page
    ask(page)
    expect(page.locator(".answer")).to_have_count(5)
    before = len(service.verdicts())
    first = page.locator(".answer").first
    first.get_by_role("button", name="Right").click()
    expect(first.locator(".good")).to_contain_text("Stored as right")
    expect(first.get_by_role("button", name="Right")).to_have_attribute("aria-pressed", "true")
    first.get_by_role("button", name="Wrong").click()  # second thoughts
    expect(first.locator(".good")).to_contain_text("Stored as wrong")
    (down,) = service.verdicts()[before:]
    assert (down.text, down.type, down.right) == (QUESTION, "question", False)
    assert down.answer == down.shown[0]
    assert len(down.shown) == 5
    assert down.ranker
    assert seen.complaints == []
    assert all(request.startswith(service.url) for request in seen.requests)


def test_a_filter_asks_for_answers_with_this_metadata(visit, service):
    for id_, metadata in (("a", {"brand": ["acme", "x"]}), ("b", {"brand": "globex"})):
        body = {"title": f"Hangar {id_}", "metadata": {**metadata, "locale": "da"}}
        httpx.put(f"{service.url}/v1/answers/{id_}", json=body).raise_for_status()
    page = visit().page
    try:
        ask(page)
        expect(page.locator(".answer")).to_have_count(5)
        page.get_by_text("Options").click()
        for words, shown in [
            (" brand = other, acme;", ["Hangar a"]),
            ("locale=da; brand=globex", ["Hangar b"]),
            ("locale=en", []),
        ]:
            page.get_by_label("Only where").fill(words)
            page.get_by_label("Only where").press("Enter")
            expect(page.locator(".answer h3")).to_have_text(shown)
        expect(page.locator("#verdict")).to_contain_text("None fits “Only where”")
    finally:
        for id_ in "ab":
            httpx.delete(f"{service.url}/v1/answers/{id_}")


def test_the_ranking_follows_a_conversation_turn_by_turn(visit, service):
    seen = visit()
    page = seen.page
    rankings = list(talk(page, TURNS))
    assert len({tuple(ranking) for ranking in rankings}) > 1
    for place, title in enumerate(rankings[2]):
        mark = page.locator(".answer").nth(place).locator(".moved")
        if title not in rankings[1]:
            expect(mark).to_have_text("new")
        elif (by := rankings[1].index(title) - place) != 0:
            expect(mark.locator(".unseen")).to_have_text(
                re.compile(f"^{'up' if by > 0 else 'down'}")
            )
        else:
            expect(mark).to_have_count(0)
    page.locator(".answer").first.get_by_role("button", name="Right").click()
    expect(page.locator(".good")).to_contain_text("Stored as right")
    stored = service.verdicts()[-1]
    assert stored.type == "conversation"
    assert stored.text == f"User: {TURNS[0]}\nAgent: {TURNS[1]}\nUser: {TURNS[2]}"
    assert seen.complaints == []


def test_what_is_open_and_focused_stays_so_while_the_ranking_changes(visit):
    page = visit().page
    turns = talk(page, ["wont let me in", "where is my invoice"])
    kept = set(next(turns))
    for why in page.get_by_text("Why this").all():
        why.click()
    kept &= set(next(turns))
    assert page.get_by_role("textbox", name="Turn 2").evaluate("e => e === document.activeElement")
    assert page.locator(".acts > details[open]").count() == len(kept) > 0


def test_a_pasted_transcript_becomes_turns(visit):
    page = visit().page
    page.get_by_text("Conversation", exact=True).click()
    text = "User: hello\nError: it says no\n\nSupport bot: which page?\nUser: all of them"
    page.get_by_role("textbox", name="Turn 1").evaluate(
        """(box, text) => {
          const data = new DataTransfer();
          data.setData("text/plain", text);
          const given = { clipboardData: data, bubbles: true, cancelable: true };
          box.dispatchEvent(new ClipboardEvent("paste", given));
        }""",
        text.replace("Support bot", "Agent"),
    )
    expect(page.get_by_role("textbox")).to_have_count(3)
    expect(page.get_by_role("textbox", name="Turn 1")).to_have_value("hello\nError: it says no")
    expect(page.get_by_label("Who wrote turn 2")).to_have_value("Agent")
    expect(page.locator(".answer")).to_have_count(5)
    read = "text => import('/static/conversation.js').then((module) => module.turnsOf(text))"
    twice = text + "\nSupport bot: thanks"
    assert [turn["role"] for turn in page.evaluate(read, twice)][1:3] == ["Support bot", "User"]
    assert page.evaluate(read, "it says: no\nreally: no") is not None
    assert page.evaluate(read, "no label\nUser: hello") is None


def test_none_of_these_by_keyboard(visit, service):
    page = visit().page
    ask(page)
    page.locator("summary", has_text="None of these is right").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("searchbox", name="The right one is")).to_be_focused()
    page.keyboard.type("invoice vat")
    titles = page.get_by_role("listbox", name="Titles")
    expect(titles.get_by_role("option")).to_have_text(["Add VAT or sales tax to invoices"])
    page.keyboard.press("Tab")
    expect(titles).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(titles.get_by_role("option", selected=True)).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Store it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".good")).to_contain_text("Stored: the right one is “Add VAT")
    ask_and_wait(page)
    page.get_by_text("None of these is right").click()
    page.get_by_role("button", name="I do not know which").click()
    expect(page.locator(".good")).to_contain_text("Stored: none of these")
    named, unknown = service.verdicts()[-2:]
    assert named.right
    assert named.answer not in named.shown
    assert (unknown.answer, unknown.right) == (None, False)


@pytest.mark.parametrize("withheld", [False, True])
def test_which_is_meant_is_chosen_and_changed(visit, service, withheld):
    def reply_with_options(route):
        reply = route.fetch()
        ranking = reply.json()
        kept = ("id", "title", "url", "confidence")
        options = [{name: a[name] for name in kept} for a in ranking["answers"][1:4]]
        ranking["ask"] = [option | {"terms": ["phone", "<b>"]} for option in options]
        ranking |= {"answers": [], "withheld": True} if withheld else {}
        route.fulfill(response=reply, json=ranking)

    seen = visit(width=400)
    page = seen.page
    page.route("**/v1/rank", reply_with_options)
    ask_and_wait(page)
    expect(page.locator("#verdict h2")).to_have_text("Which of these is meant?")
    options = page.get_by_role("group", name="Which of these is meant?").get_by_role("button")
    expect(options).to_have_count(3)
    expect(options.first).to_contain_text("phone, <b>")
    assert Axe().run(page).violations_count == 0
    assert seen.too_wide <= 0
    before = len(service.verdicts())
    for number in (0, 1):  # second thoughts
        title = options.nth(number).locator("b").inner_text()
        options.nth(number).click()
        expect(page.locator("#verdict .good")).to_have_text(
            f"Stored: “{title}” is meant. Thank you."
        )
        expect(options.nth(number)).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#verdict .text").first).to_be_visible()
    expect(options.first).to_have_attribute("aria-pressed", "false")
    (stored,) = service.verdicts()[before:]
    assert (stored.right, stored.answer in stored.shown) == (True, True)
    assert len(stored.shown) == (3 if withheld else 5)
    options.nth(1).click()
    expect(page.locator("#verdict")).to_contain_text("Taken back.")
    assert len(service.verdicts()) == before
    assert seen.complaints == []


def test_none_of_these_is_undone_and_can_be_said_otherwise(visit, service):
    page = visit().page
    ask(page)
    before = len(service.verdicts())
    page.get_by_text("None of these is right").click()
    page.get_by_role("button", name="I do not know which").click()
    expect(page.locator(".good")).to_contain_text("Stored: none of these")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    assert Axe().run(page).violations_count == 0
    page.keyboard.press("Enter")
    expect(page.locator("#none").get_by_text("Taken back.")).to_be_visible()
    expect(page.locator("summary", has_text="None of these is right")).to_be_focused()
    assert len(service.verdicts()) == before
    page.get_by_role("button", name="I do not know which").click()
    expect(page.locator(".good")).to_contain_text("Stored: none of these")
    assert len(service.verdicts()) == before + 1


def test_an_answer_is_opened_at_its_sentence_and_explained(visit):
    page = visit().page
    ask(page)
    card = page.locator(".answer").first
    sentence = card.locator(".found mark").inner_text()
    card.get_by_text("Whole answer").click()
    expect(card.locator(".whole mark")).to_have_text(sentence)
    assert len(card.locator(".whole").inner_text()) > len(sentence)
    card.get_by_text("Why this").click()
    expect(card.locator(".channel").first).to_contain_text("Meaning")
    parts = [float(value) for value in card.locator(".value:not(.soft)").all_inner_texts()]
    assert len(parts) == 5
    past = card.locator(".past li")
    expect(past.first).to_contain_text(re.compile(r"Similarity [01]\.\d\d"))
    assert past.locator("blockquote").count() == 0  # what others wrote
    expect(card).to_contain_text("What people wrote is not shown here.")
    meter = card.get_by_role("meter", name="Confidence")
    assert 0 <= float(meter.get_attribute("value")) <= 1


def test_it_says_so_when_it_is_not_sure(visit):
    page = visit().page

    def unsure(route):
        reply = route.fetch()
        said = reply.json() | {"confidence": 0.2}
        route.fulfill(response=reply, json=said)

    page.route("**/v1/rank", unsure)
    ask(page)
    expect(page.get_by_role("heading", name="Not sure about these")).to_be_visible()
    expect(page.locator(".answer")).to_have_count(5)
    page.unroute("**/v1/rank")
    page.get_by_text("Options").click()
    page.get_by_label("Only if at least").select_option("0.9")
    expect(page.get_by_role("heading", name="Nothing sure enough to show")).to_be_visible()
    expect(page.locator(".answer")).to_have_count(0)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_it_fits_and_can_be_read_by_all(visit, service, width, scheme):
    seen = visit(width, scheme)
    page = seen.page

    def check():
        assert seen.too_wide <= 0
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_snapshot()

    check()
    ask(page)
    for name in ("Why this", "Whole answer"):
        page.get_by_text(name).first.click()
    page.locator(".thumb.up").first.click()
    page.get_by_text("Options").click()
    page.get_by_text("None of these is right").click()
    expect(page.get_by_label("The right one is")).to_be_focused()  # keys go there from now on
    page.keyboard.type("invoice")
    page.get_by_role("listbox").get_by_role("option").first.wait_for()
    page.locator(".whole mark").first.wait_for()
    check()
    list(talk(page, TURNS[:2]))
    check()
    page.route("**/v1/rank", lambda route: route.fulfill(status=503, json={"detail": ""}))
    page.get_by_role("textbox", name="Turn 2").fill("Hm.")
    page.locator(".notice").wait_for()
    check()
    assert all(request.startswith(service.url) for request in seen.requests)


@pytest.mark.parametrize("name", ["", "admin"])
def test_a_page_is_light_and_made_of_few_modules(visit, service, name):
    page = visit().page
    urls = set()
    page.on("response", lambda reply: urls.add(reply.url))
    page.goto(f"{service.url}/{name}", wait_until="networkidle")
    files = {url for url in urls if "/v1/" not in url}
    sizes = [len(page.request.get(url).body()) for url in files]
    assert 0 < sum(sizes) < 62_000  # bytes, before any compression
    assert 0 < sum(url.endswith(".js") for url in files) <= 5
