"""Micro-batching: what waits while a batch is being worked on makes the next batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Generic, TypeVar

WAIT_S = 0.002  # for a batch as large as the last

Item = TypeVar("Item")
Result = TypeVar("Result")


class BusyError(Exception):
    """It is better to try again later; says why."""


class Batcher(Generic[Item, Result]):
    """Collects what is asked for at the same time, and works on it together, off the event loop.

    One request alone is worked on at once. Where the last batch had several items, the next waits
    a little for as many: clients that were answered together ask again together. If a batch
    fails, its items are tried one by one, so that each fails by itself.

    Args:
        work: called with up to `most` items, in the executor; gives a result for each.
        executor: with one thread, so that batches follow each other.
        most: items in a batch.
        waiting: items that may wait.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        executor: Executor,
        *,
        most: int,
        waiting: int,
    ) -> None:
        self._work = work
        self._executor = executor
        self._most = most
        self._waiting = waiting
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._more = asyncio.Event()
        self._last = 1  # items of the last batch
        self._asked = -float("inf")
        self._working: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._queue)

    @property
    def idle_s(self) -> float:
        """Seconds since the last was asked for; 0 while anything is worked on."""
        working = self._working is not None and not self._working.done()
        return 0.0 if working else time.monotonic() - self._asked

    async def __call__(self, items: Sequence[Item]) -> list[Result]:
        """The results of some items, which may be worked on in several batches.

        Raises:
            BusyError: if too much waits.
        """
        if len(self._queue) + len(items) > self._waiting:
            raise BusyError("too many queries wait; try again soon")
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        self._queue.extend(zip(items, futures, strict=True))
        self._more.set()
        self._asked = time.monotonic()
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._until_empty())
        try:
            return list(await asyncio.gather(*futures))
        finally:
            for future in futures:  # of a request that is given up, nothing is worked on any more
                future.cancel()

    async def _until_empty(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            await self._as_many_as_last()
            batch = self._next()
            if not batch:
                continue
            self._last = len(batch)
            outcomes = await loop.run_in_executor(
                self._executor, self._outcomes, [item for item, _ in batch]
            )
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    async def _as_many_as_last(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while len(self._queue) < self._last:
                    self._more.clear()
                    await self._more.wait()

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._queue and len(batch) < self._most:
            item, future = self._queue.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    def _outcomes(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return self._work(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [outcome for item in items for outcome in self._outcomes([item])]
