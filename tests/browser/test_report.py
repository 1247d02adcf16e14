"""The page of runs in a real Chromium, opened from disk."""

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.experiments import examine
from twinrank.files import write_file
from twinrank.reports.run_report import run_page
from twinrank.training import train

pytestmark = pytest.mark.slow

TAG = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"


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
    one = examine([home / "towers"], store=FeatureStore())
    write_file(home / "one.html", run_page(one))
    folders = [home / name for name in names]
    write_file(home / "several.html", run_page(examine(folders, store=FeatureStore())))
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
    assert plots == 3
    assert page.locator(".plot .main-svg").count() >= plots
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.title().endswith(" on data")
    assert page.locator("main img, main script, main td b").count() == 0


def test_hovering_a_centroid_shows_a_text(opened, files):
    page, _ = opened(files["one"])
    section = page.locator("section", has=page.get_by_role("heading", name="Geometry"))
    section.locator(".point").first.hover(force=True)
    label = section.locator(".hoverlayer .hovertext")
    label.wait_for()
    assert "<script>" in label.text_content()
    assert page.title() == "towers on data"
