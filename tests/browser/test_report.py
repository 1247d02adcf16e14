"""The page of runs in a real Chromium, opened from disk."""

from collections import Counter

import polars as pl
import pytest

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.experiments import examine
from twinrank.reports.run_report import write_report
from twinrank.training import train

pytestmark = pytest.mark.slow

TAG = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"

# The contrast of every text with what is behind it, by WCAG 2.2's formula; the least of all.
CONTRAST = """() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const [r, g, b, a] = parse(getComputedStyle(e).backgroundColor);
      if (a === undefined || a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const texts = document.querySelectorAll(
    "h1, h2, p, a, th, td, caption span, figcaption, summary, .plot text");
  return Math.min(...[...texts].filter((e) => e.textContent.trim()).map((e) => {
    const style = getComputedStyle(e);
    const ink = parse(e instanceof SVGElement ? style.fill : style.color);
    const [high, low] = [light(ink), light(behind(e))].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  }));
}"""
UNNAMED = """() => [...document.querySelectorAll("[role=region], figure, section, nav, table")]
  .filter((e) => !e.getAttribute("aria-label") && !e.querySelector(":scope > caption")
    && !document.getElementById(e.getAttribute("aria-labelledby"))?.textContent.trim())
  .map((e) => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def files(recipes, help_centre, tmp_path_factory):
    """A page of one run and a page of three, on data whose queries hold a script tag."""
    home = tmp_path_factory.mktemp("report")
    tagged = pl.lit(TAG + " ") + pl.col("text")
    Dataset(
        name="data",
        answers=help_centre.answers.with_columns(title=pl.col("title") + pl.lit(" <b>&")),
        queries=help_centre.queries.with_columns(text=tagged),
        labels=help_centre.labels,
    ).save(home / "data")
    data = Dataset.load(home / "data")
    names = ("towers", "fused", "bm25")
    for name in names:
        train(data, recipes[name], out=home / name, store=FeatureStore())
    write_report(examine([home / "towers"], store=FeatureStore()), home / "one.html")
    folders = [home / name for name in names]
    write_report(examine(folders, store=FeatureStore()), home / "several.html")
    return {"one": home / "one.html", "several": home / "several.html"}


@pytest.fixture
def opened(look):
    """Opens a file; gives the page, and what it complained of or asked for."""

    def open_(file, width=1600, scheme="light"):
        seen = look(file, width, scheme)
        others = (url for url in seen.requests if url not in (file.as_uri(), "data:,"))
        return seen.page, [*seen.complaints, *others]

    return open_


@pytest.mark.parametrize("which", ["one", "several"])
@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1600, "dark")])
def test_it_opens_from_disk_draws_and_fits(opened, files, which, width, scheme):
    page, heard = opened(files[which], width, scheme)
    assert heard == []
    plots = page.locator(".plot").count()
    assert plots == {"one": 5, "several": 7}[which]
    assert page.locator(".plot .main-svg").count() >= plots
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    assert page.evaluate(CONTRAST) >= 4.5


def test_what_people_wrote_shows_as_text(opened, files):
    page, _ = opened(files["one"])
    assert page.title() == "towers on data"
    assert page.locator("main img, main script, main td b").count() == 0
    assert page.get_by_text(TAG).count() > 0


def test_hovering_a_miss_shows_its_text(opened, files):
    page, _ = opened(files["one"])
    section = page.locator("section", has=page.get_by_role("heading", name="The worst misses"))
    section.locator(".point").first.hover(force=True)
    label = section.locator(".hoverlayer .hovertext")
    label.wait_for()
    assert "right:" in label.text_content()
    assert "<script>" in label.text_content()
    assert page.title() == "towers on data"


def test_a_long_text_opens_by_keyboard(opened, files):
    page, _ = opened(files["one"], 400)
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1


def test_what_a_screen_reader_needs_is_there(opened, files):
    page, _ = opened(files["several"])
    assert page.evaluate(UNNAMED) == []
    assert page.locator("html[lang=en]").count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    empty = (
        page.locator("th")
        .filter(has_not_text=".")
        .evaluate_all("heads => heads.filter((e) => !e.textContent.trim()).length")
    )
    assert empty == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert max(Counter(ids).values()) == 1
    for _ in range(3):  # past the contents' links by Tab
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "A"


def test_a_narrow_table_keeps_its_meaning_for_readers(opened, files):
    page, _ = opened(files["one"], 400)
    table = page.get_by_role("table", name="The highest loss")
    assert table.get_by_role("row").count() == 11
    assert table.get_by_role("cell").count() > 0
