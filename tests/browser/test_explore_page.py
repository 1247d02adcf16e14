"""The page of `twinrank explore`, of data in which people wrote HTML, in a real browser."""

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe

from twinrank.data import Dataset
from twinrank.encoding import Encoder
from twinrank.exploration import explore
from twinrank.files import write_file
from twinrank.reports.exploration_report import exploration_page

pytestmark = pytest.mark.slow

SCRIPT = "<script>window.pwned = 1</script> <img src=x onerror='window.pwned = 1'>"
SIZES = [(width, scheme) for width in (400, 1600) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def file(help_centre, tiny_model, tmp_path_factory):
    nasty = pl.concat_str(pl.lit(f"{SCRIPT} "), "text")
    kind = pl.when(pl.col("type") == "question").then(pl.lit("<b>question</b>")).otherwise("type")
    data = Dataset(
        name=f"help {SCRIPT}",
        answers=help_centre.answers.with_columns(title=pl.lit(f"{SCRIPT} ") + pl.col("title")),
        queries=help_centre.queries.with_columns(text=nasty, type=kind),
        labels=help_centre.labels,
    )
    found = explore(data, Encoder(str(tiny_model), max_tokens=32, precision="fp32"))
    return write_file(tmp_path_factory.mktemp("explore") / "explore.html", exploration_page(found))


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_it_draws_fits_and_can_be_read_by_all(look, file, width, scheme):
    opened = look(file, width, scheme)
    assert opened.complaints == []
    assert opened.requests == [file.as_uri()]
    assert opened.page.locator(".plot .main-svg").count() >= 1
    opened.page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert opened.too_wide <= 0
    found = Axe().run(opened.page)
    assert found.violations_count == 0, found.generate_snapshot()


def test_what_people_wrote_is_text_in_the_page_and_on_hover(look, file):
    opened = look(file, 1600)
    page = opened.page
    plane = page.locator("figure", has_text="two main axes").locator(".plot")
    plane.scroll_into_view_if_needed()
    point = plane.locator(".points path").first.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    shown = plane.locator(".hoverlayer .hovertext")
    shown.first.wait_for()
    assert "<script>window.pwned" in shown.first.text_content()
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert SCRIPT in page.locator("h1").inner_text()
    assert "<script>window.pwned" in page.locator("details td").first.inner_text()
    assert "<b>question</b>" in page.locator("main").inner_text()
    assert page.evaluate("window.pwned") is None
    assert opened.complaints == []
