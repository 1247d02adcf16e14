"""Threads for work that may block: each kind has its own, so that no other kind waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from twinrank.service.batching import BusyError

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Threads:
    """Threads of one kind of work.

    Args:
        kind: what they do, as clients are told.
        most: how many work at once.
        wait_s: after so long nobody waits for them any more.
    """

    def __init__(self, kind: str, most: int, wait_s: float) -> None:
        self._kind = kind
        self._wait_s = wait_s
        self._pool = ThreadPoolExecutor(most, kind)

    async def __call__(
        self, work: Callable[Given, Result], *args: Given.args, **options: Given.kwargs
    ) -> Result:
        """What some work gives; what did not begin in time never does.

        Raises:
            BusyError: if it takes too long.
        """
        begun = self._pool.submit(work, *args, **options)
        try:
            async with asyncio.timeout(self._wait_s):
                return await asyncio.wrap_future(begun)
        except TimeoutError:
            raise BusyError(f"{self._kind} takes too long; try again soon") from None

    def close(self) -> None:
        """Begin nothing new; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
