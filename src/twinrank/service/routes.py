"""The API: what can be asked and told, over what is alive in the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Path, Query, Request, Response
from pydantic import Discriminator, Field, Tag

from twinrank.errors import RankerError
from twinrank.feedback import Verdict
from twinrank.feedback.database import WAIT_S, Feedback
from twinrank.service import live_ranker
from twinrank.service.batching import BusyError
from twinrank.service.guard import CLIENT, Rate, log_change
from twinrank.service.live_ranker import Live, Reply, TakenError
from twinrank.service.metrics import Metrics
from twinrank.service.schemas import (
    BATCH,
    ONE_LINE,
    Alive,
    Answer,
    FeedbackRequest,
    Found,
    FoundAnswers,
    FoundVerdicts,
    Id,
    Key,
    NewAnswer,
    Past,
    Ranked,
    Ranking,
    RankRequest,
    Ready,
    Statistics,
    Stored,
    documented,
)
from twinrank.service.threads import Threads
from twinrank.service.traffic import Counted, kind_of

Batch = Annotated[list[RankRequest], Field(min_length=1, max_length=BATCH)]
OneOrMore = Annotated[
    Annotated[RankRequest, Tag("one")] | Annotated[Batch, Tag("batch")],
    Discriminator(lambda body: "batch" if isinstance(body, list) else "one"),
    Body(description=f"A query, or a batch of up to {BATCH}."),
]
AnswerId = Annotated[Id, Path(description="Of an answer; one line.", pattern=ONE_LINE)]
VerdictKey = Annotated[Key, Path(description="Of a verdict, as it was sent with it.")]
Responses = dict[int | str, dict[str, Any]]
LOOK_S = 10.0  # at figures
ALWAYS = documented(400, 401, 403, 422, 429, 503)
WITH_BODY = ALWAYS | documented(408, 413, 415)
TAGS = [
    {"name": "ranking", "description": "Rank answers. Takes a key with the role `read`."},
    {"name": "answers", "description": "Reading takes the role `read`, changing `write`."},
    {"name": "feedback", "description": "Verdicts take `feedback`, statistics `write`."},
    {"name": "health", "description": "For probes; takes no key."},
]


class Api:
    """The routes of a service.

    Args:
        ranker: what ranks.
        feedback: where verdicts are kept.
        counted: where traffic is counted.
        metrics: are told of queries and verdicts.
        rate: what each client may ask for.
        log_texts: whether the log is told what was asked.
        show_past: whether replies show texts of past queries.
    """

    def __init__(
        self,
        ranker: Live,
        feedback: Feedback,
        counted: Counted,
        metrics: Metrics,
        rate: Rate,
        *,
        log_texts: bool,
        show_past: bool,
    ) -> None:
        self._live = ranker
        self._feedback = feedback
        self._counted = counted
        self._metrics = metrics
        self._rate = rate
        self._log_texts = log_texts
        self._show_past = show_past
        # Each kind of work that may block has its own: a locked database hides no figures.
        self._writing = Threads("storing", 8, WAIT_S)
        self._reading = Threads("reading the database", 2, LOOK_S)
        self._measuring = Threads("adding up the metrics", 1, LOOK_S)

    def close(self) -> None:
        """Begin nothing new in the database."""
        for threads in (self._writing, self._reading, self._measuring):
            threads.close()

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter()
        add = router.add_api_route
        missing = documented(404)
        tags: list[list[str | Enum]] = [[tag["name"]] for tag in TAGS]
        ranking, answers, feedback, health = tags
        add("/v1/rank", self.rank, methods=["POST"], responses=WITH_BODY, tags=ranking)
        add("/v1/answers", self.answers, responses=ALWAYS, tags=answers)
        add("/v1/answers/{id:path}", self.answer, responses=ALWAYS | missing, tags=answers)
        put: Responses = {201: {"model": Answer, "description": "It is new."}}
        add(
            "/v1/answers/{id:path}",
            self.put,
            methods=["PUT"],
            responses=WITH_BODY | put,
            tags=answers,
        )
        add(
            "/v1/answers/{id:path}",
            self.delete,
            methods=["DELETE"],
            status_code=204,
            responses=ALWAYS | missing,
            tags=answers,
        )
        add(
            "/v1/answers/{id:path}/restore",
            self.restore,
            methods=["POST"],
            responses=ALWAYS | documented(404, 409),
            tags=answers,
        )
        duplicate: Responses = {200: {"model": Stored, "description": "This verdict was there."}}
        add(
            "/v1/feedback",
            self.feedback,
            methods=["POST"],
            status_code=201,
            responses=WITH_BODY | documented(404, 409) | duplicate,
            tags=feedback,
        )
        add("/v1/feedback", self.verdicts, responses=ALWAYS, tags=feedback)
        add(
            "/v1/feedback/{key:path}",
            self.take_back,
            methods=["DELETE"],
            status_code=204,
            responses=ALWAYS | missing,
            tags=feedback,
        )
        add("/v1/stats", self.stats, responses=ALWAYS, tags=feedback)
        add("/healthz", self.healthz, responses=documented(400, 403, 503), tags=health)
        add("/readyz", self.readyz, responses=documented(400, 403, 503), tags=health)
        add("/metrics", self.metrics, include_in_schema=False)
        return router

    async def rank(self, body: OneOrMore, request: Request) -> Ranking | list[Ranking]:
        """Rank the answers for a query, or for each query of a batch."""
        queries = body if isinstance(body, list) else [body]
        if self._log_texts:
            request.state.told = {"texts": [query.query for query in queries]}
        self._charge(request, [query.query for query in queries])
        if any(query.min_confidence for query in queries) and not self._live.now.sure:
            raise HTTPException(
                422, "min_confidence: this ranker knows no confidence; leave it out"
            )
        replies = await self._live.rank(
            [live_ranker.Query(query.query, query.k, query.explain) for query in queries],
            _client(request),
        )
        rankings = [
            self._ranking(query, reply) for query, reply in zip(queries, replies, strict=True)
        ]
        return rankings if isinstance(body, list) else rankings[0]

    async def answers(
        self,
        search: Annotated[str, Query(max_length=200, description="Words of the title.")] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> FoundAnswers:
        """Look for answers by the words of their titles."""
        rows, total = self._live.now.titled(search, limit)
        found = [Found(**row) for row in rows.select("id", "title", "url").iter_rows(named=True)]
        return FoundAnswers(answers=found, total=total)

    async def answer(self, id: AnswerId) -> Answer:
        """An answer with its text."""
        return Answer.model_validate(self._known(id))

    async def put(
        self, id: AnswerId, body: NewAnswer, request: Request, response: Response
    ) -> Answer:
        """Take an answer in, or in place of the one with this id, with no retraining.

        One that is replaced keeps its past queries. Other workers know it within two seconds.
        """
        answer = {"id": id, **body.model_dump()}
        sections = [section.text for section in body.sections or ()]
        self._charge(request, ["".join((body.title, body.text, *sections))])
        try:
            new = await self._live.put(answer)
        except RankerError as error:  # no word is left in any answer
            raise HTTPException(422, str(error)) from None
        if new:
            response.status_code = 201
        log_change(request, "added an answer" if new else "replaced an answer", id=id)
        return Answer.model_validate(answer)

    async def delete(self, id: AnswerId, request: Request) -> Response:
        """Forget an answer; for some days it can be restored."""
        try:
            gone = await self._live.delete(id)
        except RankerError as error:  # the last one stays
            raise HTTPException(422, str(error)) from None
        if not gone:
            raise _unknown(id)
        log_change(request, "deleted an answer", id=id)
        return Response(status_code=204)

    async def restore(self, id: AnswerId, request: Request) -> Answer:
        """Bring back an answer that was deleted, with its past queries.

        One that is there, and was not deleted before, stays as it is.
        """
        try:
            restored = await self._live.restore(id)
        except TakenError:
            raise HTTPException(
                409, f"there is an answer {id!r} that was put since; delete it, and restore again"
            ) from None
        if restored:
            log_change(request, "restored an answer", id=id)
        return Answer.model_validate(self._known(id))

    async def feedback(self, body: FeedbackRequest, request: Request, response: Response) -> Stored:
        """Keep a verdict; it is on disk when this answers."""
        self._charge(request, [body.query])
        verdict = Verdict(
            key=body.key,
            text=body.query,
            type=kind_of(body.type, self._live.now.types),
            answer=body.answer,
            right=body.right,
            shown=None if body.shown is None else tuple(body.shown),
            ranker=body.ranker,
        )
        known = body.answer is None or self._live.now.answer(body.answer) is not None
        if not known and not await self._is_there(verdict):  # the answer may be gone since
            await self._live.check_latest()  # another worker may have taken it in
            raise _unknown(body.answer or "")
        new = known and await self._writing(self._feedback.add, verdict)
        if new:
            self._metrics.verdicts.labels(f"{body.right}".lower()).inc()
            log_change(request, "gave a verdict", key=body.key)
        elif await self._is_there(verdict):
            response.status_code = 200
        else:
            raise BusyError("this verdict was taken back at this moment; try again")
        return Stored(key=body.key, stored=True, duplicate=not new)

    async def _is_there(self, verdict: Verdict) -> bool:
        """Whether a verdict was stored before.

        Raises:
            HTTPException: if another has its key.
        """
        stored = await self._writing(self._feedback.find, verdict.key)
        if stored and (stored.text, stored.answer, stored.right) != (
            verdict.text,
            verdict.answer,
            verdict.right,
        ):
            raise HTTPException(
                409, f"another verdict has the key {verdict.key!r}; give each a key of its own"
            )
        return stored is not None

    async def verdicts(
        self,
        search: Annotated[
            str, Query(max_length=1_000, description="What stands in their text, case aside.")
        ] = "",
        since: Annotated[date | None, Query(description="The first day (UTC).")] = None,
        until: Annotated[date | None, Query(description="The last day (UTC).")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> FoundVerdicts:
        """Look for verdicts, with their texts; the newest come first."""
        found, total = await self._reading(
            self._feedback.search, search, since=since, until=until, limit=limit, offset=offset
        )
        return FoundVerdicts.model_validate({"verdicts": map(asdict, found), "total": total})

    async def take_back(self, key: VerdictKey, request: Request) -> Response:
        """Take a verdict back; that is on disk when this answers, and its key is free again."""
        if not await self._writing(self._feedback.remove, key):
            raise HTTPException(404, f"there is no verdict {key!r}; check the key")
        log_change(request, "took a verdict back", key=key)
        return Response(status_code=204)

    async def stats(self, days: Annotated[int, Query(ge=1, le=3650)] = 30) -> Statistics:
        """What was asked and said in the last days, today (UTC) included."""
        stats = await self._reading(self._feedback.stats, days)
        now = self._live.now

        def titled(listed: Sequence[Any]) -> list[dict[str, Any]]:
            rows = [(asdict(each), now.answer(each.id)) for each in listed]
            return [{**each, "title": row["title"] if row else ""} for each, row in rows]

        return Statistics.model_validate(
            {
                **asdict(stats),
                "misses": titled(stats.misses),
                "wanted": titled(stats.wanted),
                "ranker": now.fingerprint,
            }
        )

    async def healthz(self) -> Alive:
        """Whether the process lives."""
        return Alive()

    async def readyz(self) -> Ready:
        """Whether queries are answered, and by which ranker."""
        now = self._live.now
        return Ready(ready=True, ranker=now.fingerprint, answers=now.ranker.answers.height)

    async def metrics(self) -> Response:
        """For Prometheus."""
        text, kind = await self._measuring(self._metrics.text)
        return Response(text, media_type=kind)

    def _charge(self, request: Request, texts: Sequence[str]) -> None:
        self._rate.take_rest(_client(request), texts)

    def _known(self, id: str) -> dict[str, object]:
        row = self._live.now.answer(id)
        if row is None:
            raise _unknown(id)
        return row

    def _ranking(self, query: RankRequest, reply: Reply) -> Ranking:
        """What is answered; counts it, too."""
        confidence = reply.ranking[0].confidence
        withheld = query.min_confidence > (1.0 if confidence is None else confidence)
        kind = kind_of(query.type, self._live.now.types)
        self._counted.add(kind, confidence, withheld=withheld)
        self._metrics.queries.labels(kind).inc()
        if withheld:
            self._metrics.withheld.labels(kind).inc()
        return Ranking(
            answers=[] if withheld else self._answers(query, reply),
            confidence=confidence,
            withheld=withheld,
            ranker=reply.fingerprint,
        )

    def _answers(self, query: RankRequest, reply: Reply) -> list[Ranked]:
        evidence = reply.evidence or [live_ranker.NOTHING] * len(reply.ranking)
        return [
            Ranked(
                rank=answer.rank,
                id=answer.id,
                title=answer.title,
                url=reply.urls.get(answer.id),
                score=answer.score,
                confidence=answer.confidence,
                section=proof.section,
                sentence=proof.sentence,
                channels=answer.parts if query.explain else None,
                past_queries=[
                    Past(
                        id=past.id,
                        text=past.text if self._show_past else None,
                        similarity=past.similarity,
                    )
                    for past in proof.past_queries
                ],
                solved=proof.solved,
            )
            for answer, proof in zip(reply.ranking, evidence, strict=True)
        ]


def _client(request: Request) -> str:
    """Under which name the rate is counted, and turns are taken."""
    return str(getattr(request.state, CLIENT, ""))


def _unknown(id: str) -> HTTPException:
    return HTTPException(404, f"there is no answer {id!r}; check the id")
