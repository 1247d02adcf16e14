"""Pages in a real Chromium, driven through chromedriver; skipped where there is none."""

import json
import re
import shutil
import subprocess
import urllib.request

import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from twinrank.report.page import Section, page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium with chromedriver is installed"
)
LOOK = """
const all = (what) => [...document.querySelectorAll(what)];
return {
  drawn: all(".plot").filter((plot) => plot.querySelector(".main-svg")).length,
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  tops: all(".plot .nsewdrag").map((panel) => Math.round(panel.getBoundingClientRect().top)),
  ink: getComputedStyle(document.querySelector(".plot text")).fill,
  hover: all(".plot")[0].data[0].hovertext,
  inner: window.innerWidth,
};
"""


@pytest.fixture(scope="module")
def driver():
    """Where a chromedriver listens."""
    process = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if found := re.search(r"on port (\d+)\.", line):
                break
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.wait(10)


def ask(url, body):
    request = urllib.request.Request(  # noqa: S310 (a driver of our own)
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
        return json.load(reply)["value"]


def looked(driver, file, width, *, dark=False):
    """What the page looks like at a width, and what the browser complained of."""
    options = {
        "binary": CHROMIUM,
        "args": ["--headless=new", "--no-sandbox", "--disable-gpu"]
        + ["--blink-settings=preferredColorScheme=0"] * dark,
        "mobileEmulation": {"deviceMetrics": {"width": width, "height": 900, "mobile": False}},
    }
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    session = ask(f"{driver}/session", {"capabilities": {"alwaysMatch": wanted}})
    home = f"{driver}/session/{session['sessionId']}"
    try:
        ask(f"{home}/url", {"url": file.as_uri()})
        seen = ask(f"{home}/execute/sync", {"script": LOOK, "args": []})
        return seen, [entry["message"] for entry in ask(f"{home}/se/log", {"type": "browser"})]
    finally:
        request = urllib.request.Request(home, method="DELETE")  # noqa: S310
        urllib.request.urlopen(request, timeout=60).close()  # noqa: S310


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    two = make_subplots(rows=1, cols=2, subplot_titles=["left", "right"])
    for col in (1, 2):
        two.add_trace(go.Scatter(y=[1, 2], hovertext=["a<br>b", "b"], name="x" * 40), 1, col)
    bars = go.Figure().add_bar(x=[1, 2], y=["one", "two"], orientation="h")
    rows = [["a long head of a column"] * 12, *[["a cell that is rather wide"] * 12] * 3]
    sections = [
        Section("Figures", ["Words. " * 40], [(two, "two panels"), (bars, "bars")]),
        Section("A" * 80, tables=[("a wide table", rows)]),
    ]
    file = tmp_path_factory.mktemp("pages") / "page.html"
    file.write_text(page("A page", sections), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [400, 1600])
def test_it_draws_without_a_complaint_and_fits(driver, file, width):
    seen, complaints = looked(driver, file, width)
    assert complaints == []
    assert seen["inner"] == width
    assert seen["drawn"] == 2
    assert seen["wide"] <= 0
    assert seen["hover"] == ["a<br>b", "b"]
    left, right = seen["tops"][:2]
    assert (left < right) if width < 720 else (left == right)


def test_figures_are_read_on_light_and_on_dark(driver, file):
    inks = [looked(driver, file, 1000, dark=dark)[0]["ink"] for dark in (False, True)]
    assert inks == ["rgb(28, 30, 33)", "rgb(228, 230, 233)"]
