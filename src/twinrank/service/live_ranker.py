"""The ranker of a running service: it follows its folder, and its answers can be changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from twinrank.encoding import RecentFeatures
from twinrank.errors import AnswerIndexError, RankerError, TwinrankError
from twinrank.ranking import (
    CURRENT,
    Evidence,
    Explainer,
    RankedAnswer,
    Ranker,
    Removed,
    load_indexed,
    open_file,
    writing,
)
from twinrank.service.batching import Batcher, BoundedThreads, BusyError
from twinrank.service.prometheus import Metrics
from twinrank.service.settings import Settings

# Cost of the queries ranked at once: more gains little, and the first of them waits longer.
MAX_BATCH_COST = 10_000
PASSAGES_PER_TURN = 4  # of an answer that is put, encoded between two batches
READ_AHEAD_S = 0.02  # between two batches
PAUSE_S = 0.02  # between two turns of reading ahead
QUIET_S = 2.0  # without a query, before anything is read ahead
FOLLOW_EVERY_S = 1.0
FOLDER_WAIT_S = 10.0  # for a look at the folder
RETRY_LOAD_S = 30.0  # before a ranker that could not be loaded is tried again
STUCK_S = 60.0  # a load or a change that takes longer may never end

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class UnsavedError(Exception):
    """A change that could not be written to the ranker's folder, and is undone."""


class OccupiedError(Exception):
    """An answer that cannot be restored, since another has its id by now."""


@dataclass(frozen=True)
class Query:
    """A text to rank k answers for."""

    text: str
    k: int
    explain: bool

    @property
    def cost(self) -> int:
        """Rough cost of ranking, in characters: some for each query and each explanation."""
        return 200 + len(self.text) + (10 * self.k if self.explain else 0)


@dataclass(frozen=True)
class Reply:
    """A ranking, the evidence for its answers if asked for, their urls, and the ranker."""

    ranking: list[RankedAnswer]
    evidence: list[Evidence]
    urls: dict[str, str | None]
    fingerprint: str


NO_EVIDENCE = Evidence(None, None)


class LoadedRanker:
    """A ranker that was read from its folder; one thread at a time may use it.

    Args:
        ranker: as it is now.
        fingerprint: of its folder, see `fingerprint_of`.
    """

    def __init__(self, ranker: Ranker, fingerprint: str) -> None:
        self.ranker = ranker
        self.fingerprint = fingerprint
        labelled = ranker.origin.labelled or {}
        self.types = frozenset(kind for counts in labelled.values() for kind in counts)
        self.knows_confidence = ranker.confidence is not None
        self.answer_count = ranker.answers.height
        self._titles = ranker.answers["title"].str.to_lowercase()
        self._urls = dict(ranker.answers.select("id", "url").iter_rows())
        self._rows = {id_: row for row, id_ in enumerate(ranker.answers["id"])}
        self._explainer = Explainer(ranker)
        self._unread = self._explainer.warm_up()

    @classmethod
    def load(cls, folder: Path, device: str, index: str | None) -> LoadedRanker:
        """Read a folder, and everything for which the first query would otherwise wait.

        Args:
            folder: of the ranker.
            device: where the encoder runs.
            index: an answer index to rank by; answers that it lacks, as after a kill, are added.

        Raises:
            TwinrankError: if it is no ranker's, or the index is another ranker's.
        """
        if index is None:
            fingerprint = fingerprint_of(folder)  # first: what changes from here is loaded again
            ranker = Ranker.load(folder, store=RecentFeatures(), device=device)
        else:
            with writing(folder):
                ranker = load_indexed(folder, index, store=RecentFeatures(), device=device)
                fingerprint = fingerprint_of(folder)
        loaded = cls(ranker, fingerprint)
        (reply,) = loaded.rank([Query("hello", 1, explain=True)])
        if not np.isfinite(reply.ranking[0].score):
            raise RankerError(f"{folder}: its scores are no numbers; train again")
        return loaded

    def rank(self, queries: Sequence[Query]) -> list[Reply]:
        """Rank some queries together."""
        most = max(query.k for query in queries)
        rankings = self.ranker.rank([query.text for query in queries], most)
        rankings = [ranking[: q.k] for q, ranking in zip(queries, rankings, strict=True)]
        explained = [i for i, query in enumerate(queries) if query.explain]
        evidence = self._explainer.explain(
            [queries[i].text for i in explained],
            [[answer.id for answer in rankings[i]] for i in explained],
        )
        by_query = dict(zip(explained, evidence, strict=True))
        return [
            Reply(ranking, by_query.get(i, []), self._urls, self.fingerprint)
            for i, ranking in enumerate(rankings)
        ]

    def read_ahead(self) -> bool:
        """Encode sentences of answers for a moment; return whether there are more of them."""
        end = time.monotonic() + READ_AHEAD_S
        return any(time.monotonic() > end for _ in self._unread)

    def find_answer(self, id_: str) -> dict[str, object] | None:
        """Return an answer with its text, or None."""
        row = self._rows.get(id_)
        return None if row is None else self.ranker.answers.row(row, named=True)

    def search_titles(self, words: str, limit: int) -> tuple[pl.DataFrame, int]:
        """Return answers with all of some words in their title, and how many there are."""
        matches = pl.lit(True)
        for word in words.lower().split():
            matches &= pl.lit(self._titles).str.contains(word, literal=True)
        rows = self.ranker.answers.filter(matches)
        return rows.head(limit), rows.height


