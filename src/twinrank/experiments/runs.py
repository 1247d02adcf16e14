"""Many runs: planned, each in a folder of its own, and carried out several at once."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config

from twinrank import progress
from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.encoding.encoder import resolve_device
from twinrank.errors import TwinrankError
from twinrank.ranking.storage import CURRENT
from twinrank.recipe import Recipe
from twinrank.training import TrainingData, build_reader, train

Item = TypeVar("Item")
Result = TypeVar("Result")
Calls = Callable[..., list[Any]]  # carries out many calls of a function: `at_once`, or a cluster

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """One run that is to be, or is already, in a folder."""

    dataset: Dataset
    recipe: Recipe
    seed: int
    folder: Path


def plan(
    dataset: Dataset, recipes: Sequence[Recipe], *, seeds: Iterable[int], out: Path
) -> list[Planned]:
    """List the runs of some recipes: one of each seed, or the first alone if nothing is trained.

    Each has the folder `out/<recipe>-<digest of recipe and data>/seed-<n>`.

    Raises:
        TwinrankError: if two recipes have one name.
    """
    if len({recipe.name for recipe in recipes}) < len(recipes):
        raise TwinrankError("two recipes have the same name; give each its own")
    numbers, runs = tuple(seeds), list[Planned]()
    for recipe in recipes:
        choices = json.dumps([recipe.values(), dataset.fingerprint], sort_keys=True)
        folder = out / f"{recipe.name}-{hashlib.sha256(choices.encode()).hexdigest()[:8]}"
        runs += [
            Planned(dataset, recipe, seed, folder / f"seed-{seed}")
            for seed in (numbers if recipe.towers or recipe.tuning else numbers[:1])
        ]
    return runs


def carry_out(
    planned: Sequence[Planned], *, store: FeatureStore, device: str, workers: int | None
) -> None:
    """Carry out the runs that are not finished.

    Every text is encoded before the first run starts; for `workers` see `at_once`.
    """
    # Workers stay for a later call, in the folder that was the current one at first.
    due = [
        replace(run, folder=run.folder.resolve())
        for run in planned
        if not (run.folder / CURRENT).exists()
    ]
    if len(due) < len(planned):
        log.info("%d of %d runs are finished already", len(planned) - len(due), len(planned))
    for run in {(run.recipe, run.dataset.fingerprint): run for run in due}.values():
        encode(run.dataset, run.recipe, store=store, device=device)
    run_one = partial(_carry_out, store=store, device=device)
    at_once(run_one, due, workers=workers, device=device, label="Runs")


def encode(dataset: Dataset, recipe: Recipe, *, store: FeatureStore, device: str) -> None:
    """Store the features that runs of a recipe will read, unless each tunes its own encoder."""
    if recipe.encoder and not recipe.tuning:
        TrainingData.read(dataset, recipe, build_reader(dataset, recipe, store, device))


def _carry_out(run: Planned, **options: Any) -> None:  # noqa: ANN401 (those of `train`)
    # Measured on test, or on validation: by the ranker that was chosen there.
    train(run.dataset, run.recipe, seed=run.seed, out=run.folder, refit=False, **options)


def at_once(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    device: str,
    label: str,
) -> list[Result]:
    """Call a function with each of some items, several at once; give the results in their order.

    With one worker it is called here; with more, in processes of their own that share the cores
    evenly, where it shows no progress. None means a worker for each core, at most 4, and one alone
    for an accelerator. The label is of the progress bar.
    """
    cores = os.cpu_count() or 1
    if workers is None:
        workers = min(cores, 4) if resolve_device(device) == "cpu" else 1
    workers = min(workers, len(items))
    if workers < 2:
        return [function(item) for item in items]
    threads, results = max(1, cores // workers), []
    with (
        progress.progress_bar(f"{label}, {workers} at once", len(items), unit="runs") as advance,
        parallel_config("loky", n_jobs=workers, inner_max_num_threads=threads),
    ):
        calls = (delayed(_call_in_worker)(os.getpid(), function, item) for item in items)
        for result in Parallel(return_as="generator")(calls):
            results.append(result)
            advance(1)
    return results


def _call_in_worker(parent: int, function: Callable[[Item], Result], item: Item) -> Result:
    """Call a function in a process that ends with its parent, and draws no progress bar."""
    progress.SHOWN_AFTER_S = math.inf  # the parent has a bar
    _watch(parent)
    return function(item)


@cache
def _watch(parent: int) -> None:
    """End this process once its parent has been killed: loky's workers would stay for ever."""

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
