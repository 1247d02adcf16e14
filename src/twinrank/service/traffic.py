"""How much is asked, counted in memory and added to the database every few seconds."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime

from twinrank.errors import FeedbackError
from twinrank.feedback.database import Feedback, Traffic

EVERY_S = 5.0
END_S = 3.0
CONFIDENT = 0.5
OTHER = "other"  # any type that the ranker's data do not have: clients cannot make new ones

log = logging.getLogger(__name__)


class Counted:
    """Traffic by day and type since it was last added to the database.

    Args:
        feedback: the database.
    """

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback
        self._new: Counter[tuple[str, str]] = Counter()
        self._refused = False
        self._thread = ThreadPoolExecutor(1, "traffic")  # a locked database stops no other work

    def add(self, kind: str, confidence: float | None, *, withheld: bool) -> None:
        """Count a query that was answered."""
        self._new[kind, "requests"] += 1
        self._new[kind, "confident"] += confidence is not None and confidence >= CONFIDENT
        self._new[kind, "withheld"] += withheld

    async def keep(self) -> None:
        """Add what is new to the database, again and again; never returns."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.flush()

    async def end(self) -> None:
        """Add what is new for the last time; a database that is locked does not hold up the end."""
        try:
            async with asyncio.timeout(END_S):
                await self.flush()
        except TimeoutError:
            log.error("the last seconds' traffic is not counted: the database does not answer")
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def flush(self) -> None:
        """Add what is new to the database; what could not be added is tried again later."""
        new, self._new = self._new, Counter()
        if not new:
            return
        today = datetime.now(UTC).date()
        names = [field.name for field in fields(Traffic)]
        kinds = {kind for kind, _ in new}
        traffic = {
            (today, kind): Traffic(**{name: new[kind, name] for name in names}) for kind in kinds
        }
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._feedback.count, traffic)
            self._refused = False
        except FeedbackError as error:
            self._new.update(new)
            if not self._refused:
                log.error("traffic is counted on in memory: %s", error)
            self._refused = True


def kind_of(said: str | None, known: Collection[str]) -> str:
    """The type under which a query is counted; empty where nobody said one."""
    if said is None:
        return ""
    return said if said in known else OTHER
