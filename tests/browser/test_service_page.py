"""The page of `twinrank serve` in a real Chromium, against a running service and its database."""

import re

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import QUESTION, ask, ask_and_wait, unfold

pytestmark = pytest.mark.slow

SOLVED = "This one solved it"
SIZES = [(width, scheme) for width in (400, 1600) for scheme in ("light", "dark")]
VAT = {"id": "nw-308", "title": "Add VAT or sales tax to invoices"}
TURNS = [
    "hiya its Carol. wont let me in",
    "Hi Carol, what do you see on the screen?",
    "it wants a code from my phone but the phone went in the dog bath, send me an invoice",
]


def titles(page):
    return page.locator(".answer h3").all_inner_texts()


def change_reply(page, change):
    """Have each reply to a query changed before the page gets it."""

    def fulfil(route):
        reply = route.fetch()
        ranking = reply.json()
        change(ranking)
        route.fulfill(response=reply, json=ranking)

    page.route("**/v1/rank", fulfil)


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
    first.get_by_role("button", name=SOLVED).click()
    expect(first.locator(".good")).to_contain_text("Stored: this one solved it")
    expect(first.get_by_role("button", name=SOLVED)).to_have_attribute("aria-pressed", "true")
    first.get_by_role("button", name="Not right").click()  # second thoughts
    expect(first.locator(".good")).to_contain_text("Stored: not right")
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
    page.locator(".answer").first.get_by_role("button", name=SOLVED).click()
    expect(page.locator(".good")).to_contain_text("Stored: this one solved it")
    stored = service.verdicts()[-1]
    assert stored.type == "conversation"
    assert stored.text == f"User: {TURNS[0]}\nAgent: {TURNS[1]}\nUser: {TURNS[2]}"
    assert seen.complaints == []


def test_what_is_open_and_focused_stays_so_while_the_ranking_changes(visit):
    page = visit().page
    turns = talk(page, ["wont let me in", "where is my invoice"])
    kept = set(next(turns))
    unfold(page)
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
    found = page.locator(".titles").get_by_role("button")
    expect(found).to_have_text(["Add VAT or sales tax to invoices"])
    page.keyboard.press("Tab")
    expect(found).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".good")).to_contain_text("Stored: the right one is “Add VAT")
    expect(found).to_have_attribute("aria-pressed", "true")
    named = service.verdicts()[-1]
    assert named.right
    assert named.answer not in named.shown
    before = len(service.verdicts())
    unknown = page.get_by_role("button", name="I do not know which")
    unknown.click()  # instead
    expect(page.locator(".good")).to_contain_text("Stored: none of these")
    expect(found).to_have_attribute("aria-pressed", "false")
    assert (service.verdicts()[-1].answer, service.verdicts()[-1].right) == (None, False)
    assert len(service.verdicts()) == before
    assert Axe().run(page).violations_count == 0
    unknown.press("Enter")
    expect(page.locator("#none").get_by_text("Taken back.")).to_be_visible()
    expect(unknown).to_be_focused()
    assert len(service.verdicts()) == before - 1


def test_answers_that_are_shown_are_not_offered_as_the_right_one(visit):
    page = visit().page
    change_reply(
        page, lambda ranking: ranking["answers"].__setitem__(0, ranking["answers"][0] | VAT)
    )
    ask_and_wait(page)
    page.get_by_text("None of these is right").click()
    page.get_by_label("The right one is").fill("invoice vat")
    expect(page.locator(".finder .hint")).to_have_text(
        "0 titles have these words, and 1 answer above."
    )
    expect(page.locator(".titles button")).to_have_count(0)


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


