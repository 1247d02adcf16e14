"""The page of two benchmark runs, in a real browser."""

from types import SimpleNamespace

import pytest

from races import kept
from races.page import bench_page
from races.race import Unit
from races.results import results

NAMES = ("encode", "rank", "<script>alert(1)</script>")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Five passes of three races; in the second run the first race took half as long again."""
    runs = []
    for number, factor in enumerate((1.0, 1.5)):
        plan = kept.about("mine 1", NAMES, 5, 1) | {"date": f"2030-01-0{number + 1}T00:00:00"}
        races = {
            name: [_held(pass_, factor if name == "encode" else 1) for pass_ in range(5)]
            for name in NAMES
        }
        runs.append(kept.Stored(plan, races, [0.9]))
    units = [Unit(name, name, "a peer", "ms a text", SimpleNamespace()) for name in NAMES]
    file = tmp_path_factory.mktemp("bench") / "bench.html"
    file.write_text(bench_page(results(units, runs[1], runs[0])), encoding="utf-8")
    return file


def _held(number, factor):
    ours = factor * (1 + number / 100)
    return kept.Held(({"ours": ours, "peer": 3.0},) * 3)


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_disk_draws_and_fits(look, file, width, scheme):
    opened = look(file, width, scheme)
    assert opened.complaints == []
    assert opened.requests == [file.as_uri()]
    assert opened.too_wide <= 0


def test_it_says_what_became_slower_and_who_else_was_there(look, file):
    text = look(file).page.inner_text("body")
    assert "encode, against a peer: 0.667 times" in text
    assert "other processes kept up to 0.9 cores busy" in text
    assert "<script>alert(1)</script>" in text
