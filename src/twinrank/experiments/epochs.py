"""The epochs of a finished run, as it recorded them in `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinrank.recipe import Recipe
from twinrank.training import since_best

Json = dict[str, Any]


def by_stage(epochs: Sequence[Json]) -> dict[str, list[Json]]:
    """The records of each stage, in the order of the stages."""
    stages: dict[str, list[Json]] = {}
    for record in epochs:
        stages.setdefault(record["stage"], []).append(record)
    return stages


def kept_epoch(recipe: Recipe, stage: str, records: Sequence[Json]) -> int | None:
    """Which epoch of a stage went into the ranker; none where it is simply the last."""
    settings = {"ranking": recipe.training, "tuning": recipe.tuning}.get(stage)
    if settings is None or len(records) < 2:
        return None
    return int(records[-1]["epoch"]) - since_best(list(records), settings.keep)
