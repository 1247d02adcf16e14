"""The page and the table of a sweep, from made-up trials."""

import json

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from rich.console import Console

from twinrank.experiments.sweep import Search, Sweep
from twinrank.experiments.sweep_ranges import Between, Choices, Ranges
from twinrank.recipe import Recipe
from twinrank.reports.sweep_report import (
    cell,
    history_figure,
    importance_figure,
    parallel_figure,
    short_name,
    sweep_page,
    sweep_table,
    write_sweep,
)

RATES = [1.5e-4, 1e-4, 5e-3, 2e-4, 8e-5, 9e-3, 3e-4, 1e-3]
LOSSES = [2.5, 2.4, 3.9, 2.45, 2.6, 4.5, 2.47, 3.1]
PRUNED = {2, 5}


@pytest.fixture(scope="module")
def sweep(help_centre):
    recipe = Recipe.load("residual")
    ranges = {
        "training.learning_rate": Between(low=1e-5, high=1e-2, log=True),
        "training.index": Choices(choices=("auto", "stale")),
    }
    rate = FloatDistribution(1e-5, 1e-2, log=True)
    of = {
        "training.learning_rate": rate,
        "training.index": CategoricalDistribution(("auto", "stale")),
    }
    study = optuna.create_study()
    for i, (value, loss) in enumerate(zip(RATES, LOSSES, strict=True)):
        figures = {"accuracy@3": 0.6, "map@10": 0.5, "loss": loss}
        types = {"a": {"map@10": 0.45}, "b": {"map@10": 0.55}}
        pruned = i in PRUNED
        study.add_trial(
            optuna.create_trial(
                state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
                params={
                    "training.learning_rate": value,
                    "training.index": "auto" if i % 2 == 0 else "stale",
                },
                distributions=of,
                value=None if pruned else loss,
                intermediate_values={1: loss + 1, 4: loss},
                user_attrs={} if pruned else {"quality": {**figures, "types": types}},
            )
        )
    return Sweep(Search(help_centre, recipe, Ranges(ranges)), study)


def test_the_table_shows_the_best_first_and_fits_80_signs(sweep):
    console = Console(width=80, record=True, file=None)
    with console.capture() as shown:
        console.print(sweep_table(sweep))
    lines = [line.split() for line in shown.get().splitlines()]
    numbers = [line[0] for line in lines if line and line[0].isdigit()]
    assert numbers == ["1", "3", "6", "0", "4", "7", "2", "5"]
    assert ["1", "1e-4", "stale", "2.400", ".600", ".500", ".450"] in lines
    assert ["2", "5e-3", "auto", "3.900", "-", "-", "-", "pruned"] in lines
    assert any(line[:1] == ["training.learning_rate"] for line in lines)


def test_what_is_written_can_be_read_again(sweep, tmp_path):
    best, values, page = write_sweep(sweep, tmp_path)
    assert Recipe.load(best).training.learning_rate == 1e-4
    assert Recipe.load(best).training.index == "stale"
    assert "2.400000, seed 0: the best of 8 trials on help-centre" in best.read_text()
    told = json.loads(values.read_text())
    assert told["best"]["value"] == 2.4
    assert [trial["number"] for trial in told["trials"]] == [1, 3, 6, 0, 4, 7, 2, 5]
    assert told["importances"][0]["field"] == "training.learning_rate"
    text = page.read_text()
    assert "the recipe as it was reaches 2.500" in text
    assert "training.learning_rate matters most" in text
    assert "http://" not in text.split('id="drawn"')[0]


def test_the_history_falls_to_the_best_and_shows_the_pruned_apart(sweep):
    line, whole, pruned = history_figure(sweep).data
    assert list(line.x) == [0, 1, 3, 4, 6, 7]
    assert list(line.y) == [2.5, 2.4, 2.4, 2.4, 2.4, 2.4]
    assert list(whole.x) == [0, 1, 3, 4, 6, 7]
    assert list(pruned.x) == [2, 5]
    assert list(pruned.y) == [3.9, 4.5]


def test_the_lines_of_the_best_quarter_lie_on_top(sweep):
    plot = parallel_figure(sweep)
    assert len(plot.data) == 8
    losses = [float(line.customdata[0][1]) for line in plot.data]
    assert losses == sorted(LOSSES, reverse=True)
    assert len({line.line.color for line in plot.data[-2:]}) == 1
    assert plot.data[-3].line.color != plot.data[-2].line.color
    assert list(plot.layout.xaxis.ticktext) == ["validation loss", "index", "learning rate"]
    assert [part[0] for part in plot.data[0].customdata][1:] == [
        "training.index",
        "training.learning...",
    ]


def test_each_field_has_its_bars(sweep):
    best, spread = importance_figure(sweep).data
    first = sweep.importances[0]
    assert spread.y[-1] == "learning rate"
    assert spread.x[-1] == first.spread
    assert best.x[-1] == first.best


def test_data_cannot_break_the_page(help_centre, sweep):
    evil = Recipe.validated(
        sweep.search.recipe.values() | {"encoder": {"name": "</script><b>x"}}, source="test"
    )
    ranges = Ranges({"encoder.name": Choices(choices=("</script><b>x", "y"))})
    study = optuna.create_study()
    of = {"encoder.name": CategoricalDistribution(("</script><b>x", "y"))}
    for i in range(4):
        params = {"encoder.name": ("</script><b>x", "y")[i % 2]}
        study.add_trial(optuna.create_trial(params=params, distributions=of, value=float(i)))
    text = sweep_page(Sweep(Search(help_centre, evil, ranges), study))
    assert "</script><b>x" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.536, "0.536"), (1.5e-5, "1.5e-5"), (1e-4, "1e-4"), (0.0, "0"), (64, "64"), ("x", "x")],
)
def test_values_are_short(value, shown):
    assert cell(value) == shown


def test_a_field_is_named_in_full_where_two_tables_have_it():
    fields = ["training.batch_size", "pretraining.batch_size", "towers.dropout"]
    assert [short_name(path, fields) for path in fields] == [*fields[:2], "dropout"]
