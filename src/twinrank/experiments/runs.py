"""Many runs: planned, each in a folder of its own, and carried out several at once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from joblib import Parallel, delayed, parallel_config

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.encoding.encoder import resolve_device
from twinrank.errors import RecipeError
from twinrank.progress import progress_bar
from twinrank.ranking.storage import CURRENT
from twinrank.recipe import Recipe
from twinrank.training import TrainingData, build_reader, train

PRETRAINED = "pretrained"
WATCH = "watches the parent"

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Calls(Protocol):
    """What carries out many calls of a function: `at_once`, or a cluster."""

    def __call__(  # noqa: D102
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        workers: int | None,
        device: str,
        label: str,
    ) -> list[Result]: ...


@dataclass(frozen=True)
class Planned:
    """One run that is to be, or is already, in a folder."""

    dataset: Dataset
    recipe: Recipe
    seed: int
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether its ranker is there."""
        return (self.folder / CURRENT).exists()


def plan(
    dataset: Dataset, recipes: Sequence[Recipe], *, seeds: Iterable[int], out: Path
) -> list[Planned]:
    """The runs of some recipes: one of each seed, or the first alone where nothing is trained.

    Each has the folder `out/<recipe>-<digest of recipe and data>/seed-<n>`.

    Raises:
        RecipeError: if two recipes have one name.
    """
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise RecipeError("two recipes have the same name; give each its own")
    numbers = tuple(seeds)
    return [
        Planned(dataset, recipe, seed, home / f"seed-{seed}")
        for recipe in recipes
        for home in [out / f"{recipe.name}-{_digest(recipe, dataset)}"]
        for seed in (numbers if recipe.towers else numbers[:1])
    ]


def carry_out(
    planned: Sequence[Planned], *, out: Path, store: FeatureStore, device: str, workers: int | None
) -> None:
    """Carry out the runs that are not finished; pre-training they share is done once.

    Args:
        planned: in any order.
        out: folder of what runs share.
        store: every text is encoded into it before the first run starts.
        device: where encoder and towers run.
        workers: runs at once; see `at_once`.
    """
    due = [run for run in planned if not run.finished]
    if len(due) < len(planned):
        log.info("%d of %d runs were in %s already", len(planned) - len(due), len(planned), out)
    for run in {(run.recipe, run.dataset.fingerprint): run for run in due}.values():
        encode(run.dataset, run.recipe, store=store, device=device)
    at_once(
        partial(_carry_out, out=out, store=store, device=device),
        due,
        workers=workers,
        device=device,
        label="Runs",
    )


def encode(dataset: Dataset, recipe: Recipe, *, store: FeatureStore, device: str) -> None:
    """Store what runs of a recipe will read, unless each tunes an encoder of its own."""
    if recipe.encoder and not recipe.tuning:
        TrainingData.read(dataset, recipe, build_reader(dataset, recipe, store, device))


def _carry_out(run: Planned, *, out: Path, store: FeatureStore, device: str) -> None:
    train(
        run.dataset,
        run.recipe,
        seed=run.seed,
        out=run.folder,
        store=store,
        shared=out / PRETRAINED,
        device=device,
    )


def at_once(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    device: str,
    label: str,
) -> list[Result]:
    """The results of a function for some items, in their order.

    Args:
        function: with one worker it is called here; with more, in processes of their own that
            share the cores evenly, where it shows no progress.
        items: what it is called with.
        workers: how many calls at once; none means one for each core, at most 4, and one alone
            for an accelerator.
        device: where the calls compute.
        label: of the progress bar.
    """
    cores = os.cpu_count() or 1
    if workers is None:
        workers = min(cores, 4) if resolve_device(device) == "cpu" else 1
    workers = min(workers, len(items))
    if workers < 2:
        return [function(item) for item in items]
    threads = max(1, cores // workers)
    with (
        progress_bar(f"{label}, {workers} at once", len(items), unit="runs") as advance,
        parallel_config("loky", n_jobs=workers, inner_max_num_threads=threads),
    ):
        results = []
        calls = (delayed(_in_worker)(os.getpid(), function, item) for item in items)
        for result in Parallel(return_as="generator")(calls):
            results.append(result)
            advance(1)
    return results


def _in_worker(parent: int, function: Callable[[Item], Result], item: Item) -> Result:
    """A call in a process that ends with its parent, and draws over no progress bar of its."""
    os.environ["TTY_COMPATIBLE"] = "0"  # read by rich
    watches = any(thread.name == WATCH for thread in threading.enumerate())
    if not watches:
        threading.Thread(target=_end_with, args=(parent,), name=WATCH, daemon=True).start()
    return function(item)


def _end_with(parent: int) -> None:
    """End this process once its parent has been killed: loky's workers would stay for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _digest(recipe: Recipe, dataset: Dataset) -> str:
    choices = json.dumps([recipe.values(), dataset.fingerprint], sort_keys=True)
    return hashlib.sha256(choices.encode()).hexdigest()[:8]
