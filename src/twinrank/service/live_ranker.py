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
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from twinrank.encoding import RecentFeatures
from twinrank.errors import AnswerIndexError, RankerError, TwinrankError
from twinrank.ranking import CARD, Evidence, Explainer, RankedAnswer, Ranker, open_file, writing
from twinrank.ranking.removed import Removed
from twinrank.service.batching import Batcher, BusyError
from twinrank.service.metrics import Metrics
from twinrank.service.threads import Threads

# What the queries ranked at once may cost: more gains little, and the first of them waits longer.
A_TURN = 10_000
PASSAGES_A_TURN = 4  # of an answer that is put, encoded between two batches
READ_S = 0.02  # reading ahead, between two batches
FOLLOWED_EVERY_S = 1.0
FOLDER_S = 10.0  # for a look at it
REFUSED_S = 30.0  # before a ranker that could not be loaded is tried again
QUIET_S = 2.0  # without a query, before anything is read ahead
BREATH_S = 0.02  # between two turns of reading ahead
STUCK_S = 60.0  # a load or a change that takes longer may never end

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class UnsavedError(Exception):
    """A change that could not be written to the ranker's folder, and is undone."""


class TakenError(Exception):
    """An answer that cannot be restored, since another has its id by now."""


@dataclass(frozen=True)
class Query:
    """What is to be ranked."""

    text: str
    k: int
    explain: bool

    @property
    def cost(self) -> int:
        """About what it takes to rank, in characters: some for each query and each explanation."""
        return 200 + len(self.text) + (10 * self.k if self.explain else 0)


@dataclass(frozen=True)
class Reply:
    """A ranking, the evidence for each of its answers if asked for, their urls, and whose it is."""

    ranking: list[RankedAnswer]
    evidence: list[Evidence]
    urls: dict[str, str | None]
    fingerprint: str


NOTHING = Evidence(None, None)


class Opened:
    """A ranker that was read from its folder; one thread at a time may use it.

    Args:
        ranker: as it is now.
        fingerprint: of its folder's card.
    """

    def __init__(self, ranker: Ranker, fingerprint: str) -> None:
        self.ranker = ranker
        self.fingerprint = fingerprint
        labelled = ranker.origin.labelled or {}
        self.types = frozenset(kind for counts in labelled.values() for kind in counts)
        self.sure = ranker.confidence is not None
        self._titles = ranker.answers["title"].str.to_lowercase()
        self._urls = dict(ranker.answers.select("id", "url").iter_rows())
        self._rows = {id_: row for row, id_ in enumerate(ranker.answers["id"])}
        self._explainer = Explainer(ranker)
        self._ahead = self._explainer.warm_up()

    @classmethod
    def load(cls, folder: Path, device: str, index: str | None) -> Opened:
        """Read a folder, and all that the first query would otherwise have to wait for.

        Args:
            folder: of the ranker.
            device: where the encoder runs.
            index: an answer index to rank by; what it lacks of the ranker's answers, as after a
                kill, is added.

        Raises:
            TwinrankError: if it is no ranker's, or the index is another ranker's.
        """
        fingerprint = fingerprint_of(folder)  # first: what changes from here on is loaded again
        if index is None:
            ranker = Ranker.load(folder, store=RecentFeatures(), device=device)
        else:
            with writing(folder):
                ranker = Ranker.load(folder, store=RecentFeatures(), device=device)
                ranker.build_index(index, home=folder)
                ranker.use_index(index, home=folder)
        opened = cls(ranker, fingerprint)
        (tried,) = opened.rank([Query("hello", 1, explain=True)])
        if not np.isfinite(tried.ranking[0].score):
            raise RankerError(f"{folder}: its scores are no numbers; train again")
        return opened

    def rank(self, queries: Sequence[Query]) -> list[Reply]:
        """Rank some queries together."""
        most = max(query.k for query in queries)
        rankings = self.ranker.rank([query.text for query in queries], most)
        cut = [ranking[: query.k] for query, ranking in zip(queries, rankings, strict=True)]
        asked = [place for place, query in enumerate(queries) if query.explain]
        found = self._explainer.explain(
            [queries[place].text for place in asked],
            [[answer.id for answer in cut[place]] for place in asked],
        )
        evidence = dict(zip(asked, found, strict=True))
        return [
            Reply(ranking, evidence.get(place, []), self._urls, self.fingerprint)
            for place, ranking in enumerate(cut)
        ]

    def read_ahead(self) -> bool:
        """Meet sentences of answers for a moment; whether there are more to meet."""
        end = time.monotonic() + READ_S
        return any(time.monotonic() > end for _ in self._ahead)

    def answer(self, id_: str) -> dict[str, object] | None:
        """An answer with its text, if it is there."""
        row = self._rows.get(id_)
        return None if row is None else self.ranker.answers.row(row, named=True)

    def titled(self, words: str, limit: int) -> tuple[pl.DataFrame, int]:
        """Answers whose title holds every one of some words, and how many there are."""
        holds = pl.lit(True)
        for word in words.lower().split():
            holds &= pl.lit(self._titles).str.contains(word, literal=True)
        found = self.ranker.answers.filter(holds)
        return found.head(limit), found.height


