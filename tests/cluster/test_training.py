import logging
import os
import time

import numpy as np
import pytest
from torch.distributed import TCPStore

from twinrank.cluster import Crew, training
from twinrank.encoding import FeatureStore
from twinrank.recipe import Recipe
from twinrank.training import ProcessLostError, train


@pytest.mark.parametrize("kill", [False, True])
def test_towers_of_a_team_are_those_of_one_process(
    second_node, kill, help_centre, recipes, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    values = recipes["fused"].values()
    values["towers"]["dropout"] = 0.0  # each process draws its own
    recipe = Recipe.validated(values, source="test")
    alone = train(help_centre, recipe, out=tmp_path / "alone", store=FeatureStore())
    epochs = []

    def on_record(record):
        epochs.append(record["epoch"])
        if kill and record["epoch"] == 2:
            second_node()

    team = train(
        help_centre,
        recipe,
        out=tmp_path / "team",
        store=FeatureStore(),
        on_record=on_record,
        device="cpu",
        fit=Crew(3),  # one on each node: whichever is killed is missed
    )
    assert "3 processes fit the towers together" in caplog.text
    assert ("a worker was lost; going on after epoch" in caplog.text) == kill
    assert "have not begun" not in caplog.text  # nobody is waited for that there is no room for
    assert epochs == list(range(9))
    one, several = (ranker.dense.towers.tensors for ranker in (alone, team))
    for name, tensor in one.items():
        np.testing.assert_allclose(several[name], tensor, atol=1e-4, rtol=1e-3, err_msg=name)


@pytest.mark.usefixtures("whole_cluster")
def test_a_worker_that_dies_on_its_way_to_the_team_is_missed_at_once():
    import ray

    place = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place.set("here-1", "")
    waits = ray.remote(lambda: time.sleep(60)).remote()
    dies = ray.remote(num_cpus=0, max_retries=0)(lambda: os._exit(1)).remote()
    try:
        with pytest.raises(ProcessLostError, match="did not come"):
            training._await(place, [waits, dies])
    finally:
        ray.cancel(waits, force=True)
