import threading
import time

import numpy as np
import pytest

from twinrank.cluster import train_on_cluster
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.recipe import Recipe
from twinrank.training import read_records, train


@pytest.mark.parametrize("kill", [False, True])
def test_towers_of_a_cluster_are_those_of_one_process(
    second_node, kill, help_centre, recipes, tmp_path
):
    values = recipes["fused"].values()
    values["towers"]["dropout"] = 0.0  # each process draws its own
    recipe = Recipe.validated(values, source="test")
    store, out = FeatureStore(), tmp_path / "together"
    alone = train(help_centre, recipe, out=tmp_path / "alone", store=store)

    def kill_after_two_epochs():
        while sum('"epoch": 2' in line for line in lines(out / "metrics.jsonl")) == 0:
            time.sleep(0.01)
        second_node()

    if kill:
        threading.Thread(target=kill_after_two_epochs, daemon=True).start()
    train_on_cluster(help_centre, recipe, seed=0, out=out, store=store)
    together = train(help_centre, recipe, out=out, store=store)  # which is there already
    runs = [
        [(r["stage"], r["epoch"]) for r in read_records(run)] for run in (out, tmp_path / "alone")
    ]
    assert runs[0] == runs[1]
    assert not (out / ".ray").exists()
    for name, tensor in alone.dense.towers.tensors.items():
        other = together.dense.towers.tensors[name]
        np.testing.assert_allclose(other, tensor, atol=1e-4, rtol=1e-3, err_msg=name)
    with pytest.raises(RankerError, match="seed"):  # an error of a worker is that of one process
        train_on_cluster(help_centre, recipe, seed=1, out=out, store=store)


def lines(file):
    return file.read_text().splitlines() if file.exists() else []