def fingerprint_of(folder: Path) -> str:
    """Of a ranker: sha256 (16 hex digits) of its card, which knows its other files' checksums.

    Raises:
        TwinrankError: if it cannot be read.
    """
    try:
        with open_file(folder / CARD) as card:
            return sha256(card.read()).hexdigest()[:16]
    except OSError as error:
        raise TwinrankError(f"{folder}: no ranker can be read there ({error})") from None


class Live:
    """Ranks queries in batches, on one thread, and swaps the ranker between two of them.

    Another thread loads what comes in place of the ranker, or makes it of a copy: no query waits
    for a change.

    Args:
        folder: of the ranker.
        device: where the encoder runs.
        index: an answer index to rank by; none scores every answer.
        waiting: queries that may wait.
        restore_days: how long an answer that was deleted can be restored; 0 keeps nothing of it.
        metrics: are told which ranker is served.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str,
        index: str | None,
        waiting: int,
        restore_days: float,
        metrics: Metrics,
    ) -> None:
        self.folder = folder
        self._restore_within = timedelta(days=restore_days)
        self._device = device
        self._index = index
        self._thread = ThreadPoolExecutor(1, "ranking")
        self._changing = ThreadPoolExecutor(1, "changing")
        self._looking = Threads("looking at the ranker's folder", 1, FOLDER_S)
        self._since: float | None = None  # when what changes the ranker at this moment began
        self._half_changed = False  # the index, by a change that failed
        self._metrics = metrics
        self.now = self._load()
        self.rank = Batcher(
            self._ranked,
            self._thread,
            cost=lambda query: query.cost,
            most=A_TURN,
            waiting=waiting,
        )

    async def put(self, answer: dict[str, object]) -> bool:
        """Take an answer in, or in place of the one with its id; whether it is new.

        It is in the folder when this returns, and so in every worker within a second or two.
        """
        id_ = answer["id"]

        def put(ranker: Ranker) -> bool:
            there = id_ in ranker.answers["id"]
            row = pl.DataFrame([answer], schema=ranker.answers.schema)
            if ranker.dense:  # in turn with batches: threads at odds over an encoder starve
                reader, passages = ranker.dense.reader, ranker.dense.reader.passages(row).rows
                for first in range(0, len(passages), PASSAGES_A_TURN):
                    some = passages[first : first + PASSAGES_A_TURN]
                    self._thread.submit(reader.features, some).result()
            ranker.put_answers(row)
            return not there

        return bool(await self._changed(put))

    async def delete(self, id_: str) -> bool:
        """Forget an answer; whether it was there."""

        def delete(ranker: Ranker) -> bool | None:
            if id_ not in ranker.answers["id"]:
                return None
            if self._restore_within:
                ranker.set_aside(id_)
            else:
                ranker.remove_answers([id_])
            return True

        return bool(await self._changed(delete))

    async def restore(self, id_: str) -> bool:
        """Bring back an answer that was deleted, with its past queries; whether it was away.

        Raises:
            TakenError: if another has its id by now.
        """

        def restore(ranker: Ranker) -> bool | None:
            removed = next(
                (record for record in ranker.removed if record.answer["id"] == id_), None
            )
            if removed is None:
                return None
            if id_ in ranker.answers["id"]:
                raise TakenError
            if ranker.dense:  # in turn with batches, as in `put`
                row = pl.DataFrame([removed.answer], schema=ranker.answers.schema)
                self._thread.submit(ranker.dense.reader.answers, row).result()
            ranker.restore_answer(id_)
            return True

        return bool(await self._changed(restore))

    async def check_latest(self) -> None:
        """Be sure that the folder is no newer than what is answered from.

        Raises:
            BusyError: if it is; it is being loaded.
        """
        try:
            latest = await self._looking(fingerprint_of, self.folder)
        except TwinrankError as error:
            raise UnsavedError(f"{error}") from error
        if latest != self.now.fingerprint:
            raise BusyError("a newer ranker is being loaded; try again soon")

    async def read_ahead(self) -> None:
        """Meet the sentences of all answers while nobody asks, so that nobody waits for them."""
        loop = asyncio.get_running_loop()
        while True:
            some = False
            if self.rank.idle_s > QUIET_S:
                try:
                    some = await loop.run_in_executor(self._thread, self._read_some)
                except TwinrankError as error:
                    log.error("sentences are not read ahead any more: %s", error)
                    return
            await asyncio.sleep(BREATH_S if some else FOLLOWED_EVERY_S)

    async def follow(self) -> None:
        """Load the ranker anew whenever its folder changed; never returns.

        What is being asked meanwhile is answered by the old one. A folder that cannot be loaded
        is said once, and the old ranker stays; it is tried again, for what was wrong may have
        been beside the folder: an index of another ranker, memory, an encoder.
        """
        refused, again, said = "", 0.0, ""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(FOLLOWED_EVERY_S)
            fingerprint = ""
            try:
                fingerprint = await self._looking(fingerprint_of, self.folder)
                if fingerprint == self.now.fingerprint and not self._half_changed:
                    self._metrics.refused.set(0)
                    if self._expired() and time.monotonic() >= again:
                        again = time.monotonic() + REFUSED_S
                        await self._changed(lambda _: True)  # every change forgets what is expired
                    continue
                if fingerprint == refused and time.monotonic() < again:
                    continue
                loading = loop.run_in_executor(self._changing, self._alone, self._caught_up)
                if not (await asyncio.wait([loading], timeout=STUCK_S))[0]:
                    log.error(
                        "loading %s takes more than %d s: until it ends the former ranker stays, "
                        "and answers cannot be changed",
                        self.folder,
                        STUCK_S,
                    )
                if await loading:
                    log.info("ranker %s loaded", self.now.fingerprint)
                said = ""
                self._metrics.refused.set(0)
            except Exception as error:  # whatever is wrong with the new one, the old one answers
                if said != f"{error}":
                    said = f"{error}"
                    log.error("the former ranker stays: %s", error)
                self._metrics.refused.set(1)
                refused, again = fingerprint, time.monotonic() + REFUSED_S

    def close(self) -> None:
        """End the threads, once what they do is done."""
        self._looking.close()
        for threads in (self._changing, self._thread):
            threads.shutdown()

    def _load(self) -> Opened:
        opened = Opened.load(self.folder, self._device, self._index)
        self._metrics.show_ranker(opened.fingerprint)
        return opened

    def _ranked(self, queries: Sequence[Query]) -> list[Reply]:
        return self.now.rank(queries)

    def _read_some(self) -> bool:
        return self.now.read_ahead()

    def _caught_up(self) -> bool:
        """Rank by what the folder holds from now on; whether anything had to be loaded."""
        behind = self._half_changed or fingerprint_of(self.folder) != self.now.fingerprint
        if behind:
            self.now = self._load()  # which brings the index in line, too
            self._half_changed = False
        return behind

    def _expired(self) -> bool:
        return len(self._restorable_in(self.now.ranker)) < len(self.now.ranker.removed)

    def _restorable_in(self, ranker: Ranker) -> tuple[Removed, ...]:
        """What was deleted and can still be restored."""
        begin = datetime.now(UTC) - self._restore_within
        return tuple(record for record in ranker.removed if record.at > begin)

    async def _changed(self, change: Callable[[Ranker], bool | None]) -> bool | None:
        """Change a copy of what the folder holds, save it there, and rank by it from now on.

        Args:
            change: gives what this gives; None if there was nothing to change.
        """

        def work() -> bool | None:
            with ExitStack() as turn:
                try:
                    turn.enter_context(writing(self.folder))
                    self._caught_up()
                # nobody may write here; another's, and broken; or no index answers
                except (TwinrankError, OSError) as error:
                    raise UnsavedError(f"{error}") from error
                ranker = self.now.ranker.copy()
                ranker.removed = self._restorable_in(ranker)
                try:
                    if (done := change(ranker)) is None:
                        return None
                    ranker.save(self.folder)
                except Exception as error:
                    self._half_changed = self._index is not None  # `follow` mends it
                    if isinstance(error, OSError | AnswerIndexError):
                        raise UnsavedError(f"{self.folder}: {error}") from error
                    raise
                self.now = Opened(ranker, fingerprint_of(self.folder))
                self._metrics.show_ranker(self.now.fingerprint)
            return done

        if self._since is not None and time.monotonic() - self._since > STUCK_S:
            raise BusyError("the change before this one does not end; try again later")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._changing, self._alone, work)

    def _alone(self, work: Callable[[], Result]) -> Result:
        """Do what changes the ranker, on the thread for that, and know since when."""
        self._since = time.monotonic()
        try:
            return work()
        finally:
            self._since = None
