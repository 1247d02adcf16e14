"""Finished runs looked at side by side: all that a report tells, measured on one split."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinrank.data import Dataset, Description, describe
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.evaluation import (
    Evaluation,
    Geometry,
    Mistakes,
    View,
    centroid_views,
    evaluate,
    geometry,
    mistakes,
)
from twinrank.experiments.epochs import by_stage
from twinrank.experiments.results import tested
from twinrank.progress import progress_bar
from twinrank.ranking import Ranker
from twinrank.training import read_records

Json = dict[str, Any]
LISTED = 20  # confused pairs, and misses, in JSON
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One run, and what it reaches.

    Attributes:
        name: by which it is told from the others.
        folder: where it is.
        ranker: what it left.
        evaluation: on the split.
        mistakes: in it.
        geometry: of its space; none if it ranks by words alone.
        views: of the same.
        stages: what it recorded, epoch by epoch, of each stage of its training.
    """

    name: str
    folder: Path
    ranker: Ranker
    evaluation: Evaluation
    mistakes: Mistakes
    geometry: Geometry | None
    views: tuple[View, View, View] | None
    stages: dict[str, list[Json]]


@dataclass(frozen=True)
class Examination:
    """Runs on one split of one data set.

    Attributes:
        dataset: what they were measured on.
        description: what it holds.
        split: which queries.
        runs: in the order given.
        differences: of each run but the first from the first; see `results.tested`.
    """

    dataset: Dataset
    description: Description
    split: str
    runs: tuple[Run, ...]
    differences: list[Json]

    def as_dict(self) -> Json:
        """Plain JSON values, without single queries but the worst, and without epochs."""
        head = {"data": self.dataset.name, "data_fingerprint": self.dataset.fingerprint}
        runs = {
            run.name: {
                "folder": str(run.folder),
                "recipe": run.ranker.recipe.values(),
                "seed": run.ranker.origin.seed,
                **run.evaluation.as_dict(),
                "mistakes": run.mistakes.as_dict(LISTED),
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

    Args:
        folders: of the runs.
        data: what to measure on; none takes what all of them were trained on.
        split: which queries.
        store: features, computed once.
        device: where to compute.

    Raises:
        DataError: if the split is missing or holds no label.
        RankerError: if a folder is no ranker's or stands twice, or, without `data`, if the runs
            are of different data, or theirs has moved or changed.
    """
    twice = [folder for folder, n in Counter(f.resolve() for f in folders).items() if n > 1]
    if twice:
        raise RankerError(f"{twice[0]}: given twice; name each run once")
    rankers = [Ranker.load(folder, store=store, device=device) for folder in folders]
    dataset = _dataset(folders, rankers, data)
    queries = dataset.split(split).texts
    for ranker in rankers:
        ranker.prepare(queries)
    runs = []
    with progress_bar("Measuring", len(rankers), unit="runs") as advance:
        for name, folder, ranker in zip(_names(folders, rankers), folders, rankers, strict=True):
            advance(0, name)
            runs.append(_examined(name, folder, ranker, dataset, split))
            advance(1)
    first, *others = [(run.name, run.evaluation) for run in runs]
    differences = tested([(other, first) for other in others])
    return Examination(dataset, describe(dataset), split, tuple(runs), differences)


def _examined(name: str, folder: Path, ranker: Ranker, dataset: Dataset, split: str) -> Run:
    evaluation = evaluate(ranker, dataset, split=split)
    spatial = ranker.dense is not None
    return Run(
        name,
        folder,
        ranker,
        evaluation,
        mistakes(evaluation.per_query),
        geometry(ranker, dataset, split=split) if spatial else None,
        centroid_views(ranker, dataset, split=split) if spatial else None,
        by_stage(read_records(folder)),
    )


def _dataset(folders: Sequence[Path], rankers: Sequence[Ranker], data: Path | None) -> Dataset:
    trained_on = [ranker.origin.data_fingerprint for ranker in rankers]
    if data is None:
        for folder, theirs in zip(folders, trained_on, strict=True):
            if theirs != trained_on[0]:
                raise RankerError(
                    f"{folder}: trained on other data than {folders[0]} (fingerprints {theirs} and "
                    f"{trained_on[0]}); report them apart, or give --data to measure all on it"
                )
        return rankers[0].origin.dataset()
    dataset = Dataset.load(data)
    for folder, theirs in zip(folders, trained_on, strict=True):
        if theirs != dataset.fingerprint:
            log.warning(
                "%s: trained on other data than %s: it may have seen what is measured",
                folder,
                data,
            )
    return dataset


def _names(folders: Sequence[Path], rankers: Sequence[Ranker]) -> list[str]:
    """The shortest names that tell the runs apart: recipes, with seeds, or folders."""
    recipes = [ranker.recipe.name for ranker in rankers]
    seeds = [f"{r.recipe.name}, seed {r.origin.seed}" for r in rankers]
    for names in (recipes, seeds):
        if len(set(names)) == len(names):
            return names
    return list(map(str, folders))
