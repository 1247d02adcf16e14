"""Work off the event loop: batches in which clients take turns, and threads with a limit."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

FILL_WAIT_S = 0.002  # for a batch as large as the last

Item = TypeVar("Item")
Result = TypeVar("Result")
Params = ParamSpec("Params")


class BusyError(Exception):
    """The service has too much to do; says why, and to try again."""


class BoundedThreads:
    """Threads for one kind of work that may block, for which nobody waits longer than a limit.

    Args:
        kind: of work, as the message of an error names it.
        threads: how many work at once.
        wait_s: the limit in seconds.
    """

    def __init__(self, kind: str, threads: int, wait_s: float) -> None:
        self._kind = kind
        self._wait_s = wait_s
        self._pool = ThreadPoolExecutor(threads, kind)

    async def __call__(
        self, work: Callable[Params, Result], *args: Params.args, **options: Params.kwargs
    ) -> Result:
        """Call a function in a thread; a call that does not begin in time never does.

        Raises:
            BusyError: if it takes too long.
        """
        future = self._pool.submit(work, *args, **options)
        try:
            async with asyncio.timeout(self._wait_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise BusyError(f"{self._kind} takes too long; try again soon") from None

    def close(self) -> None:
        """Begin nothing new, and wait for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(eq=False)
class _Client:
    """A client with waiting items: the cost of its items so far, and that before its last turn."""

    cost: float
    cost_before: float
    waiting: int = 0


@dataclass(eq=False)
class _Request(Generic[Item, Result]):
    """Waiting items of one call, and the cost of its items so far."""

    client: _Client
    cost: float
    items: deque[tuple[Item, asyncio.Future[Result]]]


class Batcher(Generic[Item, Result]):
    """Collects items that are asked for at the same time, and works on them together.

    An item that comes alone is worked on at once. If the last batch had several items, the next
    one waits a little for as many: clients that were answered together ask again together. If a
    batch fails, its items are tried one by one, so that each fails by itself.

    Clients take turns, and so do the requests of one client: the next item is of the client whose
    items have cost least so far. So a short question waits for one batch, however much others ask.

    Args:
        work: called with items, in the executor; returns a result for each.
        executor: with one thread, so that batches follow each other.
        cost: of an item.
        max_cost: of the items of a batch together; an item that costs more makes a batch alone.
        max_waiting: items; a client may have as many waiting as are still free.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        executor: Executor,
        *,
        cost: Callable[[Item], float],
        max_cost: float,
        max_waiting: int,
    ) -> None:
        self._work = work
        self._executor = executor
        self._cost = cost
        self._max_cost = max_cost
        self._max_waiting = max_waiting
        self._requests: list[_Request[Item, Result]] = []  # the oldest first
        self._clients: dict[str, _Client] = {}  # those with waiting items
        self._cost_before = 0.0  # of the client whose turn was last
        self._arrived = asyncio.Event()
        self._last_size = 1
        self._last_call_s = -float("inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def idle_s(self) -> float:
        """Seconds since the last call; 0 while a batch is worked on."""
        working = self._task is not None and not self._task.done()
        return 0.0 if working else time.monotonic() - self._last_call_s

    async def __call__(self, items: Sequence[Item], client_name: str = "") -> list[Result]:
        """Return the results of some items, which may be worked on in several batches.

        Args:
            items: to be worked on.
            client_name: clients take turns by this name.

        Raises:
            BusyError: if too much waits.
        """
        client = self._clients.get(client_name) or _Client(self._cost_before, self._cost_before)
        if client.waiting + len(items) > self._max_waiting - self._count_waiting():
            raise BusyError("too many queries wait; try again soon")
        if not items:
            return []
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        request = _Request(client, client.cost_before, deque(zip(items, futures, strict=True)))
        self._requests.append(request)
        self._clients[client_name] = client
        client.waiting += len(items)
        self._arrived.set()
        self._last_call_s = time.monotonic()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work_until_empty())
        try:
            return list(await asyncio.gather(*futures))
        finally:
            for future in futures:  # a request that is given up is not worked on any more
                future.cancel()
            self._drop(request, len(request.items))

    def _count_waiting(self) -> int:
        return sum(client.waiting for client in self._clients.values())

    async def _work_until_empty(self) -> None:
        loop = asyncio.get_running_loop()
        while self._requests:
            with suppress(TimeoutError):
                async with asyncio.timeout(FILL_WAIT_S):
                    while self._count_waiting() < self._last_size:
                        self._arrived.clear()
                        await self._arrived.wait()
            batch = self._take_batch()
            if not batch:
                continue
            self._last_size = len(batch)
            items = [item for item, _ in batch]
            outcomes = await loop.run_in_executor(self._executor, self._work_safely, items)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    def _take_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        budget = self._max_cost
        while self._requests:
            request = min(self._requests, key=lambda request: (request.client.cost, request.cost))
            client, (item, future) = request.client, request.items[0]
            cost = 0.0 if future.done() else self._cost(item)
            if batch and cost > budget:
                break
            if not future.done():
                batch.append(request.items[0])
            budget -= cost
            self._cost_before, client.cost_before = client.cost, request.cost
            client.cost += cost
            request.cost += cost
            self._drop(request, 1)
        return batch

    def _drop(self, request: _Request[Item, Result], count: int) -> None:
        """Drop the first items of a request from those that wait."""
        for _ in range(count):
            request.items.popleft()
        request.client.waiting -= count
        if count and not request.items:
            self._requests.remove(request)
        if not request.client.waiting:
            self._clients = {
                name: client for name, client in self._clients.items() if client.waiting
            }

    def _work_safely(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return self._work(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [outcome for item in items for outcome in self._work_safely([item])]
