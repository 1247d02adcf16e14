import logging

import pytest
import torch

from twinrank.cluster import Crew
from twinrank.encode import FeatureStore
from twinrank.experiment import fit


@pytest.mark.parametrize("kill", [False, True])
def test_towers_of_a_team_are_those_of_one_process(
    second_node, kill, help_centre, recipes, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    alone = fit(help_centre, recipes["fused"], out=tmp_path / "alone", store=FeatureStore())
    epochs = []

    def on_record(record):
        epochs.append(record["epoch"])
        if kill and record["epoch"] == 2:
            second_node()

    team = fit(
        help_centre,
        recipes["fused"],
        out=tmp_path / "team",
        store=FeatureStore(),
        on_record=on_record,
        device="cpu",
        together=Crew(2),
    )
    assert "2 processes fit the towers together" in caplog.text
    assert ("a worker was lost; going on after epoch" in caplog.text) == kill
    assert epochs == list(range(9))
    ours, theirs = (ranker.channel.dense.towers for ranker in (alone, team))
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(
            theirs.state_dict()[name], tensor, atol=1e-4, rtol=1e-3, msg=name
        )
