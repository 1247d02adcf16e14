"""Recipes compared over several seeds, and finished runs measured side by side for their report."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from twinrank.data import Dataset, Description, describe
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.evaluation import (
    METRICS,
    Evaluation,
    Geometry,
    Mistakes,
    View,
    centroid_view,
    compare_pairs,
    evaluate,
    geometry,
    mistakes,
    summarise,
)
from twinrank.experiments.runs import Planned, carry_out, plan
from twinrank.progress import progress_bar
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe
from twinrank.training import read_records, since_best

MAX_MISTAKES_IN_JSON = 20  # confused pairs, and misses
Json = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One recipe in a comparison.

    The mean is over seeds, query by query: its intervals say how far other queries could have
    moved the recipe's figures.
    """

    recipe: Recipe
    seeds: tuple[int, ...]  # an untrained recipe depends on none and runs once
    evaluations: tuple[Evaluation, ...]  # one of every seed
    mean: Evaluation

    def spread(self, metric: str, kind: str | None = None) -> float | None:
        """Standard deviation over seeds of a figure, overall or of a type; none for one seed."""
        if len(self.evaluations) < 2:
            return None
        figures = [e.types[kind][metric] if kind else e.overall[metric] for e in self.evaluations]
        return float(np.std(figures, ddof=1))

    def as_dict(self) -> Json:
        """Give plain JSON values: means over seeds, their spread, intervals, single seeds."""
        types = {kind: {m: self.spread(m, kind) for m in METRICS} for kind in self.mean.types}
        seeds = zip(self.seeds, self.evaluations, strict=True)
        return {
            "recipe": self.recipe.values(),
            **self.mean.as_dict(),
            "spread": {"overall": {m: self.spread(m) for m in METRICS}, "types": types},
            "seeds": {str(seed): evaluation.as_dict() for seed, evaluation in seeds},
        }


@dataclass(frozen=True)
class Comparison:
    """Recipes measured on one split of one data set."""

    data: str
    data_fingerprint: str
    split: str
    entries: tuple[Entry, ...]

    def as_dict(self) -> Json:
        """Give plain JSON values."""
        head = {"data": self.data, "data_fingerprint": self.data_fingerprint, "split": self.split}
        return {**head, "recipes": [entry.as_dict() for entry in self.entries]}


def compare(
    dataset: Dataset,
    recipes: Sequence[Recipe],
    *,
    seeds: int = 3,
    split: str = "test",
    out: Path,
    store: FeatureStore,
    device: str = "auto",
    workers: int | None = 1,
) -> Comparison:
    """Carry recipes out and measure them; runs that `out` holds already are not done again.

    A recipe that is trained runs with each of the seeds 0, 1, ..., in the folder
    `out/<recipe>-<digest of recipe and data>/seed-<n>`; for `workers` see `at_once`.

    Raises:
        TwinrankError: if two recipes have one name.
    """
    planned = plan(dataset, recipes, seeds=range(seeds), out=out)
    carry_out(planned, store=store, device=device, workers=workers)
    measured = [
        (run, evaluate(Ranker.load(run.folder, store=store, device=device), dataset, split=split))
        for run in planned
    ]
    entries = (entry_of([pair for pair in measured if pair[0].recipe == r]) for r in recipes)
    return Comparison(dataset.name, dataset.fingerprint, split, tuple(entries))


def entry_of(runs: Sequence[tuple[Planned, Evaluation]]) -> Entry:
    """Make an entry of the measured runs of one recipe.

    The mean is over seeds, query by query, without what is one ranker's alone (confidence).
    """
    evaluations = tuple(evaluation for _, evaluation in runs)
    rows = (
        evaluations[0]
        .per_query.select("id", "type", "thread")
        .with_columns(
            pl.Series(
                metric, np.mean([e.per_query[metric].to_numpy() for e in evaluations], axis=0)
            )
            for metric in METRICS
        )
    )
    seeds = tuple(run.seed for run, _ in runs)
    return Entry(runs[0][0].recipe, seeds, evaluations, summarise(rows))


@dataclass(frozen=True)
class Run:
    """One finished run, measured on a split."""

    name: str  # that tells it from the others
    folder: Path
    ranker: Ranker
    evaluation: Evaluation
    mistakes: Mistakes
    geometry: Geometry | None  # None if it ranks by words alone
    view: View | None  # of its space
    stages: dict[str, list[Json]]  # the records of each stage of its training, an epoch each

    @property
    def titles(self) -> dict[str, str]:
        """Each answer's title; its id where it has none."""
        answers = self.ranker.answers
        return {i: title or i for i, title in zip(answers["id"], answers["title"], strict=True)}

    def find_best_epoch(self, stage: str) -> int | None:
        """Find the epoch of a stage that went into the ranker; None where it is the last."""
        recipe, records = self.ranker.recipe, self.stages[stage]
        settings = {"ranking": recipe.training, "tuning": recipe.tuning}.get(stage)
        if settings is None or len(records) < 2:
            return None
        return int(records[-1]["epoch"]) - since_best(records, settings.keep)