def test_of_a_question_one_verdict_says_what_solved_it(visit, service):
    page = visit().page
    change_reply(page, lambda ranking: [a.update(confidence=None) for a in ranking["answers"]])
    ask(page)
    cards = page.locator(".answer")
    expect(cards).to_have_count(5)
    before = len(service.verdicts())
    shown = cards.locator("button.up").evaluate_all("all => all.map((one) => one.dataset.answer)")

    def press(place, name, thanks):
        cards.nth(place).get_by_role("button", name=name).click()
        expect(cards.nth(place).locator(".said")).to_have_text(thanks)
        return [(shown.index(v.answer), v.right) for v in service.verdicts()[before:] if v.answer]

    thanks = "Stored: this one solved it. Thank you."
    assert press(1, "Not right", "Stored: not right. Thank you.") == [(1, False)]
    assert press(0, SOLVED, thanks) == [(1, False), (0, True)]
    assert press(2, SOLVED, thanks) == [(1, False), (2, True)]
    expect(page.locator(".up[aria-pressed=true]")).to_have_count(1)
    page.get_by_text("None of these is right").click()
    page.get_by_role("button", name="I do not know which").click()
    expect(page.locator("#none")).to_contain_text("Stored: none of these")
    expect(page.locator(".up[aria-pressed=true]")).to_have_count(0)
    assert press(1, SOLVED, thanks) == [(1, True)]
    assert None not in [verdict.answer for verdict in service.verdicts()[before:]]
    ask(page, "another question")
    expect(page.locator("#verdict q")).to_have_text("another question")
    expect(page.locator(".up[aria-pressed=true]")).to_have_count(0)
    page.go_back()  # what was said of the first one is still known
    expect(cards.nth(1).get_by_role("button", name=SOLVED)).to_have_attribute(
        "aria-pressed", "true"
    )
    assert press(1, SOLVED, "Taken back.") == []


@pytest.mark.parametrize("fault", [403, 409, "offline"])
def test_after_a_refusal_the_verdicts_are_what_they_were(visit, service, fault):
    page = visit().page
    change_reply(page, lambda ranking: [a.update(confidence=None) for a in ranking["answers"]])
    ask(page)
    first, second = (
        page.locator(".answer").nth(place).get_by_role("button", name=SOLVED) for place in (0, 1)
    )
    before = len(service.verdicts())
    first.click()
    expect(page.locator(".good")).to_have_text("Stored: this one solved it. Thank you.")
    (stored,) = service.verdicts()[before:]

    def refuse(route):
        if route.request.post_data_json["answer"] == stored.answer:
            return route.continue_()
        if fault == "offline":
            return route.abort()
        return route.fulfill(status=fault, json={"detail": "not now"})

    def gives_back(response):
        return response.status == 201 and response.request.post_data_json["answer"] == stored.answer

    page.route("**/v1/feedback", refuse)
    page.clock.install()
    notice = page.locator(".answer .notice")
    with page.expect_response(gives_back):
        second.click()
        for seconds in (3, 6, 12) if fault == "offline" else ():
            expect(notice).to_contain_text(f"Trying again in {seconds} s")
            expect(second).to_have_attribute("aria-pressed", "true")
            page.clock.fast_forward(1000 * seconds)
    expect(notice).to_be_visible()
    expect(notice).not_to_contain_text("Trying again")
    expect(second).to_have_attribute("aria-pressed", "false")
    expect(first).to_have_attribute("aria-pressed", "true")
    assert [verdict.answer for verdict in service.verdicts()[before:]] == [stored.answer]


CLIPBOARD = "navigator.clipboard.readText()"


@pytest.mark.parametrize("is_old", [False, True])
def test_what_goes_into_a_reply_is_copied(visit, is_old):
    """Also over plain http, where a page has no clipboard but that of the selection."""
    page = visit().page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if is_old:
        page.evaluate("navigator.clipboard.writeText = undefined")
    ask(page)
    card = page.locator(".answer").first
    title, link = card.locator("h3").inner_text(), card.locator("h3 a").get_attribute("href")
    sentence = card.locator(".found span:last-child").inner_text()
    for name, text in [
        ("Copy for reply", f"{title}\n{sentence}\n{link}"),
        ("Copy sentence", sentence),
        ("Copy link", link),
    ]:
        button = card.get_by_role("button", name=name)
        place = button.bounding_box()
        button.click()
        copied = card.get_by_role("button", name="Copied")
        expect(copied).to_be_focused()
        assert copied.bounding_box() == pytest.approx(place, abs=1)
        expect(page.locator("#spoken")).to_have_text("Copied.")
        assert page.evaluate(CLIPBOARD) == text
        expect(button).to_be_visible()  # it has its words again


