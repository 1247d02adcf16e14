"""Several recipes on one data set, over several seeds, measured alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.evaluation import (
    METRICS,
    Difference,
    Evaluation,
    differences,
    evaluate,
    holm,
    summarise,
)
from twinrank.experiments.runs import Planned, carry_out, plan
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe

TESTED = ("accuracy@3", "map@10")
Named = tuple[str, Evaluation]


@dataclass(frozen=True)
class Entry:
    """One recipe in a comparison.

    Attributes:
        recipe: what was carried out.
        seeds: with which seeds; an untrained recipe depends on none and runs once.
        evaluations: one of every seed.
        mean: the evaluation of the mean over seeds, query by query: its intervals say how
            far other queries could have moved the recipe's figures.
    """

    recipe: Recipe
    seeds: tuple[int, ...]
    evaluations: tuple[Evaluation, ...]
    mean: Evaluation

    def spread(self, metric: str, kind: str | None = None) -> float | None:
        """Standard deviation over seeds of a figure, overall or of a type; none for one seed."""
        if len(self.evaluations) < 2:
            return None
        figures = [e.types[kind][metric] if kind else e.overall[metric] for e in self.evaluations]
        return float(np.std(figures, ddof=1))

    def spreads(self) -> dict[str, Any]:
        """Spread over seeds of every figure, overall and by type."""
        types = {kind: {m: self.spread(m, kind) for m in METRICS} for kind in self.mean.types}
        return {"overall": {m: self.spread(m) for m in METRICS}, "types": types}


@dataclass(frozen=True)
class Comparison:
    """Recipes measured on one split of one data set."""

    data: str
    data_fingerprint: str
    split: str
    entries: tuple[Entry, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: each recipe's means, spreads over seeds, intervals, single seeds."""
        recipes = [
            {
                "recipe": entry.recipe.values(),
                **entry.mean.as_dict(),
                "spread": entry.spreads(),
                "seeds": {
                    str(seed): evaluation.as_dict()
                    for seed, evaluation in zip(entry.seeds, entry.evaluations, strict=True)
                },
            }
            for entry in self.entries
        ]
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
    evaluations = tuple(evaluation for _, evaluation in runs)
    seeds = tuple(run.seed for run, _ in runs)
    return Entry(runs[0][0].recipe, seeds, evaluations, _mean(evaluations))


def _mean(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Each query's mean over seeds, evaluated; what is one ranker's (confidence) is left out."""
    first = evaluations[0].per_query.select("id", "type", "thread")
    means = {
        metric: np.mean([e.per_query[metric].to_numpy() for e in evaluations], axis=0)
        for metric in METRICS
    }
    return summarise(first.with_columns(pl.Series(name, values) for name, values in means.items()))


def compare_pairs(pairs: Iterable[tuple[Named, Named]]) -> list[dict[str, Any]]:
    """Test the first of each pair minus the second, overall and by type.

    Holm's correction is over all tests of a metric. A row holds the names, `arm` and `without`,
    the values of `Difference`, and `p_holm`.
    """
    rows: list[tuple[dict[str, Any], Difference]] = [
        ({"arm": arm, "without": without}, difference)
        for (arm, first), (without, second) in pairs
        for difference in differences(first, second, TESTED)
    ]
    corrected = np.ones(len(rows))
    for metric in TESTED:
        family = [i for i, (_, difference) in enumerate(rows) if difference.metric == metric]
        corrected[family] = holm([rows[i][1].p for i in family])
    return [
        {**names, **difference.as_dict(), "p_holm": float(p)}
        for (names, difference), p in zip(rows, corrected, strict=True)
    ]
