"""Batches of what is asked for at the same time, in which clients take turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from starlette.exceptions import HTTPException

from twinrank.service.guard import RETRY

Item = TypeVar("Item")
Result = TypeVar("Result")


FILL_WAIT_S = 0.002  # for a batch as large as the last


@dataclass(order=True)
class _Waiting(Generic[Item, Result]):
    """An item that waits; the smallest turn is the next."""

    turn: float
    number: int
    client: str = field(compare=False)
    item: Item = field(compare=False)
    future: asyncio.Future[Result] = field(compare=False)


class Batcher(Generic[Item, Result]):
    """Collects items that are asked for at the same time, and works on them together.

    An item that comes alone is worked on at once; what comes meanwhile makes the next batch. If a
    batch fails, its items are tried one by one, so that each fails by itself.

    Clients take turns by fair queueing (Demers, Keshav and Shenker, 1989): an item's turn is the
    present one and the cost of its request so far, times the number of its client's requests. So a
    short question waits for one batch, however much others, or its own client, ask.

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
        self._queue: list[_Waiting[Item, Result]] = []  # a heap
        self._numbers = count()
        self._turn = 0.0  # of the last item that was worked on
        self._requests = Counter[str]()  # of each client
        self._waiting = Counter[str]()  # items of each client
        self._last_call_s = -float("inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def idle_s(self) -> float:
        """Seconds since the last call; 0 while a batch is worked on."""
        return time.monotonic() - self._last_call_s if self._is_idle() else 0.0

    async def __call__(self, items: Sequence[Item], client: str = "") -> list[Result]:
        """Return the results of a client's items, which may be worked on in several batches.

        Raises:
            HTTPException: 503 if too much waits.
        """
        if self._waiting[client] + len(items) > self._max_waiting - self._waiting.total():
            raise HTTPException(503, "too many queries wait; try again soon", RETRY)
        loop = asyncio.get_running_loop()
        self._requests[client] += 1
        self._waiting[client] += len(items)
        turn, share = self._turn, self._requests[client]
        futures = []
        for item in items:
            turn += share * self._cost(item)
            futures.append(loop.create_future())
            heappush(self._queue, _Waiting(turn, next(self._numbers), client, item, futures[-1]))
        self._last_call_s = time.monotonic()
        if self._is_idle():
            self._task = loop.create_task(self._work_until_empty())
        try:
            return list(await asyncio.gather(*futures))
        finally:
            for future in futures:  # a request that is given up is not worked on any more
                future.cancel()
            self._requests[client] -= 1
            self._requests += Counter()  # drops clients that have none

    def _is_idle(self) -> bool:
        return self._task is None or self._task.done()

    async def _work_until_empty(self) -> None:
        loop = asyncio.get_running_loop()
        size = 0
        while True:
            # Clients that were answered together ask again together: wait a moment for as many.
            deadline_s = time.monotonic() + FILL_WAIT_S
            while len(self._queue) < size and time.monotonic() < deadline_s:
                await asyncio.sleep(FILL_WAIT_S / 10)
            if not (batch := self._take_batch()):
                return
            size = len(batch)
            items = [waiting.item for waiting in batch]
            outcomes = await loop.run_in_executor(self._executor, self._work_safely, items)
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if waiting.future.done():
                    continue
                if isinstance(outcome, Exception):
                    waiting.future.set_exception(outcome)
                else:
                    waiting.future.set_result(outcome)

    def _take_batch(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        budget = self._max_cost
        while self._queue:
            waiting = self._queue[0]
            given_up = waiting.future.done()
            cost = self._cost(waiting.item)
            if batch and cost > budget and not given_up:
                break
            heappop(self._queue)
            self._waiting[waiting.client] -= 1
            if not given_up:
                self._turn = waiting.turn
                budget -= cost
                batch.append(waiting)
        self._waiting += Counter()  # drops clients that have none
        return batch

    def _work_safely(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return self._work(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [outcome for item in items for outcome in self._work_safely([item])]