def test_an_answer_without_an_address_has_no_link_to_copy(visit):
    page = visit().page
    change_reply(page, lambda ranking: ranking["answers"][0].update(url="javascript:alert(1)"))
    ask(page)
    card = page.locator(".answer").first
    expect(card.get_by_role("button", name="Copy for reply")).to_be_visible()
    expect(card.get_by_role("button", name="Copy link")).to_have_count(0)


@pytest.mark.parametrize(
    ("confidences", "folded"),
    [([0.6, 0.25, 0.24, 0.1, 0.05], 3), ([0.2, 0.1, 0.1, 0.1, 0.1], 4), ([None] * 5, 0)],
)
def test_unlikely_answers_are_folded_but_never_the_first(visit, confidences, folded):
    page = visit().page

    def change(ranking):
        for answer, confidence in zip(ranking["answers"], confidences, strict=True):
            answer["confidence"] = confidence

    change_reply(page, change)
    ask(page)
    cards = page.locator(".answer")
    expect(cards.filter(visible=True)).to_have_count(5 - folded)
    more = page.locator("#more")
    if not folded:
        return expect(more).to_be_hidden()
    expect(more).to_have_text(f"{folded} more, unlikely")
    expect(more).to_have_attribute("aria-expanded", "false")
    more.press("Enter")
    expect(cards.filter(visible=True)).to_have_count(5)
    expect(more).to_have_attribute("aria-expanded", "true")
    expect(more).to_be_focused()
    more.press("Enter")
    expect(cards.filter(visible=True)).to_have_count(5 - folded)
    return None


def test_what_is_asked_is_in_the_address_and_comes_back(visit, service):
    seen = visit()
    page = seen.page
    asked = ["it wont let me in & again?", "my invoice = wrong #1"]
    rankings = []
    for text in asked:
        ask(page, text)
        expect(page.locator("#verdict q")).to_have_text(text)
        rankings.append(titles(page))
    list(talk(page, TURNS[:2]))
    rankings.append(titles(page))

    def check(page, place):
        last = [*asked, TURNS[1]][place]
        expect(page.locator("#verdict q")).to_have_text(last)
        assert titles(page) == rankings[place]
        if place < 2:
            expect(page.get_by_label("Your question")).to_have_value(last)
        else:
            expect(page.get_by_role("textbox", name="Turn 2")).to_have_value(last)
            expect(page.get_by_label("Who wrote turn 2")).to_have_value("Agent")

    for move, place in [("reload", 2), ("go_back", 1), ("go_back", 0), ("reload", 0)]:
        getattr(page, move)()
        check(page, place)
    page.go_forward()
    check(page, 1)
    page.go_forward()
    check(page, 2)
    colleague = visit(url=page.url).page
    check(colleague, 2)
    page.get_by_role("button", name="Start over").click()
    expect(page.locator("#welcome")).to_be_visible()
    assert page.url == f"{service.url}/"
    assert not [url for url in seen.requests if "?" in url]
    assert seen.complaints == []


def test_a_filter_is_in_the_address_and_one_that_cannot_be_read_is_not_asked(visit, service):
    page = visit(url=f"{service.url}/#text=hi&where=locale%3Dxx").page
    expect(page.locator("#verdict")).to_contain_text("None fits “Only where”")
    box = page.get_by_label("Only where")
    expect(box).to_have_value("locale=xx")  # and it can be seen
    for words in ("locale", "=da", "locale=;"):
        box.fill(words)
        box.press("Enter")
        assert "such as locale = da" in box.evaluate("(box) => box.validationMessage")
    box.fill("")
    box.press("Enter")
    expect(page.locator(".answer")).to_have_count(5)


