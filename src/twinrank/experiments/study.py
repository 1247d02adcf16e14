"""A study: many recipes on one data set, and what tells why one is better than another.

Beside the recipes with all labels, some are carried out with fewer, and with few of one type.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import DataError
from twinrank.evaluation import (
    Evaluation,
    Geometry,
    View,
    centroid_views,
    evaluate,
    geometry,
)
from twinrank.experiments.compare import Entry, entry_of
from twinrank.experiments.plans import Plan
from twinrank.experiments.runs import Planned, at_once, carry_out, plan
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe
from twinrank.training import check_pairs, read_records

PARTS = ("recipes", "controls")  # of a plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arm:
    """One recipe of a study, measured.

    Attributes:
        part: `recipes`, `controls`, `reading`, or `added` by the caller.
        entry: its evaluations.
        geometry: of each seed's ranker; empty for words alone.
        epochs: each seed's records, as in `metrics.jsonl`; empty lists if nothing is trained.
    """

    part: str
    entry: Entry
    geometry: tuple[Geometry, ...]
    epochs: tuple[list[dict[str, Any]], ...]


@dataclass(frozen=True)
class FewerLabels:
    """A share of the training labels, of one type or (none) of all."""

    share: float
    kind: str | None = None


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        plan: what was carried out.
        data: name of the data set.
        data_fingerprint: of its content.
        labels: in its train split.
        split: measured on.
        seeds: of each recipe that trains.
        arms: every recipe with all labels.
        fewer: an entry for each of the plan's `few_labels`, by how many labels they had.
        left_out: controls that this data cannot carry out, and why.
        views: of the pictured recipes, the centroids in the plane (seed 0).
    """

    plan: Plan
    data: str
    data_fingerprint: str
    labels: int
    split: str
    seeds: int
    arms: tuple[Arm, ...]
    fewer: dict[FewerLabels, tuple[Entry, ...]]
    left_out: dict[str, str]
    views: dict[str, tuple[View, View, View]]


def run_study(
    plan_: Plan,
    dataset: Dataset,
    *,
    added: Sequence[Recipe] = (),
    seeds: int = 5,
    split: str = "test",
    out: Path,
    store: FeatureStore,
    device: str = "auto",
    workers: int | None = None,
) -> Study:
    """Carry out what is not in `out` yet, and measure everything.

    Args:
        plan_: which study.
        dataset: with train, validation and the split to measure on.
        added: recipes beside the study's own.
        seeds: of each recipe that trains; fewer labels are drawn anew for each.
        split: what to measure on.
        out: folder for the runs.
        store: features, computed once.
        device: where to compute.
        workers: runs at once; none leaves it to `at_once`.
    """
    own = {part: [Recipe.load(n) for n in getattr(plan_, part)] for part in PARTS}
    left_out = _impossible(own["controls"], dataset)
    own["controls"] = [recipe for recipe in own["controls"] if recipe.name not in left_out]
    own["reading"] = [Recipe.load(name) for name, _ in plan_.reading]
    known = [recipe for part in own.values() for recipe in part]
    own["added"] = [recipe for recipe in added if recipe not in known]
    part_of = {recipe.name: part for part, recipes in own.items() for recipe in recipes}
    full = plan(dataset, [*known, *own["added"]], seeds=range(seeds), out=out)

    sparse = [Recipe.load(name) for name in plan_.few_labels]
    rare = dataset.types if len(dataset.types) > 1 else ()
    fewer = [*map(FewerLabels, plan_.shares), *(FewerLabels(plan_.rare, kind) for kind in rare)]
    drawn = min(seeds, plan_.few_seeds)
    few = {labels: _few_runs(labels, sparse, dataset, seeds=drawn, out=out) for labels in fewer}
    few_runs = [run for runs in few.values() for run in runs]

    carry_out([*full, *few_runs], out=out, store=store, device=device, workers=workers)
    items = [*((run, True) for run in full), *((run, False) for run in few_runs)]
    call = partial(_measured, split=split, store=store, device=device)
    found = at_once(call, items, workers=workers, device=device, label="Measuring")
    measured = {run.folder: result for (run, _), result in zip(items, found, strict=True)}

    def entries(runs: Sequence[Planned]) -> tuple[Entry, ...]:
        evaluations = [(run, measured[run.folder][0]) for run in runs]
        return tuple(entry_of(group) for group in _by_recipe(evaluations))

    views = {
        run.recipe.name: centroid_views(
            Ranker.load(run.folder, store=store, device=device), dataset, split=split
        )
        for run in full
        if run.recipe.name in plan_.pictured and run.seed == 0
    }
    arms = []
    for entry in entries(full):
        runs = [run for run in full if run.recipe == entry.recipe]
        spaces = [measured[run.folder][1] for run in runs]
        geometries = tuple(space for space in spaces if space)
        epochs = tuple(read_records(run.folder) for run in runs)
        arms.append(Arm(part_of[entry.recipe.name], entry, geometries, epochs))
    return Study(
        plan=plan_,
        data=dataset.name,
        data_fingerprint=dataset.fingerprint,
        labels=int((dataset.labels["split"] == "train").sum()),
        split=split,
        seeds=seeds,
        arms=tuple(arms),
        fewer={labels: entries(runs) for labels, runs in few.items()},
        left_out=left_out,
        views=views,
    )


def _by_recipe(
    runs: Sequence[tuple[Planned, Evaluation]],
) -> list[list[tuple[Planned, Evaluation]]]:
    """The measured runs of each recipe, recipes in the order of their first run."""
    grouped: dict[str, list[tuple[Planned, Evaluation]]] = {}
    for run, evaluation in runs:
        grouped.setdefault(run.recipe.name, []).append((run, evaluation))
    return list(grouped.values())


def _few_runs(
    fewer: FewerLabels, recipes: Sequence[Recipe], dataset: Dataset, *, seeds: int, out: Path
) -> list[Planned]:
    """The runs of some recipes with fewer labels, drawn anew for each seed."""
    runs = []
    for seed in range(seeds):
        data = dataset.fewer_labels(fewer.share, kind=fewer.kind, seed=seed)
        runs += plan(data, recipes, seeds=[seed], out=out)
    return runs


def _impossible(recipes: Sequence[Recipe], dataset: Dataset) -> dict[str, str]:
    """The recipes that find nothing to pair in this data, each with the reason."""
    found = {}
    for recipe in recipes:
        try:
            if recipe.pretraining:
                check_pairs(dataset, recipe.pretraining)
        except DataError as error:
            found[recipe.name] = error.faults[0].what
            log.warning("%s is left out: %s", recipe.name, error.faults[0].what)
    return found


def _measured(
    item: tuple[Planned, bool], *, split: str, store: FeatureStore, device: str
) -> tuple[Evaluation, Geometry | None]:
    """A run's evaluation, and its geometry if that is wanted and it has a space."""
    run, wanted = item
    ranker = Ranker.load(run.folder, store=store, device=device)
    evaluation = evaluate(ranker, run.dataset, split=split, resamples=0)  # the mean's are shown
    spatial = wanted and ranker.dense is not None
    return evaluation, geometry(ranker, run.dataset, split=split) if spatial else None
