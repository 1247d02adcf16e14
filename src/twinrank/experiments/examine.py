"""Finished runs, measured side by side on one split: the values of their report."""

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
from twinrank.experiments.compare import compare_pairs
from twinrank.progress import progress_bar
from twinrank.ranking import Ranker
from twinrank.training import read_records, since_best

Json = dict[str, Any]
MAX_MISTAKES_IN_JSON = 20  # confused pairs, and misses

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One run, measured.

    Attributes:
        name: that tells it from the others.
        folder: of the run.
        ranker: that it left.
        evaluation: on the split.
        mistakes: in the evaluation.
        geometry: of its space; None if it ranks by words alone.
        views: of the space.
        stages: the records of each stage of its training, an epoch each.
    """

    name: str
    folder: Path
    ranker: Ranker
    evaluation: Evaluation
    mistakes: Mistakes
    geometry: Geometry | None
    views: tuple[View, View, View] | None
    stages: dict[str, list[Json]]

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
    """Runs on one split of one data set.

    Attributes:
        dataset: that they were measured on.
        description: of the data set.
        split: of the queries.
        runs: in the order given.
        differences: of each run but the first from the first; see `compare_pairs`.
    """

    dataset: Dataset
    description: Description
    split: str
    runs: tuple[Run, ...]
    differences: list[Json]

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

    Args:
        folders: of the runs.
        data: to measure on; None takes the data that all of them were trained on.
        split: of the queries.
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
    dataset = _find_dataset(folders, rankers, data)
    queries = dataset.split(split).texts
    for ranker in rankers:
        ranker.prepare(queries)
    runs = []
    with progress_bar("Measuring", len(rankers), unit="runs") as advance:
        for name, folder, ranker in zip(_names(folders, rankers), folders, rankers, strict=True):
            advance(0, name)
            runs.append(_measure(name, folder, ranker, dataset, split))
            advance(1)
    first, *others = [(run.name, run.evaluation) for run in runs]
    differences = compare_pairs([(named, first) for named in others])
    return Examination(dataset, describe(dataset), split, tuple(runs), differences)


def _measure(name: str, folder: Path, ranker: Ranker, dataset: Dataset, split: str) -> Run:
    evaluation = evaluate(ranker, dataset, split=split)
    spatial = ranker.dense is not None
    stages: dict[str, list[Json]] = {}
    for record in read_records(folder):
        stages.setdefault(record["stage"], []).append(record)
    return Run(
        name=name,
        folder=folder,
        ranker=ranker,
        evaluation=evaluation,
        mistakes=mistakes(evaluation.per_query),
        geometry=geometry(ranker, dataset, split=split) if spatial else None,
        views=centroid_views(ranker, dataset, split=split) if spatial else None,
        stages=stages,
    )


def _find_dataset(folders: Sequence[Path], rankers: Sequence[Ranker], data: Path | None) -> Dataset:
    fingerprints = [ranker.origin.data_fingerprint for ranker in rankers]
    if data is None:
        for folder, fingerprint in zip(folders, fingerprints, strict=True):
            if fingerprint != fingerprints[0]:
                raise RankerError(
                    f"{folder}: trained on other data than {folders[0]} (fingerprints "
                    f"{fingerprint} and {fingerprints[0]}); report them apart, or give --data to "
                    "measure all on it"
                )
        return rankers[0].origin.dataset()
    dataset = Dataset.load(data)
    for folder, fingerprint in zip(folders, fingerprints, strict=True):
        if fingerprint != dataset.fingerprint:
            warning = "%s: trained on other data than %s: it may have seen what is measured"
            log.warning(warning, folder, data)
    return dataset


def _names(folders: Sequence[Path], rankers: Sequence[Ranker]) -> list[str]:
    """Give the shortest names that tell the runs apart: recipes, with seeds, or folders."""
    recipes = [ranker.recipe.name for ranker in rankers]
    seeds = [f"{r.recipe.name}, seed {r.origin.seed}" for r in rankers]
    for names in (recipes, seeds):
        if len(set(names)) == len(names):
            return names
    return list(map(str, folders))