@pytest.mark.parametrize("hash_", ["#", "#turn=", "#turn=x", "#text=%ZZ", "#nothing=1", "#%00"])
def test_an_address_that_somebody_broke_does_no_harm(visit, service, hash_):
    seen = visit(url=f"{service.url}/{hash_}")
    seen.page.get_by_text("Question", exact=True).click()
    ask(seen.page)
    expect(seen.page.locator(".answer")).to_have_count(5)
    assert seen.complaints == []


def test_the_last_questions_are_on_this_machine_until_they_are_forgotten(visit):
    page = visit().page
    for number in range(9):
        ask(page, f"question {number}")
        expect(page.locator("#verdict q")).to_have_text(f"question {number}")
    recent = page.locator("#recent")
    expect(recent).to_be_hidden()
    page.get_by_label("Your question").fill("")
    expect(recent.get_by_role("link")).to_have_text([f"question {n}" for n in range(8, 0, -1)])
    recent.get_by_role("link", name="question 8").click()  # that of the address
    expect(page.get_by_label("Your question")).to_have_value("question 8")
    page.goto(page.url.split("#")[0])
    recent.get_by_role("link", name="question 3").click()
    expect(page.locator("#verdict q")).to_have_text("question 3")
    expect(recent).to_be_hidden()
    page.get_by_label("Your question").fill("")
    expect(recent.get_by_role("link").first).to_have_text("question 3")
    recent.get_by_role("button", name="Forget these").click()
    expect(page.get_by_label("Your question")).to_be_focused()
    page.reload()
    expect(page.locator("#verdict q")).to_have_text("question 3")
    assert page.evaluate("localStorage.length") == 1  # what the reload asked again
    list(talk(page, TURNS[:2]))
    page.get_by_role("button", name="Start over").click()
    expect(recent.get_by_role("link")).to_have_text([" · ".join(TURNS[:2]), "question 3"])


def test_single_keys(visit, service):
    page = visit().page
    change_reply(page, lambda ranking: [a.update(confidence=0.1) for a in ranking["answers"]])
    field = page.get_by_label("Your question")
    ask(page, "12345 yn/")
    expect(page.locator(".answer")).to_have_count(5)
    page.keyboard.type(" 1y/")
    expect(field).to_have_value("12345 yn/ 1y/")
    expect(page.locator("[aria-pressed=true], .answer [open]")).to_have_count(0)
    cards = page.locator(".answer")
    page.keyboard.press("Escape")
    expect(cards.first).to_be_focused()
    expect(cards.filter(visible=True)).to_have_count(1)
    page.keyboard.press("2")
    expect(cards.nth(1)).to_be_focused()
    expect(cards.nth(1).locator(".whole mark")).to_be_in_viewport()
    before = len(service.verdicts())
    page.keyboard.press("n")
    expect(cards.nth(1).locator(".said")).to_have_text("Stored: not right. Thank you.")
    page.keyboard.press("1")
    page.keyboard.down("y")
    page.keyboard.down("y")  # one key that is held, not two
    expect(cards.first.locator(".said")).to_have_text("Stored: this one solved it. Thank you.")
    assert [verdict.right for verdict in service.verdicts()[before:]] == [False, True]
    page.keyboard.press("Control+2")
    expect(cards.first).to_be_focused()
    page.keyboard.press("/")
    expect(field).to_be_focused()
    expect(field).to_have_value("12345 yn/ 1y/")
    page.get_by_text("Options").click()
    page.get_by_label("Single keys").uncheck()
    page.reload()
    expect(cards).to_have_count(5)
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    expect(page.locator(".answer [open]")).to_have_count(0)


ARTICLE = {
    "text": "",
    "sections": [
        {"title": "", "text": "Before. See (https://a.example/x_(y)?z=1#top). javascript:alert(1)"},
        {
            "title": "Steps",
            "text": "1. First.\n2. Open the <b>menu</b>. Then wait.\n- a\n* b\n\nPlan | Price\n"
            "Small | 3\nLarge | 9\nAny | thing | else",
        },
    ],
}