@dataclass(frozen=True)
class Examination:
    """Runs on one split of one data set, in the order given."""

    dataset: Dataset
    description: Description
    split: str
    runs: tuple[Run, ...]
    differences: list[Json]  # of each run but the first from the first; see `compare_pairs`

    def as_dict(self) -> Json:
        """Give plain JSON values, without single queries but the worst, and without epochs."""
        head = {"data": self.dataset.name, "data_fingerprint": self.dataset.fingerprint}
        runs = {
            run.name: {
                "folder": str(run.folder),
                "recipe": run.ranker.recipe.values(),
                "seed": run.ranker.origin.seed,
                **run.evaluation.as_dict(),
                "mistakes": run.mistakes.as_dict(MAX_MISTAKES_IN_JSON),
                **({"geometry": run.geometry.as_dict()} if run.geometry else {}),
            }
            for run in self.runs
        }
        return {**head, "split": self.split, "runs": runs, "differences": self.differences}


def examine(
    folders: Sequence[Path],
    *,
    data: Path | None = None,
    split: str = "test",
    store: FeatureStore,
    device: str = "auto",
) -> Examination:
    """Measure finished runs on one split, and compare the others with the first.

    Without `data`, it is the data that all of them were trained on.

    Raises:
        DataError: if the split is missing or holds no label.
        RankerError: if a folder is no ranker's or stands twice, or, without `data`, if the runs
            are of different data, or theirs has moved or changed.
    """
    twice = [folder for folder, n in Counter(f.resolve() for f in folders).items() if n > 1]
    if twice:
        raise RankerError(f"{twice[0]}: given twice; name each run once")
    rankers = {folder: Ranker.load(folder, store=store, device=device) for folder in folders}
    dataset = _find_dataset(rankers, data)
    for ranker in rankers.values():
        ranker.prepare(dataset.split(split).texts)
    names, runs = _name_runs(rankers), []
    with progress_bar("Measuring", len(rankers), unit="runs") as advance:
        for name, (folder, ranker) in zip(names, rankers.items(), strict=True):
            advance(0, name)
            runs.append(_measure(name, folder, ranker, dataset, split))
            advance(1)
    first, *others = [(run.name, run.evaluation) for run in runs]
    tests = compare_pairs([(other_run, first) for other_run in others])
    return Examination(dataset, describe(dataset), split, tuple(runs), tests)


def _measure(name: str, folder: Path, ranker: Ranker, dataset: Dataset, split: str) -> Run:
    evaluation = evaluate(ranker, dataset, split=split)
    space = view = None
    if ranker.dense is not None:
        space = geometry(ranker, dataset, split=split)
        view = centroid_view(ranker, dataset, split=split)
    stages: dict[str, list[Json]] = {}
    for record in read_records(folder):
        stages.setdefault(record["stage"], []).append(record)
    misses = mistakes(evaluation.per_query)
    return Run(name, folder, ranker, evaluation, misses, space, view, stages)


def _find_dataset(rankers: dict[Path, Ranker], data: Path | None) -> Dataset:
    """Load the data to measure on; without `data`, all rankers were trained on the same."""
    first, ranker = next(iter(rankers.items()))
    dataset = Dataset.load(data) if data else None
    expected = dataset.fingerprint if dataset else ranker.origin.data_fingerprint
    for folder in (f for f, r in rankers.items() if r.origin.data_fingerprint != expected):
        fault = f"{folder}: trained on other data than {data or first}"
        if not data:
            raise RankerError(f"{fault}; report them apart, or give --data to measure all on it")
        log.warning("%s: it may have seen what is measured", fault)
    return dataset or ranker.origin.dataset()


def _name_runs(rankers: dict[Path, Ranker]) -> list[str]:
    """Give the shortest names that tell the runs apart: recipes, with seeds, or folders."""
    recipes = [ranker.recipe.name for ranker in rankers.values()]
    seeds = [f"{r.recipe.name}, seed {r.origin.seed}" for r in rankers.values()]
    for names in (recipes, seeds):
        if len(set(names)) == len(names):
            return names
    return list(map(str, rankers))
