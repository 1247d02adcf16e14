"""What every page promises, in a real browser."""

import plotly.graph_objects as go
import pytest
from playwright.sync_api import expect
from plotly.subplots import make_subplots

from twinrank.exploration.findings import Finding
from twinrank.reports.page import Section, page

pytestmark = pytest.mark.slow

LOOK = """
() => {
  const all = (what) => [...document.querySelectorAll(what)];
  return {
    drawn: all(".plot").filter((plot) => plot.querySelector(".main-svg")).length,
    tops: all(".plot .nsewdrag").map((panel) => Math.round(panel.getBoundingClientRect().top)),
    hover: all(".plot")[0].data[0].hovertext,
    buttons: all(".modebar-btn").map((button) => button.dataset.title),
    inner: window.innerWidth,
  };
}
"""
TILE = ("top-3", ".683 (.597-.769)")
INK = "getComputedStyle(document.querySelector('.plot text')).fill"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    two = make_subplots(rows=1, cols=2, subplot_titles=["left", "right"])
    for col in (1, 2):
        two.add_trace(go.Scatter(y=[1, 2], hovertext=["a<br>b", "b"], name="x" * 40), 1, col)
    bars = go.Figure().add_bar(x=[1, 2], y=["one", "two"], orientation="h")
    rows = [["a long head of a column"] * 12, *[["a cell that is rather wide"] * 12] * 3]
    folded = [["head", "text"], ["1", "Two lines,\nas written. " + "Words. " * 60]]
    found = [Finding("topic", level, "Found.", "Do `this`.", {}) for level in ("mend", "know")]
    sections = [
        Section("Figures", ["Words. " * 40], [(two, "two panels"), (bars, "bars")], tiles=[TILE]),
        Section("A" * 80, tables=[("a wide table", rows)]),
        Section("Notes", notes=[(note, "Figures") for note in found], folded=[("Open me", folded)]),
    ]
    file = tmp_path_factory.mktemp("pages") / "page.html"
    file.write_text(page("A page", sections), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [390, 1280])
def test_figures_come_first_and_no_table_is_cut_off(look, file, width):
    page = look(file, width).page
    page.get_by_text("Open me").click()
    cut = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    assert page.locator(".scroll").evaluate_all(cut) == 0
    order = "(all) => all.map((one) => one.localName)"
    inside = page.locator("#part-1 > :is(dl, figure, p)").evaluate_all(order)
    assert inside == ["dl", "figure", "figure", "p"]
    assert page.locator("dd").inner_text() == ".683 (.597-.769)"
    page.locator("#part-3").scroll_into_view_if_needed()
    assert page.locator("nav").bounding_box()["y"] >= 0 if width > 1200 else True


@pytest.mark.parametrize("width", [400, 1600])
def test_it_draws_without_a_complaint_and_fits(look, file, width):
    opened = look(file, width)
    seen = opened.page.evaluate(LOOK)
    assert opened.complaints == []
    assert opened.requests == [file.as_uri()]
    assert seen["inner"] == width
    assert seen["drawn"] == 2
    assert opened.too_wide <= 0
    assert seen["hover"] == ["a<br>b", "b"]
    left, right = seen["tops"][:2]
    assert (left < right) if width < 720 else (left == right)


def test_no_button_uploads_what_people_wrote(look, file):
    buttons = look(file).page.evaluate(LOOK)["buttons"]
    assert "Download plot" in buttons
    assert not [title for title in buttons if "share" in title.lower() or "cloud" in title.lower()]


def test_figures_are_read_on_light_and_on_dark(look, file):
    inks = [look(file, scheme=scheme).page.evaluate(INK) for scheme in ("light", "dark")]
    assert inks == ["rgb(28, 30, 33)", "rgb(228, 230, 233)"]


def test_a_folded_table_opens_by_keyboard_and_keeps_its_lines(look, file):
    opened = look(file, 400)
    cell = opened.page.locator("details td")
    assert not cell.is_visible()
    opened.page.get_by_text("Open me").focus()
    opened.page.keyboard.press("Enter")
    expect(cell).to_be_visible()
    assert cell.inner_text().startswith("Two lines,\nas written.")
    assert opened.too_wide <= 0


def test_a_note_leads_to_its_section_and_focus_is_seen(look, file):
    page = look(file).page
    link = page.locator(".notes a").first
    assert link.get_attribute("href") == "#part-1"
    assert page.locator(".notes .do code").first.inner_text() == "this"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
