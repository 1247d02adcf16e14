"""Several recipes on one data set, over several seeds, measured alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.evaluation import METRICS, Evaluation, evaluate, summarise
from twinrank.experiments.runs import Planned, carry_out, plan
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe


@dataclass(frozen=True)
class Entry:
    """One recipe in a comparison.

    Attributes:
        recipe: what was carried out.
        seeds: with which seeds; an untrained recipe depends on none and runs once.
        each: the evaluation of every seed.
        mean: the evaluation of the mean over seeds, query by query: its intervals say how
            far other queries could have moved the recipe's figures.
    """

    recipe: Recipe
    seeds: tuple[int, ...]
    each: tuple[Evaluation, ...]
    mean: Evaluation

    def spread(self, metric: str, kind: str | None = None) -> float | None:
        """Standard deviation over seeds of a figure, overall or of a type; none for one seed."""
        if len(self.each) < 2:
            return None
        figures = [e.types[kind][metric] if kind else e.overall[metric] for e in self.each]
        return float(np.std(figures, ddof=1))


@dataclass(frozen=True)
class Comparison:
    """Recipes measured on one split of one data set."""

    data: str
    data_fingerprint: str
    split: str
    entries: tuple[Entry, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: each recipe's means, spreads over seeds, intervals, single seeds."""
        recipes = []
        for entry in self.entries:
            spreads = {
                "overall": {m: entry.spread(m) for m in METRICS},
                "types": {t: {m: entry.spread(m, t) for m in METRICS} for t in entry.mean.types},
            }
            recipes.append(
                {
                    "recipe": entry.recipe.values(),
                    **entry.mean.as_dict(),
                    "spread": spreads,
                    "seeds": {
                        str(seed): evaluation.as_dict()
                        for seed, evaluation in zip(entry.seeds, entry.each, strict=True)
                    },
                }
            )
        head = {"data": self.data, "data_fingerprint": self.data_fingerprint, "split": self.split}
        return {**head, "recipes": recipes}


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
    """Carry recipes out and measure them; what `out` holds already is not done again.

    Args:
        dataset: what to train and measure on.
        recipes: each under a name of its own.
        seeds: how many (0, 1, ...), for recipes that are trained.
        split: what to measure on.
        out: a folder for the runs: `<recipe>-<digest of recipe and data>/seed-<n>`.
        store: features, computed once for all recipes.
        device: where encoder and towers run.
        workers: how many runs are carried out at once; none leaves it to `at_once`.

    Raises:
        RecipeError: if two recipes have one name.
    """
    planned = plan(dataset, recipes, seeds=range(seeds), out=out)
    carry_out(planned, out=out, store=store, device=device, workers=workers)
    evaluations = [
        evaluate(Ranker.load(run.folder, store=store, device=device), dataset, split=split)
        for run in planned
    ]
    entries = [
        entry_of([pair for pair in zip(planned, evaluations, strict=True) if pair[0].recipe == r])
        for r in recipes
    ]
    return Comparison(dataset.name, dataset.fingerprint, split, tuple(entries))


def entry_of(runs: Sequence[tuple[Planned, Evaluation]]) -> Entry:
    """The measured runs of one recipe, an entry."""
    each = tuple(evaluation for _, evaluation in runs)
    return Entry(runs[0][0].recipe, tuple(run.seed for run, _ in runs), each, _mean(each))


def _mean(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Each query's mean over seeds, evaluated; what is one ranker's (confidence) is left out."""
    first = evaluations[0].per_query.select("id", "type", "thread")
    means = {
        metric: np.mean([e.per_query[metric].to_numpy() for e in evaluations], axis=0)
        for metric in METRICS
    }
    return summarise(first.with_columns(pl.Series(name, values) for name, values in means.items()))