def fingerprint_of(folder: Path) -> str:
    """Return the sha256 (16 hex digits) of a ranker's pointer, which names a version by checksum.

    Raises:
        TwinrankError: if it cannot be read.
    """
    try:
        with open_file(folder / CURRENT) as pointer:
            return sha256(pointer.read()).hexdigest()[:16]
    except OSError as error:
        raise TwinrankError(f"{folder}: no ranker can be read there ({error})") from None


class LiveRanker:
    """Ranks queries in batches, on one thread, and swaps the ranker between two of them.

    Another thread loads a new ranker, or changes a copy of the current one: no query waits for a
    change.

    Args:
        settings: of the service.
        metrics: show which ranker is served.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._folder = settings.ranker
        self._index = settings.index
        self._device = settings.device
        self._restore_within = timedelta(days=settings.restore_days)
        self._metrics = metrics
        self._ranking_thread = ThreadPoolExecutor(1, "ranking")
        self._changing_thread = ThreadPoolExecutor(1, "changing")
        self._watching = BoundedThreads("looking at the ranker's folder", 1, FOLDER_WAIT_S)
        self._change_began_s: float | None = None  # of the change or load under way
        self._half_changed = False  # the index, by a change that failed
        self.current = self._load()
        self.rank: Batcher[Query, Reply] = Batcher(
            self._rank,
            self._ranking_thread,
            cost=lambda query: query.cost,
            max_cost=MAX_BATCH_COST,
            max_waiting=settings.waiting,
        )

    async def put(self, answer: dict[str, object]) -> bool:
        """Take an answer in, or in place of the one with its id; return whether it is new.

        It is in the folder when this returns, and so in every worker within a second or two.
        """

        def put(ranker: Ranker) -> bool:
            new = answer["id"] not in ranker.answers["id"]
            row = pl.DataFrame([answer], schema=ranker.answers.schema)
            self._encode_in_turns(ranker, row)
            ranker.put_answers(row)
            return new

        return bool(await self._change(put))

    async def delete(self, id_: str) -> bool:
        """Forget an answer; return whether there was one."""

        def delete(ranker: Ranker) -> bool | None:
            if id_ not in ranker.answers["id"]:
                return None
            if self._restore_within:
                ranker.set_aside(id_)
            else:
                ranker.remove_answers([id_])
            return True

        return bool(await self._change(delete))

    async def restore(self, id_: str) -> bool:
        """Bring back a deleted answer, with its past queries; return whether there was one.

        Raises:
            OccupiedError: if another has its id by now.
        """

        def restore(ranker: Ranker) -> bool | None:
            removed = next((r for r in ranker.removed if r.answer["id"] == id_), None)
            if removed is None:
                return None
            if id_ in ranker.answers["id"]:
                raise OccupiedError
            row = pl.DataFrame([removed.answer], schema=ranker.answers.schema)
            self._encode_in_turns(ranker, row)
            ranker.restore_answer(id_)
            return True

        return bool(await self._change(restore))

    async def check_latest(self) -> None:
        """Check that the folder is no newer than the ranker that is served.

        Raises:
            BusyError: if it is; it is being loaded.
            UnsavedError: if it cannot be read.
        """
        try:
            latest = await self._watching(fingerprint_of, self._folder)
        except TwinrankError as error:
            raise UnsavedError(f"{error}") from error
        if latest != self.current.fingerprint:
            raise BusyError("a newer ranker is being loaded; try again soon")

    async def read_ahead(self) -> None:
        """Encode the sentences of all answers while nobody asks, so that no query waits for it."""
        loop = asyncio.get_running_loop()
        while True:
            more = False
            if self.rank.idle_s > QUIET_S:
                try:
                    more = await loop.run_in_executor(self._ranking_thread, self.current.read_ahead)
                except TwinrankError as error:
                    log.error("sentences are not read ahead any more: %s", error)
                    return
            await asyncio.sleep(PAUSE_S if more else FOLLOW_EVERY_S)

    async def follow(self) -> None:
        """Load the ranker again whenever its folder changes; never returns.

        Until then the former one answers. A folder that cannot be loaded is logged once, and
        tried again: the cause may be outside it, such as the index, memory or an encoder.
        """
        refused, retry_at_s, message = "", 0.0, ""
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            fingerprint = ""
            try:
                fingerprint = await self._watching(fingerprint_of, self._folder)
                if fingerprint == self.current.fingerprint and not self._half_changed:
                    self._metrics.refused.set(0)
                    if self._has_expired() and time.monotonic() >= retry_at_s:
                        retry_at_s = time.monotonic() + RETRY_LOAD_S
                        await self._change(lambda _: True)  # every change drops what is expired
                    continue
                if fingerprint == refused and time.monotonic() < retry_at_s:
                    continue
                await self._load_in_time()
                message = ""
                self._metrics.refused.set(0)
            except Exception as error:  # whatever is wrong with the new one, the old one answers
                if message != f"{error}":
                    message = f"{error}"
                    log.error("the former ranker stays: %s", error)
                self._metrics.refused.set(1)
                refused, retry_at_s = fingerprint, time.monotonic() + RETRY_LOAD_S

    def close(self) -> None:
        """End the threads, once their work is done."""
        self._watching.close()
        for thread in (self._changing_thread, self._ranking_thread):
            thread.shutdown()

    def _encode_in_turns(self, ranker: Ranker, row: pl.DataFrame) -> None:
        """Encode an answer's passages between batches: two threads with one encoder starve."""
        if ranker.dense:
            reader = ranker.dense.reader
            passages = reader.passages(row).rows
            for first in range(0, len(passages), PASSAGES_PER_TURN):
                chunk = passages[first : first + PASSAGES_PER_TURN]
                self._ranking_thread.submit(reader.features, chunk).result()

    def _rank(self, queries: Sequence[Query]) -> list[Reply]:
        return self.current.rank(queries)

    def _load(self) -> LoadedRanker:
        loaded = LoadedRanker.load(self._folder, self._device, self._index)
        self._metrics.show_ranker(loaded.fingerprint)
        return loaded

    async def _load_in_time(self) -> None:
        loop = asyncio.get_running_loop()
        loading = loop.run_in_executor(self._changing_thread, self._clock, self._catch_up)
        if not (await asyncio.wait([loading], timeout=STUCK_S))[0]:
            log.error(
                "loading %s takes more than %d s: until it ends the former ranker stays, "
                "and answers cannot be changed",
                self._folder,
                STUCK_S,
            )
        if await loading:
            log.info("ranker %s loaded", self.current.fingerprint)

    def _catch_up(self) -> bool:
        """Load the ranker if the folder has another one; return whether it had."""
        behind = self._half_changed or fingerprint_of(self._folder) != self.current.fingerprint
        if behind:
            self.current = self._load()  # which brings the index in line, too
            self._half_changed = False
        return behind

    def _has_expired(self) -> bool:
        ranker = self.current.ranker
        return len(self._restorable(ranker)) < len(ranker.removed)

    def _restorable(self, ranker: Ranker) -> tuple[Removed, ...]:
        """Return the deleted answers that can still be restored."""
        begin = datetime.now(UTC) - self._restore_within
        return tuple(record for record in ranker.removed if record.at > begin)

    async def _change(self, change: Callable[[Ranker], bool | None]) -> bool | None:
        """Change a copy of the folder's ranker, save it there, and rank by it from now on.

        Args:
            change: its result is returned; None means that there is nothing to change.
        """
        began_s = self._change_began_s
        if began_s is not None and time.monotonic() - began_s > STUCK_S:
            raise BusyError("the change before this one does not end; try again later")
        loop = asyncio.get_running_loop()
        work = partial(self._change_now, change)
        return await loop.run_in_executor(self._changing_thread, self._clock, work)

    def _change_now(self, change: Callable[[Ranker], bool | None]) -> bool | None:
        with ExitStack() as lock:
            try:
                lock.enter_context(writing(self._folder))
                self._catch_up()
            # nobody may write here; the folder is broken; or no index answers
            except (TwinrankError, OSError) as error:
                raise UnsavedError(f"{error}") from error
            ranker = self.current.ranker.copy()
            ranker.removed = self._restorable(ranker)
            try:
                if (result := change(ranker)) is None:
                    return None
                ranker.save(self._folder)
            except Exception as error:
                self._half_changed = self._index is not None  # `follow` mends it
                if isinstance(error, OSError | AnswerIndexError):
                    raise UnsavedError(f"{self._folder}: {error}") from error
                raise
            self.current = LoadedRanker(ranker, fingerprint_of(self._folder))
            self._metrics.show_ranker(self.current.fingerprint)
        return result

    def _clock(self, work: Callable[[], Result]) -> Result:
        """Call what changes the ranker, and note since when it works."""
        self._change_began_s = time.monotonic()
        try:
            return work()
        finally:
            self._change_began_s = None
