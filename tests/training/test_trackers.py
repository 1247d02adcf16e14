"""Each tracker by its own library, in its offline mode, and read back by that library's means."""

import json
import os

import pytest

from tests.processes import results
from twinrank import extras
from twinrank.encoding import FeatureStore
from twinrank.errors import TwinrankError
from twinrank.recipe import Recipe
from twinrank.training import check_tracker, tracking, train

TYPE = "types/question/map@10"


@pytest.fixture(scope="module")
def recipe(recipes):
    values = recipes["towers"].values()
    values["training"]["epochs"] = 3
    values["pretraining"] = {"use": "inherit", "pairing": "thread", "epochs": 2}
    return Recipe.validated({**values, "name": "tracked"}, source="test")


def tracked(name, dataset, recipe, out):
    with tracking(name, dataset, recipe, seed=0, out=out) as tracker:
        store = FeatureStore()
        ranker = train(dataset, recipe, out=out, store=store, on_record=tracker.epoch)
        tracker.reached(ranker.origin.quality)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return ranker.origin.quality, lines


def curve(lines, stage, kind="question"):
    """What was recorded of a stage: epoch and MAP@10 of a type."""
    own = [line for line in lines if line["stage"] == stage]
    return [(line["epoch"], line["types"][kind]["map@10"]) for line in own]


def test_tensorboard_holds_every_epoch_once_after_a_second_call(help_centre, recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # the second call finds a finished run, and tells its history again
        quality, lines = tracked("tensorboard", help_centre, recipe, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for stage in ("pretraining", "ranking"):
        told = [(e.step, e.value) for e in events.Scalars(f"{stage}/{TYPE}")]
        assert [step for step, _ in told] == [step for step, _ in curve(lines, stage)]
        assert [v for _, v in told] == pytest.approx([v for _, v in curve(lines, stage)])
    assert [e.step for e in events.Scalars("ranking/train_loss")] == [1, 2, 3]  # none untrained
    (reached,) = events.Scalars("ranker/map@10")
    assert reached.value == pytest.approx(quality["map@10"])


@pytest.mark.slow
def test_mlflow_holds_choices_epochs_and_what_was_reached(
    help_centre, recipe, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    from mlflow import MlflowClient

    quality, lines = tracked("mlflow", help_centre, recipe, tmp_path / "run")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("twinrank")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "tracked, seed 0"
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe/training/learning_rate"] == "0.003"
    assert run.data.params["data_fingerprint"] == help_centre.fingerprint
    key = f"ranking/{TYPE.replace('@', '_at_')}"
    told = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
    assert sorted(told) == curve(lines, "ranking")
    assert run.data.metrics["ranker/map_at_10"] == quality["map@10"]


def logged(uri, dataset, recipe, out):
    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # which MLflow sets, in the tests before
    with tracking("mlflow", dataset, recipe, seed=0, out=out) as tracker:
        tracker.reached({"map@10": 0.5})


@pytest.mark.slow
def test_runs_that_begin_at_once_share_a_new_mlflow_file(help_centre, recipe, tmp_path):
    told = (f"sqlite:///{tmp_path / 'mlflow.db'}", help_centre, recipe, tmp_path)
    assert results(logged, *told, processes=3) == [None] * 3


@pytest.mark.slow
def test_wandb_is_offline_where_nobody_set_it_up(help_centre, recipe, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "NETRC", "WANDB_CONFIG_DIR"):  # no key of whoever runs the tests
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    tracked("wandb", help_centre, recipe, tmp_path / "run")
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


def test_only_the_first_of_several_processes_tells(help_centre, recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with tracking("tensorboard", help_centre, recipe, seed=0, out=tmp_path) as tracker:
        tracker.epoch({"stage": "tuning", "epoch": 0, "loss": 1.0})
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_is_one_line_with_its_mend(name, monkeypatch):
    check_tracker(name)
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(TwinrankError, match=rf"need {name}.*pip install 'twinrank\[track\]'"):
        check_tracker(name)


def test_an_unknown_tracker_is_refused():
    with pytest.raises(TwinrankError, match="'aim'; choose tensorboard, wandb, mlflow"):
        check_tracker("aim")
