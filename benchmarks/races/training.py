"""Training on stored features, against a trainer whose frozen backbone is in the loop."""

from __future__ import annotations

import contextlib
import io
from statistics import median

import numpy as np
import torch

from peers.frozen import seconds_a_query
from races.race import Race, Unit
from races.setting import Setting
from twinrank.encoding import POOLINGS
from twinrank.ranking import Passages
from twinrank.recipe import Recipe
from twinrank.training import Examples, fit_towers
from twinrank.training.tower_modules import towers_of

EPOCHS = 5  # the first one is a warm-up
STEPS = 1  # of the peer, after a warm-up


def units() -> list[Unit]:
    """One pass over the training queries; of ours without the one encoding that it needs once."""
    title, peer = "train, an epoch", "sentence-transformers trainer"
    return [Unit("train", title, peer, "ms a query", _epoch)]


def _epoch(setting: Setting) -> Race:
    dataset, recipe = setting.dataset, Recipe.load("residual")
    assert recipe.training  # noqa: S101 (the recipe is ours)
    settings = recipe.training.model_copy(update={"epochs": EPOCHS, "patience": EPOCHS})
    queries, answers = dataset.split("train"), dataset.answer_texts()
    features = setting.encoder.encode([*queries.texts, *answers])[:, POOLINGS.index("mean")]
    seen, known = np.split(np.ascontiguousarray(features), [len(queries)])
    examples, index = Examples.of(seen, queries), Passages(known, None, len(known))

    def ours() -> float:
        torch.manual_seed(setting.number)
        towers = towers_of(recipe, setting.encoder.dim)
        history = fit_towers(towers, examples, index, settings, lambda _: {"loss": 0.0})
        return 1e3 * float(median(record["seconds"] for record in history[2:])) / len(queries)

    def peer() -> float:
        with contextlib.redirect_stdout(io.StringIO()):  # the trainer prints its summary
            return 1e3 * seconds_a_query(
                setting.sentence_transformer,
                queries,
                answers,
                batch=settings.batch_size,
                steps=STEPS,
                folder=setting.folder / "frozen",
            )

    return Race(ours, peer, most=2, warm_up=False)
