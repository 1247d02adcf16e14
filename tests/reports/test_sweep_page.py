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
from twinrank.reports.sweep_report import format_value, sweep_table, write_sweep

RATES = [1.5e-4, 1e-4, 5e-3, 2e-4, 8e-5, 9e-3, 3e-4, 1e-3]
LOSSES = [2.5, 2.4, 3.9, 2.45, 2.6, 4.5, 2.47, 3.1]
PRUNED = {2, 5}


@pytest.fixture(scope="module")
def sweep(help_centre):
    ranges = {
        "training.learning_rate": Between(low=1e-5, high=1e-2, log=True),
        "training.index": Choices(choices=("auto", "stale")),
    }
    distributions = {
        "training.learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        "training.index": CategoricalDistribution(("auto", "stale")),
    }
    study = optuna.create_study()
    for i, (rate, loss) in enumerate(zip(RATES, LOSSES, strict=True)):
        types = {"a": {"map@10": 0.45}, "b": {"map@10": 0.55}}
        quality = {"accuracy@3": 0.6, "map@10": 0.5, "loss": loss, "types": types}
        index = "auto" if i % 2 == 0 else "stale"
        study.add_trial(
            optuna.create_trial(
                state=TrialState.PRUNED if i in PRUNED else TrialState.COMPLETE,
                params={"training.learning_rate": rate, "training.index": index},
                distributions=distributions,
                value=None if i in PRUNED else loss,
                intermediate_values={1: loss + 1, 4: loss},
                user_attrs={} if i in PRUNED else {"quality": quality},
            )
        )
    return Sweep(Search(help_centre, Recipe.load("residual"), Ranges(ranges)), study)


def test_the_table_shows_the_best_first_and_fits_80_signs(sweep):
    console = Console(width=80, record=True, file=None)
    with console.capture() as shown:
        console.print(sweep_table(sweep))
    lines = [line.split() for line in shown.get().splitlines()]
    numbers = [line[0] for line in lines if line and line[0].isdigit()]
    assert numbers == ["1", "3", "6", "0", "4", "7", "2", "5"]
    assert ["1", "0.0001", "stale", "2.400", ".600", ".500", ".450"] in lines
    assert ["2", "0.005", "auto", "3.900", "-", "-", "-", "pruned"] in lines
    assert "too few trials to say" in " ".join(shown.get().split())


@pytest.mark.parametrize(("least", "weighed"), [(4, True), (5, False)])
def test_of_few_trials_no_field_is_said_to_matter(sweep, tmp_path, monkeypatch, least, weighed):
    monkeypatch.setattr("twinrank.experiments.sweep.MIN_TRIALS_PER_FIELD", least)
    *_, values, page = write_sweep(Sweep(sweep.search, sweep.study), tmp_path)
    first = next(iter(json.loads(values.read_text())["importances"]), None)
    assert first == ("training.learning_rate" if weighed else None)
    assert ("Too few trials to say" not in page.read_text()) == weighed


def test_fields_are_weighed_by_the_best_epoch_of_every_trial(sweep):
    """A complete trial's ranker has fitted weights and words; those of a pruned one never were."""
    trials = [
        optuna.create_trial(
            params=trial.params,
            distributions=trial.distributions,
            value=trial.value - 2,
            intermediate_values=trial.intermediate_values,
        )
        if trial.state == TrialState.COMPLETE
        else trial
        for trial in sweep.study.trials
    ]
    study = optuna.create_study()
    study.add_trials(trials)
    better = Sweep(sweep.search, study)
    assert [trial.value for trial in better.completed.trials] == LOSSES
    assert better.reached(better.trials[0]) == pytest.approx(0.4)


def test_what_is_written_can_be_read_again(sweep, tmp_path):
    best, values, page = write_sweep(sweep, tmp_path)
    assert Recipe.load(best).training.learning_rate == 1e-4
    assert "2.400000, seed 0: the best of 8 trials on help-centre" in best.read_text()
    told = json.loads(values.read_text())
    assert told["best"]["value"] == 2.4
    assert [trial["number"] for trial in told["trials"]] == [1, 3, 6, 0, 4, 7, 2, 5]
    text = page.read_text()
    assert "<dt>The recipe as it was</dt><dd>2.500" in text
    assert all(heading in text for heading in ("History", "Which field matters", "All trials"))


@pytest.mark.parametrize(
    ("value", "shown"), [(0.536, "0.536"), (1.5e-5, "1.5e-5"), (64, "64"), ("x", "x")]
)
def test_values_are_short(value, shown):
    assert format_value(value) == shown
