"""What goes wrong, said kindly and mended by itself; what people wrote, shown as text."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import ask, ask_and_wait, unfold
from tests.serving_help import serving

pytestmark = pytest.mark.slow

SCRIPT = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"

FAULTS = {
    429: ("That was a lot in a short time", True),
    503: ("The service is busy right now", True),
    500: ("Something went wrong in the service", False),
    422: ("The service could not work with that", False),
}


@pytest.mark.parametrize("status", FAULTS)
def test_errors_are_said_kindly_and_what_passes_is_tried_again(visit, status):
    title, passes = FAULTS[status]
    seen = visit()
    page = seen.page
    body = json.dumps({"detail": "shorten it"})
    refusal = {"status": status, "body": body, "headers": {"Retry-After": "2"} if passes else {}}
    page.route("**/v1/rank", lambda route: route.fulfill(**refusal))  # until it was seen
    ask(page)
    notice = page.locator(".notice")
    expect(notice).to_contain_text(title)
    expect(page.locator("#spoken")).to_contain_text(title)
    if passes:
        expect(notice).to_contain_text("Trying again in 2 s")
    elif status == 422:
        expect(notice).to_contain_text("Shorten it.")
    page.unroute("**/v1/rank")
    if status == 500:
        notice.get_by_role("button", name="Try now").click()
    elif status == 422:
        ask(page, "shorter")
    expect(page.locator(".answer")).to_have_count(5)
    expect(notice).to_be_hidden()
    assert seen.complaints  # the browser's own lines on the status
    assert all(f"{status}" in line for line in seen.complaints)


def test_offline_it_waits_and_goes_on_by_itself(visit):
    page = visit().page
    page.context.set_offline(True)
    ask(page)
    expect(page.locator(".notice")).to_contain_text("No connection to the service")
    page.context.set_offline(False)
    expect(page.locator(".answer")).to_have_count(5)


def test_a_verdict_whose_reply_was_lost_is_stored_once(visit, service):
    page = visit().page
    keys = []

    def lose(route):
        keys.append(route.request.post_data_json["key"])
        if len(keys) > 1:
            return route.continue_()
        route.fetch()  # it arrives, and the reply does not
        return route.abort()

    page.route("**/v1/feedback", lose)
    ask_and_wait(page)
    unfold(page)
    page.locator(".answer").nth(1).get_by_role("button", name="Not right").click()
    expect(page.locator(".good")).to_contain_text("Stored: not right")  # it was tried again
    assert len(keys) == 2
    assert [verdict.key for verdict in service.verdicts()].count(keys[0]) == 1
    assert keys[0] == keys[1]


@pytest.mark.parametrize(("arrives", "other"), [(True, False), (False, True)])
def test_second_thoughts_about_a_verdict_whose_reply_was_lost(visit, service, arrives, other):
    """Whether it arrived is not known: it is taken back all the same, before another is stored."""
    page = visit().page

    def lose(route):
        if arrives:
            route.fetch()
        return route.abort()

    ask(page)
    before = len(service.verdicts())
    first = page.locator(".answer").first
    page.route("**/v1/feedback", lose, times=1)
    with page.expect_event("requestfailed"):  # soon after, the page tries again by itself
        first.get_by_role("button", name="This one solved it").click()
    first.get_by_role("button", name="Not right" if other else "This one solved it").click()
    said = "Stored: not right. Thank you." if other else "Taken back."
    expect(first.locator(".said")).to_have_text(said)
    kept = [verdict.right for verdict in service.verdicts()[before:]]
    assert kept == ([False] if other else [])


def test_a_verdict_that_is_refused_lets_go_of_its_thumb_and_can_be_sent_again(visit):
    seen = visit()
    page = seen.page
    ask(page)
    first = page.locator(".answer").first
    page.route("**/v1/feedback", lambda route: route.fulfill(status=422, json={"detail": "no"}))
    first.get_by_role("button", name="This one solved it").click()
    expect(first.locator(".notice")).to_contain_text("could not work with that")
    thumb = first.get_by_role("button", name="This one solved it")
    expect(thumb).to_have_attribute("aria-pressed", "false")
    page.unroute("**/v1/feedback")
    thumb.click()
    expect(first.locator(".said")).to_have_text("Stored: this one solved it. Thank you.")
    assert not [url for url in seen.requests if "/v1/feedback/" in url]


def test_a_slow_reply_never_replaces_a_newer_one(visit):
    page = visit().page
    held = []

    def hold(route):
        held.append(route)

    page.route("**/v1/rank", hold, times=1)
    with page.expect_event("requestfailed"):
        ask(page, "an old question")
        ask(page, "a new question")
    expect(page.locator("#verdict q")).to_have_text("a new question")
    assert len(held) == 1


def test_a_key_is_asked_for_and_one_that_may_only_read_is_told_so(visit, ranker_folder, tmp_path):
    read, write = "r" * 20, "w" * 20
    (tmp_path / "keys").write_text(f"read {read}\nwrite {write}\n")
    with serving(ranker_folder, tmp_path / "f.db", "--keys", str(tmp_path / "keys")) as guarded:
        page = visit(url=f"{guarded.url}/").page

        def give(key):
            page.get_by_label("Key", exact=True).fill(key)
            page.keyboard.press("Enter")

        ask(page)
        expect(page.get_by_role("dialog")).to_contain_text("This service asks for a key")
        assert Axe().run(page).violations_count == 0
        give("wrong" * 5)
        expect(page.get_by_role("dialog")).to_contain_text("That key was not accepted")
        give(read)
        expect(page.locator(".answer")).to_have_count(5)
        page.locator(".answer").first.get_by_role("button", name="This one solved it").click()
        expect(page.locator(".notice")).to_contain_text("This key may only read")
        right = page.locator(".answer").first.get_by_role("button", name="This one solved it")
        expect(right).to_have_attribute("aria-pressed", "false")
        page.set_viewport_size({"width": 390, "height": 800})
        for part in page.locator(".top :is(.name, nav a, button)").all():
            assert part.bounding_box()["height"] < 60, part.inner_text()  # no letter under another
        page.set_viewport_size({"width": 1200, "height": 900})
        page.get_by_role("button", name="Give another key").click()
        give(write)
        expect(page.locator(".good")).to_contain_text("Stored: this one solved it")
        expect(right).to_have_attribute("aria-pressed", "true")
        assert len(guarded.verdicts()) == 1
        with page.expect_event("load"):
            page.get_by_role("button", name="Forget the key").click()
        assert page.evaluate("sessionStorage.length") == 0


def test_what_people_wrote_is_text(visit):
    seen = visit()
    page = seen.page

    def nasty(route):
        reply = route.fetch()
        said = reply.json()
        said["answers"][0] |= {
            "title": SCRIPT,
            "url": "javascript:window.pwned=1",
            "section": SCRIPT,
            "sentence": SCRIPT,
            "channels": {SCRIPT: 1.0},
            "past_queries": [{"text": SCRIPT, "similarity": 0.5}],
        }
        route.fulfill(response=reply, json=said)

    def hostile(route):
        answer = {"id": "x", "title": SCRIPT, "text": f"Before. {SCRIPT} After.", "sections": []}
        route.fulfill(json=answer)

    page.route("**/v1/rank", nasty)
    page.route("**/v1/answers/*", hostile)
    ask(page, SCRIPT)
    card = page.locator(".answer").first
    expect(card.locator("h3")).to_have_text(SCRIPT)
    assert card.locator("a").count() == 0
    card.get_by_text("Why this").click()
    card.get_by_text("Whole answer").click()
    expect(card.locator(".whole mark")).to_have_text(SCRIPT)
    expect(card.locator("blockquote").first).to_have_text(SCRIPT)
    expect(page.locator("#verdict q")).to_have_text(SCRIPT)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main script").count() == 0
    assert seen.complaints == []
