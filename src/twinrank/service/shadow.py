"""A second ranker beside the one that answers: what it would have said, which nobody sees."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.stats import binomtest

from twinrank.data import Dataset
from twinrank.data.validation import NO_METADATA
from twinrank.errors import FeedbackError
from twinrank.evaluation import Evaluation, differences, evaluate, holm
from twinrank.feedback.database import SHADOW_COUNTS, Feedback
from twinrank.feedback.verdicts import Verdict, standing_verdicts
from twinrank.ranking import Filter, Ranker
from twinrank.service.live_ranker import LiveRanker, LoadedRanker, ScopedRequest
from twinrank.service.prometheus import CONFIDENT, FLUSH_EVERY_S
from twinrank.service.schemas import Answer, JudgedType, Ranking, ShadowReport, ShadowType, Wins
from twinrank.service.settings import Settings

FIRST = 3  # answers that are compared
MAX_WAITING_QUERIES = 1_000  # of more, the oldest are not compared
QUERIES_PER_TURN = 4
IDLE_S = 0.2  # without a query, before the shadow ranks
PAUSE_S = 0.05
MAX_JUDGED_QUERIES = 500  # the newest
MIN_JUDGED_QUERIES = 20  # of fewer no advice is given
MAX_INTERLEAVED_ANSWERS = 30  # whose teams a verdict can name
METRIC = "accuracy@3"
SIGNIFICANCE_LEVEL = 0.05

log = logging.getLogger(__name__)


class _Answered(NamedTuple):
    """A query that was answered, by which ranker beside which shadow, and what was answered."""

    scoped: ScopedRequest
    day: date
    kind: str
    pair: str  # what was trained: the ranker, and its shadow
    ids: list[str]  # of the first answers
    is_confident: bool


class Shadow:
    """Ranks what was answered once more, by another ranker, and counts how far they agree.

    It ranks while nobody asks, and is not loaded again when its folder changes.

    Raises:
        TwinrankError: if the other ranker cannot be loaded.
    """

    def __init__(self, settings: Settings, live: LiveRanker, feedback: Feedback) -> None:
        self._live, self._feedback = live, feedback
        changes = {"ranker": settings.shadow, "index": None}
        self._loaded = LoadedRanker.load(settings.model_copy(update=changes))
        self._waiting: deque[_Answered] = deque(maxlen=MAX_WAITING_QUERIES)
        self._counts: Counter[tuple[date, str, str, str]] = Counter()

    @property
    def _pair(self) -> str:
        """What was trained: answers may come and go, and the comparison goes on."""
        return f"{self._live.current.trained}+{self._loaded.trained}"

    def offer(self, scoped: ScopedRequest, kind: str, ranking: Ranking) -> None:
        """Remember a query to be ranked again; one with fewer than three answers is passed over."""
        ids = [answer.id for answer in ranking.answers[:FIRST]]
        if len(ids) == FIRST:
            sure = (ranking.confidence or 0) >= CONFIDENT
            if len(self._waiting) == MAX_WAITING_QUERIES:
                self._count(self._waiting[0], {"skipped": 1})
            today = datetime.now(UTC).date()
            self._waiting.append(_Answered(scoped, today, kind, self._pair, ids, sure))

    async def interleave(
        self, batch: Sequence[ScopedRequest], rankings: Sequence[Ranking]
    ) -> list[Ranking]:
        """Return rankings of which both rankers picked answers in turn; see `draft_teams`.

        Each names what was trained and the teams of its answers as its ranker, which clients send
        back with verdicts. One that is withheld stays as it is.
        """
        loop, shadows = asyncio.get_running_loop(), list[Ranking]()
        plain = {"ask_below": 0.0, "min_confidence": 0.0}
        for start in range(0, len(batch), QUERIES_PER_TURN):
            turn = [
                replace(scoped, request=scoped.request.model_copy(update=plain))
                for scoped in batch[start : start + QUERIES_PER_TURN]
            ]
            shadows += await loop.run_in_executor(
                self._live.ranking_thread, self._loaded.rank, turn
            )
        triples = zip(batch, rankings, shadows, strict=True)
        return [
            _mix(scoped.request.query, self._pair, ranking, self._conform(shadow, scoped.visible))
            for scoped, ranking, shadow in triples
        ]

    def _conform(self, ranking: Ranking, visible: Filter) -> Ranking:
        """Return a shadow's ranking with the answers as they are now, without those that are gone.

        The shadow does not follow changes: what was deleted, or is not to be seen, must not come
        back by it.
        """
        answers = []
        for answer in ranking.answers:
            row = self._live.current.find_answer(answer.id, visible)
            if row:
                now = Answer.model_validate(row)
                changes: dict[str, object] = {"title": now.title, "url": now.url}
                texts = [now.text, *(part.text for part in now.sections)]
                if answer.sentence and not any(answer.sentence in text for text in texts):
                    changes |= {"section": None, "sentence": None}
                if answer.passage and not any(answer.passage in t for t in (now.title, *texts)):
                    changes["passage"] = now.text or now.title
                answers.append(answer.model_copy(update=changes))
        return ranking.model_copy(update={"answers": answers})

    async def compare_regularly(self) -> None:
        """Rank what waits, a few queries at a time, while nobody asks; never returns."""
        loop = asyncio.get_running_loop()
        flushed = loop.time()
        while True:
            await asyncio.sleep(PAUSE_S)
            if self._waiting and self._live.rank.idle_s > IDLE_S:
                count = min(QUERIES_PER_TURN, len(self._waiting))
                turn = [self._waiting.popleft() for _ in range(count)]
                counts = await loop.run_in_executor(self._live.ranking_thread, self._compare, turn)
                for answered, numbers in zip(turn, counts, strict=True):
                    self._count(answered, numbers)
            if loop.time() - flushed > FLUSH_EVERY_S:
                await self.flush()
                flushed = loop.time()

    def _compare(self, turn: Sequence[_Answered]) -> list[dict[str, int]]:
        plain: dict[str, object] = {"k": FIRST, "explain": False, "passage": None}
        plain |= {"ask_below": 0.0, "min_confidence": 0.0}
        batch = [
            replace(answered.scoped, request=answered.scoped.request.model_copy(update=plain))
            for answered in turn
        ]
        counts = []
        for answered, ranking in zip(turn, self._loaded.rank(batch), strict=True):
            ids = [answer.id for answer in ranking.answers]
            counts.append(
                {
                    "queries": 1,
                    "same_first": ids[:1] == answered.ids[:1],
                    "shared": len({*ids}.intersection(answered.ids)),
                    "confident": answered.is_confident,
                    "shadow_confident": (ranking.confidence or 0) >= CONFIDENT,
                }
            )
        return counts

    def _count(self, answered: _Answered, numbers: Mapping[str, int]) -> None:
        for name, number in numbers.items():
            self._counts[answered.day, answered.kind, answered.pair, name] += number

    async def flush(self) -> None:
        """Add new counts to the database; if that fails, they are added next time."""
        counts, self._counts = self._counts, Counter()
        rows = {
            (day, kind, pair): [counts[day, kind, pair, name] for name in SHADOW_COUNTS]
            for day, kind, pair, _ in counts
        }
        try:
            await asyncio.to_thread(self._feedback.add_shadow, rows)
        except FeedbackError as error:
            self._counts.update(counts)
            log.error("the shadow is counted on in memory: %s", error)

    def report(self, days: int) -> ShadowReport:
        """Compare both rankers by what was counted, and by what people said, in the last days."""
        current = self._live.current
        types = [
            ShadowType(type=kind, **dict(zip(SHADOW_COUNTS, numbers, strict=True)))
            for kind, numbers in self._feedback.read_shadow(days, self._pair).items()
        ]
        verdicts = self._feedback.recent(days)
        judged = self._judge(current.ranker, verdicts)
        return ShadowReport(
            ranker=current.trained,
            shadow=self._loaded.trained,
            types=types,
            judged=judged,
            interleaved=count_wins(verdicts, self._pair),
            advice=_advise(judged),
        )

    def _judge(self, ranker: Ranker, verdicts: Sequence[Verdict]) -> list[JudgedType]:
        """Measure both rankers on the judged texts whose right answer both of them have."""
        shadow = self._loaded.ranker
        answers = ranker.answers.filter(pl.col("id").is_in(shadow.answers["id"].implode()))
        data = _make_dataset(answers, verdicts)
        if data.labels.is_empty():
            return []
        for of in (ranker, shadow):
            for texts in data.queries["text"].to_frame().iter_slices(QUERIES_PER_TURN):
                read = of.rules.expand(texts["text"].to_list())
                self._live.ranking_thread.submit(of.prepare, read).result()
        first, second = (evaluate(of, data, with_rules=True) for of in (ranker, shadow))
        return _list_judged(first, second)


def draft_teams(
    first: Sequence[str], second: Sequence[str], k: int, rng: np.random.Generator
) -> dict[str, str]:
    """Return k answers in their order, each with the team, `a` or `b`, that picked it.

    Team-draft interleaving (Radlinski, Kurup and Joachims 2008): in each round a coin says which
    team picks first, and each picks its best answer that is not taken.
    """
    lists, picked = {"a": first, "b": second}, dict[str, str]()
    for _ in range(k):
        for team in "ab" if rng.random() < 0.5 else "ba":
            best = next((id_ for id_ in lists[team] if id_ not in picked), None)
            if best is not None and len(picked) < k:
                picked[best] = team
    return picked


def _mix(query: str, pair: str, first: Ranking, second: Ranking) -> Ranking:
    if first.withheld or len(first.answers) > MAX_INTERLEAVED_ANSWERS:
        return first
    # Of the query, so that it is answered alike when it is asked again.
    seed = int.from_bytes(hashlib.sha256(f"{pair}{query}".encode()).digest()[:8])
    a, b = ([answer.id for answer in of.answers] for of in (first, second))
    teams = draft_teams(a, b, len(a), np.random.default_rng(seed))
    of_team = {"a": first.answers, "b": second.answers}
    answers = [
        next(answer for answer in of_team[team] if answer.id == id_).model_copy(
            update={"rank": rank}
        )
        for rank, (id_, team) in enumerate(teams.items(), 1)
    ]
    changes = {
        "answers": answers,
        "confidence": answers[0].confidence if answers else None,
        "ranker": f"{pair}:{''.join(teams.values())}",
    }
    return first.model_copy(update=changes)


def count_wins(verdicts: Sequence[Verdict], pair: str) -> Wins:
    """Count the interleaved queries for which one ranker picked more right answers."""
    wins = Counter[str]()
    for group in standing_verdicts(verdicts).values():
        right = Counter[str]()
        for verdict in group:
            rankers, _, teams = (verdict.ranker or "").partition(":")
            place = verdict.rank
            if verdict.right and rankers == pair and place:
                right[teams[place - 1 : place]] += 1
        if right["a"] != right["b"]:
            wins["a" if right["a"] > right["b"] else "b"] += 1
    total = wins["a"] + wins["b"]
    p = float(binomtest(wins["b"], total).pvalue) if total else 1.0
    return Wins(ranker=wins["a"], shadow=wins["b"], p=p)


def _make_dataset(answers: pl.DataFrame, verdicts: Sequence[Verdict]) -> Dataset:
    """Make a data set of the texts whose right answer was named, and is among the answers."""
    known, rows = set(answers["id"]), []
    for group in standing_verdicts(verdicts).values():
        right = [v.answer for v in group if v.right and v.answer in known]
        if right:
            rows.append((group[-1].text, group[-1].type, right[-1]))
    columns = list(zip(*rows[-MAX_JUDGED_QUERIES:], strict=True)) or [(), (), ()]
    ids = [f"{number}" for number in range(len(columns[0]))]
    text = pl.Series(columns[0], dtype=pl.String)
    cells = {"id": ids, "type": pl.Series(columns[1], dtype=pl.String), "thread": ids}
    queries = pl.DataFrame({**cells, "text": text}).with_columns(metadata=pl.lit(NO_METADATA))
    labels = pl.DataFrame(
        {"query": ids, "answer": pl.Series(columns[2], dtype=pl.String)}
    ).with_columns(split=pl.lit("test"))
    return Dataset("verdicts", answers, queries, labels)


def _list_judged(first: Evaluation, second: Evaluation) -> list[JudgedType]:
    """List both rankers' figures, overall first, with Holm's p over the types."""
    rows = differences(second, first, [METRIC])
    judged = []
    for row, p in zip(rows, holm([row.p for row in rows]), strict=True):
        of_ranker, of_shadow = (
            (of.overall, of.counts["overall"])
            if row.kind is None
            else (of.types[row.kind], of.counts["types"][row.kind])
            for of in (first, second)
        )
        judged.append(
            JudgedType(
                type=row.kind,
                queries=of_ranker[1],
                ranker=of_ranker[0][METRIC],
                shadow=of_shadow[0][METRIC],
                interval=row.interval,
                p=float(p),
            )
        )
    return judged


def _advise(judged: Sequence[JudgedType]) -> str:
    """Say whether to switch: not if a type is surely worse, nor if nothing is surely better."""
    if not judged or judged[0].queries < MIN_JUDGED_QUERIES:
        return "too early"
    sure = [row for row in judged if row.p < SIGNIFICANCE_LEVEL]
    if any(row.shadow < row.ranker for row in sure):
        return "stay"
    return "switch" if sure else "no difference shown"
