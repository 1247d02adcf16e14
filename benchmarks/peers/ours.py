"""A recipe of twinrank as a function from a task to a scorer, like a peer."""

from __future__ import annotations

import shutil

from peers.task import Ready, Task
from twinrank.data import Dataset
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe
from twinrank.training import train


def prepare(dataset: Dataset, recipe: Recipe, task: Task) -> Ready:
    """Carry the recipe out from its beginning: a half-done run would make training look short."""
    folder = task.folder / "ranker"
    shutil.rmtree(folder, ignore_errors=True)
    ranker = train(dataset, recipe, seed=task.seed, out=folder, store=task.store)
    # Without a store: a query that is timed must be encoded, and not be written anywhere.
    bare = Ranker.load(folder)
    return Ready(ranker.scores, rank=lambda text: bare.rank(text, k=10))
