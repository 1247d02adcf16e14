"""Micro-batching: what waits while a batch is being worked on makes the next batch, in turns."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

WAIT_S = 0.002  # for a batch as large as the last

Item = TypeVar("Item")
Result = TypeVar("Result")


class BusyError(Exception):
    """It is better to try again later; says why."""


@dataclass(eq=False)
class _Client:
    """Who waits: what it has cost, what its request whose turn was last had, and its items."""

    cost: float
    before: float
    waiting: int = 0


@dataclass(eq=False)
class _Request(Generic[Item, Result]):
    """Items that were asked for together and wait, and what those before them cost."""

    client: _Client
    cost: float
    items: deque[tuple[Item, asyncio.Future[Result]]]


class Batcher(Generic[Item, Result]):
    """Collects what is asked for at the same time, and works on it together, off the event loop.

    One request alone is worked on at once. Where the last batch had several items, the next waits
    a little for as many: clients that were answered together ask again together. If a batch
    fails, its items are tried one by one, so that each fails by itself.

    Clients take turns, and so do the requests of one client: the next item is of whom the last
    ones cost least. So a question waits for one batch, however much others ask for.

    Args:
        work: called with some items, in the executor; gives a result for each.
        executor: with one thread, so that batches follow each other.
        cost: of an item.
        most: what the items of a batch may cost together; a dearer item makes one alone.
        waiting: items that may wait; a client may have as many waiting as are free yet.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        executor: Executor,
        *,
        cost: Callable[[Item], float],
        most: float,
        waiting: int,
    ) -> None:
        self._work = work
        self._executor = executor
        self._cost = cost
        self._most = most
        self._waiting = waiting
        self._requests: list[_Request[Item, Result]] = []  # the oldest first
        self._clients: dict[str, _Client] = {}  # those that wait
        self._before = 0.0  # what the client whose turn was last had cost until then
        self._more = asyncio.Event()
        self._last = 1  # items of the last batch
        self._asked = -float("inf")
        self._working: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many items wait."""
        return sum(client.waiting for client in self._clients.values())

    @property
    def idle_s(self) -> float:
        """Seconds since the last was asked for; 0 while anything is worked on."""
        working = self._working is not None and not self._working.done()
        return 0.0 if working else time.monotonic() - self._asked

    async def __call__(self, items: Sequence[Item], who: str = "") -> list[Result]:
        """The results of some items, which may be worked on in several batches.

        Args:
            items: to be worked on.
            who: asks; clients take turns by this name.

        Raises:
            BusyError: if too much waits.
        """
        client = self._clients.get(who) or _Client(self._before, self._before)
        if client.waiting + len(items) > self._waiting - len(self):
            raise BusyError("too many queries wait; try again soon")
        if not items:
            return []
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        request = _Request(client, client.before, deque(zip(items, futures, strict=True)))
        self._requests.append(request)
        self._clients[who] = client
        client.waiting += len(items)
        self._more.set()
        self._asked = time.monotonic()
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._until_empty())
        try:
            return list(await asyncio.gather(*futures))
        finally:
            for future in futures:  # of a request that is given up, nothing is worked on any more
                future.cancel()
            self._forget(request, len(request.items))

    async def _until_empty(self) -> None:
        loop = asyncio.get_running_loop()
        while self._requests:
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
                while len(self) < self._last:
                    self._more.clear()
                    await self._more.wait()

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        left = self._most
        while self._requests:
            request = min(self._requests, key=lambda each: (each.client.cost, each.cost))
            client, (item, future) = request.client, request.items[0]
            cost = 0.0 if future.done() else self._cost(item)
            if batch and cost > left:
                break
            if not future.done():
                batch.append(request.items[0])
            left -= cost
            self._before, client.before = client.cost, request.cost
            client.cost += cost
            request.cost += cost
            self._forget(request, 1)
        return batch

    def _forget(self, request: _Request[Item, Result], items: int) -> None:
        """The first items of a request, which wait no more."""
        for _ in range(items):
            request.items.popleft()
        request.client.waiting -= items
        if items and not request.items:
            self._requests.remove(request)
        if not request.client.waiting:
            self._clients = {who: each for who, each in self._clients.items() if each.waiting}

    def _outcomes(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return self._work(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [outcome for item in items for outcome in self._outcomes([item])]