def test_a_whole_answer_has_headings_lists_tables_and_links(visit):
    page = visit().page
    best = {"section": "Steps", "sentence": "2. Open the <b>menu</b>."}
    change_reply(page, lambda ranking: ranking["answers"][0].update(best))
    page.route("**/v1/answers/*", lambda route: route.fulfill(json=ARTICLE))
    ask(page)
    page.get_by_text("Whole answer").first.click()
    whole = page.locator(".whole").first
    expect(whole.locator("h4")).to_have_text("Steps")
    expect(whole.locator("ol > li")).to_have_text(["First.", "Open the <b>menu</b>. Then wait."])
    expect(whole.locator("ol mark")).to_have_text("Open the <b>menu</b>.")
    expect(whole.locator("mark")).to_have_count(1)
    expect(whole.locator("ul > li")).to_have_text(["a", "b"])
    expect(whole.locator("table tr").nth(1).locator("td")).to_have_text(["Small", "3"])
    expect(whole.locator("table tr")).to_have_count(3)
    expect(whole.locator("p").last).to_have_text("Any | thing | else")
    link = whole.get_by_role("link")
    expect(link).to_have_attribute("href", "https://a.example/x_(y)?z=1#top")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    assert Axe().run(page).violations_count == 0


def test_what_an_agent_reads_has_no_library_words(visit):
    page = visit().page
    detail = "turns: List should have at most 200 items after validation, not 201"
    page.route("**/v1/rank", lambda route: route.fulfill(status=422, json={"detail": detail}))
    ask(page)
    expect(page.locator(".notice")).to_contain_text("Turns: more than 200 items; leave some out.")


def test_an_answer_is_opened_at_its_sentence_and_explained(visit):
    page = visit().page
    ask(page)
    card = page.locator(".answer").first
    sentence = card.locator(".found span:last-child").inner_text()
    card.get_by_text("Whole answer").click()
    expect(card.locator(".whole mark")).to_have_text(sentence)
    assert len(card.locator(".whole").inner_text()) > len(sentence)
    card.get_by_text("Why this").click()
    expect(card.locator(".channel").first).to_contain_text("Meaning")
    expect(card.locator(".channel")).to_have_count(5)
    expect(card.locator(".channel").first).to_have_attribute("title", re.compile(r"^\d+\.\d\d; on"))
    expect(card.locator(".panel").last).not_to_contain_text(re.compile(r"\d\.\d"))
    past = card.locator(".past li")
    expect(past.first).to_contain_text("ike yours")
    assert past.locator("blockquote").count() == 0  # what others wrote
    expect(card).to_contain_text("What people wrote is not shown here.")
    meter = card.get_by_role("meter", name="Confidence")
    assert 0 <= float(meter.get_attribute("value")) <= 1


def test_a_pinned_answer_is_said_to_be_pinned_and_not_to_be_likely(visit):
    page = visit().page
    change_reply(
        page, lambda ranking: ranking["answers"][0].update(pinned="let me in", confidence=1)
    )
    ask(page)
    expect(page.locator(".answer").first).to_contain_text("Pinned for “let me in”")
    expect(page.locator(".answer").first.get_by_role("meter", name="Confidence")).to_have_count(0)


def test_it_says_so_when_it_is_not_sure(visit):
    page = visit().page
    change_reply(page, lambda ranking: ranking.update(confidence=0.2))
    ask(page)
    expect(page.get_by_role("heading", name="Not sure about these")).to_be_visible()
    expect(page.locator(".answer")).to_have_count(5)


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
    expect(page.locator(".answer .good")).to_be_visible()
    for button in page.locator(".thumb").filter(visible=True).all():
        expect(button).to_have_text(re.compile("solved it|Not right"))  # on a phone, too
    unfold(page)
    page.get_by_text("Options").click()
    page.get_by_text("None of these is right").click()
    expect(page.get_by_label("The right one is")).to_be_focused()  # keys go there from now on
    page.keyboard.type("invoice")
    page.locator(".titles button").first.wait_for()
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
