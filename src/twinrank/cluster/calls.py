"""Calls of one function carried out by a cluster's workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from twinrank.cluster.connection import LOST, Slot, worker_error
from twinrank.errors import ClusterError
from twinrank.progress import progress_bar

RETRIES = 3  # of a call whose worker died

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


def calls_on_cluster(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    device: str,
    label: str,
) -> list[Result]:
    """What `at_once` gives, each call by a worker of the cluster that has a core free.

    Args:
        function: what it holds is sent once, not with each call.
        items: what it is called with.
        workers: calls at once, at most; none means as many as the cluster has room for.
        device: where the calls compute.
        label: of the progress bar.

    Raises:
        ClusterError: if a call was lost with its worker, and again `RETRIES` times.
    """
    slot = Slot.of(device)
    stored = ray.put(function)
    call: Any = ray.remote(_called).options(max_retries=RETRIES, **slot.options)
    most = min(workers or len(items), len(items))
    numbers = iter(range(len(items)))
    results: dict[int, Result] = {}
    under_way: dict[Any, int] = {}

    def begin() -> None:
        if (number := next(numbers, None)) is not None:
            under_way[call.remote(stored, items[number])] = number

    for _ in range(most):
        begin()
    shown = f"{label} on the cluster, {min(most, slot.count)} at once"
    try:
        with progress_bar(shown, len(items), unit="runs") as advance:
            while under_way:
                (ready,), _ = ray.wait(list(under_way))
                try:
                    results[under_way.pop(ready)] = ray.get(ready)
                except RayTaskError as error:
                    raise worker_error(error) from None
                except LOST as error:
                    raise ClusterError(
                        f"{label}: a call lost its worker {RETRIES + 1} times; the logs "
                        "of Ray on their machines say why"
                    ) from error
                advance(1)
                begin()
    finally:
        for ref in under_way:
            ray.cancel(ref, force=True)
    return [results[number] for number in range(len(items))]


def _called(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
