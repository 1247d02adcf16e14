"""twinrank trains, measures and serves a document ranker for every kind of query alike."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # `typing` takes a moment to import, in which Ctrl-C would be a traceback
if TYPE_CHECKING:
    from typing import Any

    from twinrank.client import AsyncClient, Client
    from twinrank.data import Dataset
    from twinrank.evaluation.evaluate import evaluate
    from twinrank.ranking import Ranker
    from twinrank.recipe import Recipe
    from twinrank.training.train import train  # not of the package: mypy takes that for a module

__version__ = "0.2.0"
__all__ = ["AsyncClient", "Client", "Dataset", "Ranker", "Recipe", "evaluate", "train"]

_HOMES = {
    "AsyncClient": "twinrank.client",
    "Client": "twinrank.client",
    "Dataset": "twinrank.data",
    "Ranker": "twinrank.ranking",
    "Recipe": "twinrank.recipe",
    "evaluate": "twinrank.evaluation",
    "train": "twinrank.training",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name on first use, so that `twinrank --help` need not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'twinrank' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
