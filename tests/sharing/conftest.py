"""Rankers with towers of every kind, at random: what is exported does not depend on training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from twinrank.ranking import DenseSignal, FrozenTowers, Ranker, Scoring, reader_of
from twinrank.ranking.manifest import Origin
from twinrank.recipe import Recipe
from twinrank.training.tower_modules import Towers

KINDS = {
    "none": {},
    "residual": {"kind": "residual"},
    "projection": {"kind": "projection"},
    "residual-dual": {"kind": "residual", "dual": True},
    "projection-dual": {"kind": "projection", "dual": True},
}


def random_towers(dim, *, base=False, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        towers = Towers(dim=dim, **{"kind": "none", **settings})
        if base:
            towers.stand_on(Towers(settings["kind"], dim))
        for tensor in towers.state_dict().values():
            if tensor.dim():
                tensor.uniform_(0.2, 0.4).mul_(
                    torch.randn_like(tensor).sign() if tensor.dim() > 1 else 1
                )
    tensors = {name: tensor.numpy() for name, tensor in towers.state_dict().items()}
    return FrozenTowers(tensors, settings.get("kind", "none"), settings.get("dual", False), base)


@pytest.fixture
def make_ranker(tiny_model, help_centre):
    def make(kind="none", *, base=False, offsets=False, **encoder):
        settings = {"name": str(tiny_model), "max_tokens": 32, "precision": "fp32", **encoder}
        recipe = Recipe(name=kind, language="english", encoder=settings)
        reader = reader_of(recipe, None, "cpu")
        towers = random_towers(reader.dim, base=base, **KINDS[kind])
        answers = help_centre.answers.head(9)
        dense = DenseSignal.from_features(reader, towers, reader.answers(answers))
        if offsets:
            shift = np.random.default_rng(0).normal(size=(9, reader.dim)).astype(np.float32)
            vectors = dense.vectors.of(dense.vectors.rows + shift[dense.vectors.owners])
            dense = replace(dense, vectors=vectors, offsets=shift)
        scoring = Scoring({"dense": dense}, {"dense": 1.0})
        origin = Origin(data="help-centre", data_fingerprint="0", seed=0)
        return Ranker(recipe, answers, scoring, origin)

    return make
