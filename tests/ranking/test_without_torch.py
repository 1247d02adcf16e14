"""Ranking needs no torch, no transformers and no scikit-learn: importing one of them raises."""

import json
import subprocess
import sys

import numpy as np
import pytest

from twinrank.ranking import Ranker

TEXTS = ["it wont let me in again", "where is my money??"]
BLOCKED = """
import json, sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

class Blocked(MetaPathFinder, Loader):
    def find_spec(self, name, path, target=None):
        blocked = name.split(".")[0] in ("torch", "transformers", "sklearn")
        return ModuleSpec(name, self) if blocked else None  # polars asks whether there is one

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is imported")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Blocked())
folder, texts, features = json.loads(sys.stdin.read())
import numpy as np
import twinrank.evaluation
from twinrank.encoding import Encoder
from twinrank.ranking import Explainer, Ranker
"""
KNOWN_FEATURES = """
known = dict(zip(texts, np.array(features, np.float32)))
Encoder.encode = lambda self, texts, progress=None: np.array(
    [known.get(text, known["where is my money??"]) for text in texts]
)
"""
RANK = """
ranker = Ranker.load(folder)
rankings = ranker.rank(texts, 3)
ids = [[answer.id for answer in ranking] for ranking in rankings]
scores = ranker.scores(texts).tolist()
ranker.add_answers(ranker.answers.head(1).with_columns(id=ranker.answers["id"].head(1) + "-2"))
assert Explainer(ranker).explain(texts, ids)[0][0].sentence
print(json.dumps([ids, scores]))
"""


def rank_in_another_process(folder, code, features=None):
    given = json.dumps([str(folder), TEXTS, features])
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["bm25", "fused"])
def test_a_ranker_loads_ranks_and_explains(name, fitted, tmp_path):
    ranker = fitted(name)
    ranker.save(tmp_path)
    features = ranker.dense and ranker.dense.reader.encoder.encode(TEXTS).tolist()
    code = BLOCKED + (KNOWN_FEATURES if features else "") + RANK
    ids, scores = rank_in_another_process(tmp_path, code, features)
    assert ids == [[answer.id for answer in ranking] for ranking in ranker.rank(TEXTS, 3)]
    np.testing.assert_allclose(scores, ranker.scores(TEXTS), rtol=1e-4, atol=1e-4)


def test_the_encoder_runs_by_openvino(fused, tmp_path, monkeypatch):
    monkeypatch.setenv("TWINRANK_BACKEND", "openvino")
    fused.save(tmp_path)
    expected = Ranker.load(tmp_path).rank(TEXTS, 3)
    ids, _ = rank_in_another_process(tmp_path, BLOCKED + RANK)
    assert ids == [[answer.id for answer in ranking] for ranking in expected]
