"""The API: what can be asked and told, over what is alive in the service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Path, Query, Request, Response
from pydantic import Discriminator, Field, Tag

from twinrank.data import Verdict
from twinrank.errors import RankerError
from twinrank.serve import live
from twinrank.serve.feedback import Feedback
from twinrank.serve.live import Live, Reply
from twinrank.serve.metrics import Metrics
from twinrank.serve.schemas import (
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
from twinrank.serve.traffic import Counted, kind_of

Batch = Annotated[list[RankRequest], Field(min_length=1, max_length=BATCH)]
OneOrMore = Annotated[
    Annotated[RankRequest, Tag("one")] | Annotated[Batch, Tag("batch")],
    Discriminator(lambda body: "batch" if isinstance(body, list) else "one"),
    Body(description=f"A query, or a batch of up to {BATCH}."),
]
AnswerId = Annotated[Id, Path(description="Of an answer; one line.", pattern=ONE_LINE)]
VerdictKey = Annotated[Key, Path(description="Of a verdict, as it was sent with it.")]
Responses = dict[int | str, dict[str, Any]]
ALWAYS = documented(400, 401, 403, 422, 429, 503)
WITH_BODY = ALWAYS | documented(408, 413, 415)


class Api:
    """The routes of a service.

    Args:
        ranker: what ranks.
        feedback: where verdicts are kept.
        counted: where traffic is counted.
        metrics: are told of queries and verdicts.
        log_texts: whether the log is told what was asked.
        show_past: whether replies show texts of past queries.
    """

    def __init__(
        self,
        ranker: Live,
        feedback: Feedback,
        counted: Counted,
        metrics: Metrics,
        *,
        log_texts: bool,
        show_past: bool,
    ) -> None:
        self._live = ranker
        self._feedback = feedback
        self._counted = counted
        self._metrics = metrics
        self._log_texts = log_texts
        self._show_past = show_past

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter()
        add = router.add_api_route
        missing, changed = documented(404), {**WITH_BODY, **documented(404)}
        add("/v1/rank", self.rank, methods=["POST"], responses=WITH_BODY)
        add("/v1/answers", self.answers, responses=ALWAYS)
        add("/v1/answers/{id:path}", self.answer, responses=ALWAYS | missing)
        put: Responses = {201: {"model": Answer, "description": "It is new."}}
        add("/v1/answers/{id:path}", self.put, methods=["PUT"], responses=changed | put)
        add(
            "/v1/answers/{id:path}",
            self.delete,
            methods=["DELETE"],
            status_code=204,
            responses=ALWAYS | missing,
        )
        duplicate: Responses = {200: {"model": Stored, "description": "This key was there."}}
        add(
            "/v1/feedback",
            self.feedback,
            methods=["POST"],
            status_code=201,
            responses=changed | duplicate,
        )
        add("/v1/feedback", self.verdicts, responses=ALWAYS)
        add(
            "/v1/feedback/{key:path}",
            self.take_back,
            methods=["DELETE"],
            status_code=204,
            responses=ALWAYS | missing,
        )
        add("/v1/stats", self.stats, responses=ALWAYS)
        add("/healthz", self.healthz, responses=documented(403, 503))
        add("/readyz", self.readyz, responses=documented(403, 503))
        add("/metrics", self.metrics, include_in_schema=False)
        return router

    async def rank(self, body: OneOrMore, request: Request) -> Ranking | list[Ranking]:
        """Rank the answers for a query, or for each query of a batch."""
        queries = body if isinstance(body, list) else [body]
        if self._log_texts:
            request.state.told = {"texts": [query.query for query in queries]}
        if any(query.min_confidence for query in queries) and not self._live.now.sure:
            raise HTTPException(
                422, "min_confidence: this ranker knows no confidence; leave it out"
            )
        replies = await self._live.rank(
            [live.Query(query.query, query.k, query.explain) for query in queries]
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
        request.state.told = {"answer": id}
        answer = {"id": id, **body.model_dump()}
        if await self._live.put(answer):
            response.status_code = 201
        return Answer.model_validate(answer)

    async def delete(self, id: AnswerId, request: Request) -> Response:
        """Forget an answer."""
        request.state.told = {"answer": id}
        try:
            gone = await self._live.delete(id)
        except RankerError as error:  # the last one stays
            raise HTTPException(422, str(error)) from None
        if not gone:
            raise _unknown(id)
        return Response(status_code=204)

    async def feedback(self, body: FeedbackRequest, request: Request, response: Response) -> Stored:
        """Keep a verdict; it is on disk when this answers."""
        request.state.told = {"verdict": body.key}
        if body.answer is not None and self._live.now.answer(body.answer) is None:
            if await asyncio.to_thread(self._feedback.holds, body.key):  # it is gone since
                response.status_code = 200
                return Stored(key=body.key, stored=True, duplicate=True)
            await self._live.check_latest()  # another worker may have taken the answer in
            raise _unknown(body.answer)
        verdict = Verdict(
            key=body.key,
            text=body.query,
            type=body.type or "",
            answer=body.answer,
            right=body.right,
            shown=tuple(body.shown),
            ranker=body.ranker,
        )
        new = await asyncio.to_thread(self._feedback.add, verdict)
        if new:
            self._metrics.verdicts.labels(f"{body.right}".lower()).inc()
        else:
            response.status_code = 200
        return Stored(key=body.key, stored=True, duplicate=not new)

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
        found, total = await asyncio.to_thread(
            self._feedback.find, search, since=since, until=until, limit=limit, offset=offset
        )
        return FoundVerdicts.model_validate({"verdicts": map(asdict, found), "total": total})

    async def take_back(self, key: VerdictKey, request: Request) -> Response:
        """Take a verdict back; that is on disk when this answers, and its key is free again."""
        request.state.told = {"verdict": key}
        if not await asyncio.to_thread(self._feedback.remove, key):
            raise HTTPException(404, f"there is no verdict {key!r}; check the key")
        return Response(status_code=204)

    async def stats(self, days: Annotated[int, Query(ge=1, le=3650)] = 30) -> Statistics:
        """What was asked and said in the last days, today (UTC) included."""
        stats = await asyncio.to_thread(self._feedback.stats, days)
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
        text, kind = await asyncio.to_thread(self._metrics.text)
        return Response(text, media_type=kind)

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
        evidence = reply.evidence or [live.NOTHING] * len(reply.ranking)
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


def _unknown(id: str) -> HTTPException:
    return HTTPException(404, f"there is no answer {id!r}; check the id")
