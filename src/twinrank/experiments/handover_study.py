"""The handover's study: its recipes and controls on one data set, and the values its page shows.

Its main question: does the published pre-training collapse, why, and what mends it? Controls that
rank right after pre-training take as many steps as the published one. Some recipes are also trained
with fewer labels, of all types or of one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import DataError
from twinrank.evaluation import (
    Evaluation,
    Geometry,
    Signs,
    compare_pairs,
    evaluate,
    geometry,
    signs_of_collapse,
)
from twinrank.experiments.compare import Entry, entry_of
from twinrank.experiments.runs import Planned, at_once, carry_out, plan
from twinrank.ranking import Ranker
from twinrank.recipe import PretrainingSettings, Recipe
from twinrank.training import check_pairs, count_batches, read_records

CURVES = ("accuracy@3", "loss", "batches")
STAGES = ("pretraining", "ranking")
Json = dict[str, Any]
Space = tuple[Geometry, Signs]
Measured = dict[Path, tuple[Evaluation, Space | None]]  # by the folder of the run
FewerLabels = tuple[float, str | None]  # a share of the labels, of one type or of all (None)

log = logging.getLogger(__name__)


PUBLISHED = ("handover-barlow-zero-shot", "handover-barlow-inherit", "handover-barlow-freeze")
MENDED = ("barlow-zero-shot", "barlow-inherit", "barlow-freeze", "barlow-joint")
RECIPES = (
    *("bm25", "zero-shot-cls", "handover-baseline", "handover-dual", *PUBLISHED),
    *("zero-shot", "residual", *MENDED),
)
# Each isolates a cause. One that the data cannot carry out is left out.
CONTROLS = (
    "control-no-steps",
    "control-noise",
    "control-across",
    "control-shuffled",
    "control-large-answers",
    "control-small-batches",
    "control-all-statistics",
    "control-across-freeze",
)
# Recipes that read other parts of a text, each with its point of comparison.
READING = (
    ("handover-tfidf", "handover-baseline"),
    ("handover-sections", "handover-tfidf"),
    ("handover-512", "handover-tfidf"),
    ("tfidf-128", "residual"),
)
FEW_LABELS = ("residual", "barlow-inherit")  # trained with fewer labels, too
SHARES = (0.05, 0.1, 0.25, 0.5)  # of the training labels
RARE_SHARE = 0.1  # of the labels of one type, in turn each, with all labels of the others
MAX_FEW_SEEDS = 3  # with fewer labels; each draws other labels
PICTURED = (  # the page shows their space
    *("zero-shot-cls", "handover-barlow-zero-shot", "control-across"),
    *("handover-dual", "handover-barlow-freeze", "control-across-freeze"),
)


class Study(NamedTuple):
    """A study that was carried out."""

    results: Json  # plain JSON values: the contents of results.json
    pictured: dict[str, Signs]  # of the pictured recipes (seed 0), with their planes


def run_study(
    dataset: Dataset,
    *,
    added: Sequence[Recipe] = (),
    seeds: int = 3,
    split: str = "test",
    out: Path,
    store: FeatureStore,
    device: str = "auto",
    workers: int | None = None,
) -> Study:
    """Carry out the runs that `out` does not hold yet, and measure all.

    Args:
        dataset: with train, validation and the split to measure on.
        added: recipes beside the study's own.
        seeds: of each recipe that trains; fewer labels are drawn anew for each.
        split: what to measure on.
        out: folder for the runs.
        store: features, computed once.
        device: where to compute.
        workers: runs at once; none leaves it to `at_once`.
    """
    recipes, left_out = _choose_recipes(dataset, added)
    full = plan(dataset, [recipe for _, recipe in recipes], seeds=range(seeds), out=out)
    fewer = _plan_fewer_labels(dataset, seeds=seeds, out=out)
    runs = [*full, *chain(*fewer.values())]
    carry_out(runs, store=store, device=device, workers=workers)
    measure = partial(
        _measure, fingerprint=dataset.fingerprint, split=split, store=store, device=device
    )
    values = at_once(measure, runs, workers=workers, device=device, label="Measuring")
    measured = {run.folder: value for run, value in zip(runs, values, strict=True)}
    entries = _collect_entries(full, measured)
    parts = {recipe.name: part for part, recipe in recipes}
    results = {
        "study": "handover",
        "data": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "split": split,
        "queries": next(iter(entries.values())).mean.counts,
        "labels": int((dataset.labels["split"] == "train").sum()),
        "seeds": seeds,
        "arms": [_describe_arm(parts[n], entry, full, measured) for n, entry in entries.items()],
        "left_out": left_out,
        "differences": _compare_pretraining(
            {name: e for name, e in entries.items() if parts[name] != "controls"}
        ),
        "reading": _compare(entries, READING),
        "fewer_labels": _describe_fewer_labels(
            entries, {k: _collect_entries(few, measured) for k, few in fewer.items()}
        ),
    }
    spaces = {run.recipe.name: measured[run.folder][1] for run in full if run.seed == 0}
    pictured = {name: space[1] for name in PICTURED if (space := spaces.get(name))}
    return Study(results, pictured)


def _choose_recipes(
    dataset: Dataset, added: Sequence[Recipe]
) -> tuple[list[tuple[str, Recipe]], dict[str, str]]:
    """Load the recipes, each with its part of the study, and say why controls are left out."""
    names = {
        "recipes": RECIPES,
        "controls": CONTROLS,
        "reading": [name for name, _ in READING],
    }
    chosen = [(part, Recipe.load(name)) for part, of in names.items() for name in of]
    standard = [recipe for _, recipe in chosen]
    chosen += [("added", recipe) for recipe in added if recipe not in standard]
    left_out = {}
    for part, recipe in chosen:
        try:
            if part == "controls" and recipe.pretraining:
                check_pairs(dataset, recipe.pretraining)
        except DataError as error:
            left_out[recipe.name] = error.faults[0].what
            log.warning("%s is left out: %s", recipe.name, error.faults[0].what)
    published = next((r.pretraining for _, r in chosen if r.name == PUBLISHED[0]), None)
    recipes = [
        (part, _match_steps(recipe, published, dataset) if part == "controls" else recipe)
        for part, recipe in chosen
        if recipe.name not in left_out
    ]
    return recipes, left_out


def _match_steps(recipe: Recipe, published: PretrainingSettings | None, dataset: Dataset) -> Recipe:
    """Give a control that ranks right after pre-training the published number of steps.

    One with a ranker on top keeps the published number of epochs.
    """
    settings = recipe.pretraining
    if settings is None or published is None or settings.use != "zero-shot":
        return recipe
    steps = published.epochs * count_batches(dataset, published)
    epochs = max(1, round(steps / count_batches(dataset, settings)))
    return recipe.model_copy(update={"pretraining": settings.model_copy(update={"epochs": epochs})})


def _plan_fewer_labels(
    dataset: Dataset, *, seeds: int, out: Path
) -> dict[FewerLabels, list[Planned]]:
    """Plan the runs with fewer labels, which are drawn anew for each seed."""
    recipes = [Recipe.load(name) for name in FEW_LABELS]
    rare = dataset.types if len(dataset.types) > 1 else ()
    fewer: dict[FewerLabels, list[Planned]] = {(share, None): [] for share in SHARES}
    fewer |= {(RARE_SHARE, kind): [] for kind in rare}
    for (share, kind), runs in fewer.items():
        for seed in range(min(seeds, MAX_FEW_SEEDS)):
            data = dataset.fewer_labels(share, kind=kind, seed=seed)
            runs += plan(data, recipes, seeds=[seed], out=out)
    return fewer


def _measure(
    run: Planned, *, fingerprint: str, split: str, store: FeatureStore, device: str
) -> tuple[Evaluation, Space | None]:
    """Measure a run; its space only if it has one, and saw the labels of the whole data set."""
    ranker = Ranker.load(run.folder, store=store, device=device)
    evaluation = evaluate(ranker, run.dataset, split=split, resamples=0)  # the mean's are shown
    spatial = ranker.dense is not None and run.dataset.fingerprint == fingerprint
    if not spatial:
        return evaluation, None
    signs = signs_of_collapse(ranker, run.dataset, split=split)
    return evaluation, (geometry(ranker, run.dataset, split=split), signs)


def _collect_entries(runs: Sequence[Planned], measured: Measured) -> dict[str, Entry]:
    """Gather the seeds of each recipe, recipes in the order of their first run."""
    names = dict.fromkeys(run.recipe.name for run in runs)
    return {
        name: entry_of([(r, measured[r.folder][0]) for r in runs if r.recipe.name == name])
        for name in names
    }


def _describe_arm(part: str, entry: Entry, full: Sequence[Planned], measured: Measured) -> Json:
    """Give the values of one recipe: figures, space, and curves of every seed."""
    runs = [run for run in full if run.recipe == entry.recipe]
    records = [read_records(run.folder) for run in runs]
    spaces = [space for run in runs if (space := measured[run.folder][1])]
    return {
        "name": entry.recipe.name,
        "part": part,
        **entry.as_dict(),
        "geometry": _average([space.figures for space, _ in spaces]),
        "signs": _average([signs.figures for _, signs in spaces]),
        "hubs": spaces[0][1].hubs if spaces else None,
        "dim": spaces[0][0].dim if spaces else None,
        **_describe_pretraining(records),
        "epochs": {
            stage: [curve for seed in records if (curve := _collect_curves(seed, stage))]
            for stage in STAGES
        },
    }


def _describe_pretraining(records: Sequence[list[Json]]) -> Json:
    """Give the steps of pre-training, their expected loss, and the loss of each step and seed.

    `expected_loss` is that of the same batches with partners matched at random, mean over steps;
    None where the formula says nothing.
    """
    seeds = [[r for r in seed if "losses" in r and r["stage"] == STAGES[0]] for seed in records]
    if not seeds or not seeds[0]:
        return {}
    expected = [record["expected_loss"] for record in seeds[0]]
    return {
        "steps": sum(record["batches"] for record in seeds[0]),
        "pairs_per_batch": fmean(record["pairs"] / record["batches"] for record in seeds[0]),
        "expected_loss": None if None in expected else fmean(expected),
        "losses": [[loss for record in seed for loss in record["losses"]] for seed in seeds],
    }


def _average(seeds: Sequence[Mapping[str, float | None]]) -> Json | None:
    """Give each figure's mean and standard deviation over seeds; None where a seed has none."""
    if not seeds:
        return None
    table: Json = {}
    for name in seeds[0]:
        values = [figures[name] for figures in seeds]
        known = [value for value in values if value is not None]
        complete = len(known) == len(values)
        spread = float(np.std(known, ddof=1)) if complete and len(known) > 1 else None
        table[name] = {"mean": float(np.mean(known)) if complete else None, "spread": spread}
    return table


