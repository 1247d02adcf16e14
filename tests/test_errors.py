"""Errors come through another process as they were raised."""

import pickle
from pathlib import Path

from twinrank.errors import DataError, Fault


def test_faults_survive_pickling():
    faults = (Fault(Path("qrels.tsv"), 7, "unknown id", "add it"),)
    again = pickle.loads(pickle.dumps(DataError(faults)))  # noqa: S301 (as a worker's pipe does)
    assert again.faults == faults
    assert str(again) == "qrels.tsv:7: unknown id; add it"
