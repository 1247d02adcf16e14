"""The ranker of a running service: it follows its folder, and its answers can be changed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from jaxtyping import Float
from starlette.exceptions import HTTPException

from twinrank.data.conversations import CONVERSATION, QUESTION
from twinrank.data.validation import NO_METADATA
from twinrank.encoding import RecentFeatures
from twinrank.errors import RankerError, ServeError, TwinrankError
from twinrank.feedback.gaps import Gaps, find_gaps
from twinrank.feedback.labels import judge_texts
from twinrank.feedback.verdicts import Verdict
from twinrank.files import write_file
from twinrank.ranking import (
    CANDIDATES,
    DIGITS,
    RULES,
    AnswerFields,
    Evidence,
    Explainer,
    Filter,
    RankedAnswer,
    Ranker,
    Rules,
    load_indexed,
    read_pointer,
    read_rules,
    roll_back,
    writing,
)
from twinrank.ranking.signals import DenseSignal
from twinrank.service.batching import Batcher
from twinrank.service.guard import RETRY
from twinrank.service.prometheus import Metrics
from twinrank.service.schemas import Option, Past, Ranked, Ranking, RankRequest
from twinrank.service.settings import Settings

# Cost of the queries ranked at once: more gains little, and the first of them waits longer.
MAX_BATCH_COST = 10_000
PASSAGES_PER_TURN = 4  # of an answer that is put, or queries, encoded between two batches
MAX_GAP_QUERIES = 500  # that are grouped at once, the newest
READ_AHEAD_S = 0.02  # between two batches, and between two turns of reading ahead
FOLLOW_EVERY_S = 1.0
QUIET_S = 2.0  # without a query, before anything is read ahead
RETRY_LOAD_S = 10.0  # before a ranker that could not be loaded is tried again
NO_EVIDENCE = Evidence(None, None)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScopedRequest:
    """A query, and the filter of the answers that who asks it may see."""

    request: RankRequest
    visible: Filter


@dataclass(frozen=True)
class TextGroup:
    """Texts to be embedded, by the tower of queries or of answers."""

    dense: DenseSignal
    texts: Sequence[str]
    as_queries: bool

    def embed(self) -> Float[np.ndarray, "n d"]:
        """Return their vectors."""
        embed = self.dense.embed_queries if self.as_queries else self.dense.embed_documents
        return embed(self.texts)


class LoadedRanker:
    """A ranker that was read from its folder, and never changes; one thread at a time ranks by it.

    Its fingerprint is the version in its folder; texts of past queries are shown if `show_past`.
    """

    def __init__(self, ranker: Ranker, fingerprint: str, *, show_past: bool) -> None:
        self.ranker = ranker
        self.fingerprint = fingerprint
        self.trained = ranker.fingerprint[:DIGITS]  # the same after answers come and go
        self._show_past = show_past
        labelled = ranker.origin.labelled or {}
        kinds = {kind for counts in labelled.values() for kind in counts}
        self.types = frozenset(kinds | {QUESTION, CONVERSATION})  # the page sends these two
        self._titles = ranker.answers["title"].str.to_lowercase()
        self._urls = dict(ranker.answers.select("id", "url").iter_rows())
        self._rows = {id_: row for row, id_ in enumerate(ranker.answers["id"])}
        self._explainer = Explainer(ranker)
        self._unread = self._explainer.warm_up()

    @classmethod
    def load(cls, settings: Settings) -> LoadedRanker:
        """Read a folder, and everything for which the first query would otherwise wait.

        What an answer index lacks, as after a kill, is added.

        Raises:
            TwinrankError: if it is no ranker's, or the index is another ranker's.
        """
        folder, device, store = settings.ranker, settings.device, RecentFeatures()
        if settings.index is None:
            fingerprint = read_pointer(folder).version  # what changes from here is loaded again
            ranker = Ranker.load(folder, store=store, device=device)
        else:
            with writing(folder):
                ranker = load_indexed(folder, settings.index, store=store, device=device)
                fingerprint = read_pointer(folder).version
        loaded = cls(ranker, fingerprint, show_past=settings.show_past_queries)
        loaded.rank([ScopedRequest(RankRequest(text="hello", k=1), Filter())])
        return loaded

    def rank(self, batch: Sequence[ScopedRequest]) -> list[Ranking]:
        """Rank for some requests: they are encoded together, and ranked filter by filter."""
        groups: dict[tuple[Filter, Filter], list[int]] = {}
        for i, scoped in enumerate(batch):
            groups.setdefault((Filter.of(scoped.request.where), scoped.visible), []).append(i)
        if len(groups) > 1:
            texts = [scoped.request.query for scoped in batch]
            self.ranker.prepare(self.ranker.rules.expand(texts))
        rankings: dict[int, Ranking] = {}
        for (wanted, visible), numbers in groups.items():
            requests = [batch[i].request for i in numbers]
            rankings |= zip(numbers, self._rank(requests, wanted, visible), strict=True)
        return [rankings[i] for i in range(len(batch))]

    def _rank(
        self, requests: Sequence[RankRequest], wanted: Filter, visible: Filter
    ) -> list[Ranking]:
        """Rank for requests with the same filters: what is wanted, of what may be seen."""
        texts, most = [request.query for request in requests], max(r.k for r in requests)
        ranked = self.ranker.rank(texts, max(most, CANDIDATES), where=wanted & visible)
        pairs = zip(ranked, requests, strict=True)
        asked = [
            [
                Option(**asdict(option), url=self._urls.get(option.id))
                for option in self.ranker.clarify(answers, request.ask_below)
            ]
            for answers, request in pairs
        ]
        rankings = [ranking[: request.k] for ranking, request in zip(ranked, requests, strict=True)]
        explained = [i for i, request in enumerate(requests) if _needs_evidence(request)]
        evidence = self._explainer.explain(
            [texts[i] for i in explained],
            [[answer.id for answer in rankings[i]] for i in explained],
        )
        by_request = dict(zip(explained, evidence, strict=True))
        return [
            self._build_ranking(request, rankings[i], by_request.get(i), asked[i], past=not visible)
            for i, request in enumerate(requests)
        ]

    def _build_ranking(
        self,
        request: RankRequest,
        ranking: Sequence[RankedAnswer],
        evidence: Sequence[Evidence] | None,
        ask: list[Option],
        *,
        past: bool,
    ) -> Ranking:
        """Make a reply; without `past` it does not say which past queries an answer solved.

        Those are of whoever asked: the answers that they led to do not tell who may read them.
        """
        confidence = ranking[0].confidence if ranking else None
        withheld = request.min_confidence > (1.0 if confidence is None else confidence)
        nothing = [NO_EVIDENCE] * len(ranking)
        pairs = zip(ranking, evidence or nothing, strict=True)
        passages = [self._choose_passage(request, *pair) for pair in pairs]
        proofs = (evidence or nothing) if request.explain else nothing
        answers = [
            Ranked(
                rank=answer.rank,
                id=answer.id,
                title=answer.title,
                url=self._urls.get(answer.id),
                score=answer.score,
                confidence=answer.confidence,
                pinned=answer.pinned,
                section=proof.section,
                sentence=proof.sentence,
                channels=answer.parts if request.explain else None,
                words=[*proof.words],
                past_queries=[
                    Past(
                        id=query.id if past else None,
                        text=query.text if past and self._show_past else None,
                        similarity=query.similarity,
                    )
                    for query in proof.past_queries
                ],
                solved=proof.solved,
                passage=passage,
            )
            for answer, proof, passage in zip(ranking, proofs, passages, strict=True)
        ]
        return Ranking(
            answers=[] if withheld else answers,
            confidence=confidence,
            withheld=withheld,
            ask=ask,
            ranker=self.fingerprint,
        )

    def _choose_passage(
        self, request: RankRequest, answer: RankedAnswer, proof: Evidence
    ) -> str | None:
        if request.passage is None:
            return None
        parts = {"section": proof.passage, "sentence": proof.sentence}
        whole = str(self.ranker.answers["text"][self._rows[answer.id]])
        return parts.get(request.passage, whole) or answer.title

    def read_ahead(self) -> bool:
        """Encode sentences of answers for a moment; return whether there are more of them."""
        end = time.monotonic() + READ_AHEAD_S
        return any(time.monotonic() > end for _ in self._unread)

    def find_answer(self, id_: str, visible: Filter) -> dict[str, object] | None:
        """Return an answer with its text, or None if there is none that may be seen."""
        if self.find_unknown([id_], visible):
            return None
        return self.ranker.answers.row(self._rows[id_], named=True)

    def find_unknown(self, ids: Iterable[str], visible: Filter) -> list[str]:
        """Return the ids of which there is no answer that may be seen."""
        fits = self.ranker.fields.select(visible)
        return [id_ for id_ in ids if id_ not in self._rows or not fits[self._rows[id_]]]

    def search_titles(self, words: str, limit: int, visible: Filter) -> tuple[pl.DataFrame, int]:
        """Return answers with all of some words in their title, and how many there are."""
        matches = pl.lit(self.ranker.fields.select(visible))
        for word in words.lower().split():
            matches &= pl.lit(self._titles).str.contains(word, literal=True)
        rows = self.ranker.answers.filter(matches)
        return rows.head(limit), rows.height


def digest_rules(text: str) -> str:
    """Return a digest of the file of rules, which tells whether somebody else changed it."""
    return hashlib.sha256(text.encode()).hexdigest()


def _fits_wholly(ranker: Ranker, id_: str, visible: Filter) -> bool:
    """Return whether a filter covers the answer with an id, and those that had it before.

    It does if all their values of its fields are in it, so that no other filter shows them.
    """
    metadata = ranker.answers.filter(pl.col("id") == id_)["metadata"].to_list()
    former = [record.answer for record in ranker.removed if record.answer["id"] == id_]
    metadata += [answer.get("metadata") or NO_METADATA for answer in former]
    fields = AnswerFields(pl.Series(metadata, dtype=pl.String))
    return bool(fields.select(visible, wholly=True).all())


def _estimate_cost(scoped: ScopedRequest) -> float:
    """Estimate in characters, roughly: some for each query and each explanation."""
    request = scoped.request
    return 200 + len(request.query) + (10 * request.k if _needs_evidence(request) else 0)


def _needs_evidence(request: RankRequest) -> bool:
    return request.explain or request.passage in {"section", "sentence"}


class LiveRanker:
    """Ranks queries in batches, on one thread, and swaps the ranker between two of them.

    Another thread loads a new ranker, or changes a copy of the current one: no query waits for a
    change.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._folder = settings.ranker
        self._metrics = metrics
        self.ranking_thread = ThreadPoolExecutor(1, "ranking")
        self._changing_thread = ThreadPoolExecutor(1, "changing")
        self.current = LoadedRanker.load(settings)
        self.rank: Batcher[ScopedRequest, Ranking] = Batcher(
            self._rank,
            self.ranking_thread,
            cost=_estimate_cost,
            max_cost=MAX_BATCH_COST,
            max_waiting=settings.waiting,
        )
        self.embed: Batcher[TextGroup, Float[np.ndarray, "n d"]] = Batcher(
            lambda groups: [group.embed() for group in groups],
            self.ranking_thread,
            cost=lambda group: sum(200 + len(text) for text in group.texts),
            max_cost=MAX_BATCH_COST,
            max_waiting=settings.waiting,
        )

    async def put(self, answer: dict[str, object], visible: Filter) -> bool:
        """Take an answer in, or in place of the one with its id; return whether it is new.

        It is in the folder when this returns, and so in every worker within a second or two.

        Raises:
            HTTPException: 403 if it, or what has or had its id, is not wholly in the filter.
        """
        id_ = f"{answer['id']}"

        def put(ranker: Ranker) -> bool:
            if not _fits_wholly(ranker, id_, visible):
                raise HTTPException(403, f"this key may not change the answer {id_!r}")
            new = id_ not in ranker.answers["id"]
            row = pl.DataFrame([answer], schema=ranker.answers.schema)
            self._encode_in_turns(ranker, row)
            ranker.put_answers(row)
            if not _fits_wholly(ranker, id_, visible):
                raise HTTPException(
                    403,
                    f"this key may write answers alone whose metadata have {visible}, and no "
                    "other value there; give the answer such metadata",
                )
            return new

        return bool(await self._change(put))

    async def delete(self, id_: str, visible: Filter) -> bool:
        """Forget an answer; return whether there was one that may be changed."""

        def delete(ranker: Ranker) -> bool | None:
            if id_ not in ranker.answers["id"] or not _fits_wholly(ranker, id_, visible):
                return None
            if self._settings.restore_days:
                ranker.set_aside(id_)
            else:
                ranker.remove_answers([id_])
            return True

        return bool(await self._change(delete))

    async def restore(self, id_: str, visible: Filter) -> bool:
        """Bring back a deleted answer, with its past queries; return whether there was one.

        One that may not be changed is as if there was none.

        Raises:
            HTTPException: 409 if another has its id by now.
        """

        def restore(ranker: Ranker) -> bool | None:
            removed = next((r for r in ranker.removed if r.answer["id"] == id_), None)
            if removed is None or not _fits_wholly(ranker, id_, visible):
                return None
            if id_ in ranker.answers["id"]:
                raise HTTPException(
                    409,
                    f"there is an answer {id_!r} that was put since; delete it, and restore again",
                )
            row = pl.DataFrame([removed.answer], schema=ranker.answers.schema)
            self._encode_in_turns(ranker, row)
            ranker.restore_answer(id_)
            return True

        return bool(await self._change(restore))

    async def roll_back(self, version: str) -> None:
        """Rank by the version that learning replaced, and keep the other one in turn.

        Raises:
            HTTPException: 409 if that is not the version to go back to.
        """

        def go_back(_: Ranker) -> None:
            if read_pointer(self._folder).previous != version:
                raise HTTPException(409, f"{version!r} is not the ranker before; look again")
            index, device = self._settings.index, self._settings.device
            try:
                roll_back(self._folder, index=index, store=RecentFeatures(), device=device)
            except RankerError as error:  # no fault of the request
                raise ServeError(f"{error}") from None
            self._catch_up()

        await self._change(go_back)

    def find_gaps(self, verdicts: Iterable[Verdict], k: int, visible: Filter) -> Gaps:
        """Find gaps by verdicts, the oldest first; texts are encoded between batches."""
        ranker, asked = self.current.ranker, judge_texts(verdicts)
        for chunk in asked.tail(MAX_GAP_QUERIES).iter_slices(PASSAGES_PER_TURN):
            texts = chunk["text"].to_list()
            read = [*texts, *ranker.rules.expand(texts)]
            self.ranking_thread.submit(ranker.prepare, read).result()
        return find_gaps(ranker, asked, k, where=visible, most=MAX_GAP_QUERIES)

    def read_rules(self) -> str:
        """Return the text of the file of rules.

        Raises:
            HTTPException: 503 if it cannot be read.
        """
        try:
            return read_rules(self._folder)
        except (TwinrankError, OSError) as error:
            log.error("%s", error)
            unread = "the file of rules cannot be read; the service's log says why"
            raise HTTPException(503, unread, RETRY) from None

    async def put_rules(self, text: str, digest: str) -> None:
        """Write the file of rules, and rank by it; so do other workers within a second or two.

        Raises:
            HTTPException: 409 if the digest is not that of the file there, 422 if the text is no
                rules.
        """

        def put(_: Ranker) -> None:
            if digest != digest_rules(self.read_rules()):
                raise HTTPException(409, "the rules were changed meanwhile; load them again")
            Rules.parse(text)
            write_file(self._folder / RULES, text)
            self._follow_rules()

        await self._change(put)

    async def catch_up(self) -> None:
        """Load the ranker if the folder has another one.

        Raises:
            HTTPException: 503 if it cannot be loaded.
        """
        await self._change(lambda _: None)

    async def read_ahead(self) -> None:
        """Encode the sentences of all answers while nobody asks, so that no query waits for it."""
        loop = asyncio.get_running_loop()
        while True:
            more = self.rank.idle_s > QUIET_S and await loop.run_in_executor(
                self.ranking_thread, self.current.read_ahead
            )
            await asyncio.sleep(READ_AHEAD_S if more else FOLLOW_EVERY_S)

    async def follow(self) -> None:
        """Load the ranker again whenever its folder changes, and drop what is deleted for good.

        Until then the former one answers. A folder that cannot be loaded is tried again: the
        cause may be outside it, such as the index, memory or an encoder.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            try:
                await loop.run_in_executor(self._changing_thread, self._catch_up)
                await loop.run_in_executor(self._changing_thread, self._follow_rules)
                self._metrics.refused.set(0)
                if any(record.at <= self._expiry() for record in self.current.ranker.removed):
                    await self._change(lambda _: True)  # every change drops what is expired
            except Exception as error:  # whatever is wrong with the new one, the old one answers
                log.error("the former ranker stays: %s", error)
                self._metrics.refused.set(1)
                await asyncio.sleep(RETRY_LOAD_S)

    def close(self) -> None:
        """End the threads, once their work is done."""
        for thread in (self._changing_thread, self.ranking_thread):
            thread.shutdown()

    def _encode_in_turns(self, ranker: Ranker, row: pl.DataFrame) -> None:
        """Encode an answer's passages between batches: two threads with one encoder starve."""
        if ranker.dense:
            reader = ranker.dense.reader
            passages = reader.passages(row).rows
            for first in range(0, len(passages), PASSAGES_PER_TURN):
                chunk = passages[first : first + PASSAGES_PER_TURN]
                self.ranking_thread.submit(reader.features, chunk).result()

    def _rank(self, batch: Sequence[ScopedRequest]) -> list[Ranking]:
        return self.current.rank(batch)

    def _show(self, loaded: LoadedRanker) -> None:
        """Rank by a ranker from now on; the fields that were filtered on are read before."""
        loaded.ranker.fields.prepare(self.current.ranker.fields)
        self.current = loaded

    def _catch_up(self) -> None:
        if read_pointer(self._folder).version != self.current.fingerprint:
            self._show(LoadedRanker.load(self._settings))
            log.info("ranker %s loaded", self.current.fingerprint)

    def _follow_rules(self) -> None:
        ranker = self.current.ranker
        rules = Rules.load(self._folder, ranker.rules)
        if rules is not ranker.rules:
            ranker.rules = rules  # all else stays, with what was read ahead
            log.info("%d pins and %d synonyms loaded", len(rules.pins), len(rules.synonyms))

    def _expiry(self) -> datetime:
        """Return when answers were deleted that can no longer be restored, or before."""
        return datetime.now(UTC) - timedelta(days=self._settings.restore_days)

    async def _change(self, change: Callable[[Ranker], bool | None]) -> bool | None:
        """Change a copy of the folder's ranker, save it there, and rank by it from now on.

        The result is that of `change`; None means that there is nothing to change.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._changing_thread, self._change_now, change)

    def _change_now(self, change: Callable[[Ranker], bool | None]) -> bool | None:
        try:
            with writing(self._folder):
                self._catch_up()
                ranker = self.current.ranker.copy()
                ranker.removed = tuple(r for r in ranker.removed if r.at > self._expiry())
                try:
                    result = change(ranker)
                except RankerError as error:
                    raise HTTPException(422, f"{error}") from None
                if result is not None:
                    ranker.save(self._folder)
                    self._show(
                        LoadedRanker(
                            ranker,
                            read_pointer(self._folder).version,
                            show_past=self._settings.show_past_queries,
                        )
                    )
                return result
        except (TwinrankError, OSError) as error:
            log.error("%s: %s", self._folder, error)
            undone = "the change could not be saved, and is undone; the service's log says why"
            raise HTTPException(503, undone, RETRY) from error
