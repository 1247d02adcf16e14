"""Several calls at once: in order, and none outlives its parent."""

import os
from pathlib import Path

import pytest

from twinrank.encoding import FeatureStore
from twinrank.experiments.runs import at_once, carry_out, plan
from twinrank.recipe import Recipe


def double(x):
    return 2 * x, os.getpid()


@pytest.mark.slow
def test_results_come_in_the_order_of_the_items():
    inside = at_once(double, [3, 1, 2], workers=1, device="cpu", label="Doubling")
    outside = at_once(double, [3, 1, 2], workers=2, device="cpu", label="Doubling")
    assert [value for value, _ in inside] == [value for value, _ in outside] == [6, 2, 4]
    assert {pid for _, pid in inside} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in outside}


@pytest.mark.parametrize(
    ("name", "seeds"), [("bm25", 1), ("zero-shot", 1), ("residual", 3), ("tuned", 3)]
)
def test_what_is_trained_is_trained_with_every_seed(name, seeds, help_centre, tmp_path):
    recipe = Recipe.load("zero-shot" if name == "tuned" else name)
    if name == "tuned":  # without towers
        recipe = Recipe.validated({**recipe.values(), "tuning": {}}, source=name)
    assert len(plan(help_centre, [recipe], seeds=range(3), out=tmp_path)) == seeds


@pytest.mark.slow
def test_workers_that_stayed_write_where_a_later_call_says(help_centre, tmp_path, monkeypatch):
    recipes = [Recipe.load("bm25"), Recipe.load("zero-shot")]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        planned = plan(help_centre, recipes, seeds=[0], out=Path("runs"))
        carry_out(planned, store=FeatureStore(tmp_path / "features"), device="cpu", workers=2)
        assert all((run.folder / "current.json").exists() for run in planned)