def _collect_curves(records: Sequence[Json], stage: str) -> Json:
    """Give what a seed recorded at each epoch of a stage; nothing if it had no such stage."""
    epochs = [record for record in records if record["stage"] == stage]
    if not epochs:
        return {}
    curves: Json = {"epoch": [record["epoch"] for record in epochs]}
    for name in CURVES:
        if any(name in record for record in epochs):
            curves[name] = [record.get(name) for record in epochs]
    return curves


def _compare_pretraining(entries: dict[str, Entry]) -> list[Json]:
    """Test each recipe that pre-trains against the same without, where the study has both."""
    names = {_describe_choices(entry.recipe): name for name, entry in entries.items()}
    pairs = []
    for name, entry in entries.items():
        settings = entry.recipe.pretraining
        if settings is None:
            continue
        gone = {"pretraining": None, **({"towers": None} if settings.use == "zero-shot" else {})}
        bare = names.get(_describe_choices(entry.recipe.model_copy(update=gone)))
        if bare is not None:
            pairs.append((name, bare))
    return _compare(entries, pairs)


def _describe_choices(recipe: Recipe) -> str:
    return recipe.model_dump_json(exclude={"name"})


def _compare(entries: dict[str, Entry], pairs: Sequence[tuple[str, str]]) -> list[Json]:
    return compare_pairs(
        [((arm, entries[arm].mean), (base, entries[base].mean)) for arm, base in pairs]
    )


def _describe_fewer_labels(
    entries: dict[str, Entry], fewer: dict[FewerLabels, dict[str, Entry]]
) -> Json:
    """Give quality by share of the labels, all of them included, and tests against the first.

    A row's `fewer_of` is the type whose labels were fewer; None means all types.
    """
    names = {Recipe.load(name).name for name in FEW_LABELS}
    groups = fewer | {(1.0, None): {n: e for n, e in entries.items() if n in names}}
    rows, compared = [], []
    for (share, kind), of in groups.items():
        labels = {"share": share, "fewer_of": kind}
        rows += [{**labels, "name": name, **e.as_dict()} for name, e in of.items()]
        first, *others = of
        compared += [{**labels, **d} for d in _compare(of, [(name, first) for name in others])]
    return {"rows": rows, "differences": compared}
