"""The HTTP routes of the service."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Body, Depends, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer
from pydantic import Discriminator, Field, Tag
from starlette.convertors import PathConvertor, register_url_convertor

from twinrank.data.markup import read_markup, strip_markup
from twinrank.errors import RankerError
from twinrank.feedback.database import Feedback
from twinrank.feedback.feedback_statistics import MissedQuery, find_misses
from twinrank.feedback.gaps import Gaps
from twinrank.feedback.labels import HOLD_BACK, count_waiting
from twinrank.feedback.verdicts import Verdict
from twinrank.ranking import Filter, read_manifest, read_pointer
from twinrank.service.access import RateLimiter
from twinrank.service.live_ranker import LiveRanker, ScopedRequest, digest_rules
from twinrank.service.logs import log_change
from twinrank.service.prometheus import Metrics, TrafficCounter, counted_type
from twinrank.service.schemas import (
    MAX_BATCH_QUERIES,
    ONE_LINE,
    Answer,
    FeedbackRequest,
    Found,
    FoundAnswers,
    FoundMisses,
    FoundVerdicts,
    Id,
    Key,
    LearningState,
    NewAnswer,
    Question,
    Ranking,
    RankRequest,
    Ready,
    RulesFile,
    Section,
    ShadowReport,
    Statistics,
    Stored,
    StoredRules,
    documented,
)
from twinrank.service.settings import Settings

if TYPE_CHECKING:
    from twinrank.service.shadow import Shadow

MAX_GAP_VERDICTS = 10_000  # of which gaps are found, the newest
Batch = Annotated[list[RankRequest], Field(min_length=1, max_length=MAX_BATCH_QUERIES)]
OneOrMore = Annotated[
    Annotated[RankRequest, Tag("one")] | Annotated[Batch, Tag("batch")],
    Discriminator(lambda body: "batch" if isinstance(body, list) else "one"),
    Body(description=f"A query, or a batch of up to {MAX_BATCH_QUERIES}."),
]
AnswerId = Annotated[Id, Path(description="Of an answer; one line.", pattern=ONE_LINE)]
VerdictKey = Annotated[Key, Path(description="Of a verdict, as it was sent with it.")]
Responses = dict[int | str, dict[str, Any]]
WITH_BODY, MISSING = documented(408, 413, 415), documented(404)
NEW: Responses = {201: {"model": Answer, "description": "It is new."}}
DUPLICATE: Responses = {200: {"model": Stored, "description": "This verdict was there."}}
TAGS = [
    {"name": "ranking", "description": "Rank answers. Takes a key with the role `read`."},
    {"name": "texts", "description": "As other clients know them. Takes a key with `read`."},
    {"name": "answers", "description": "Reading takes the role `read`, changing `write`."},
    {
        "name": "feedback",
        "description": "Verdicts take `feedback`, lists, statistics and gaps `write`.",
    },
    {"name": "health", "description": "For probes; takes no key."},
]


Result = TypeVar("Result")
AnyQuestion = TypeVar("AnyQuestion", bound=Question)


class TextConvertor(PathConvertor):
    """Takes any text in a path: an id that ends with a line feed is invalid, and not cut."""

    regex = r"[\s\S]*"


register_url_convertor("text", TextConvertor())
# The guard looks at keys; here they are described.
bearer = HTTPBearer(scheme_name="key", description="A key of yours.", auto_error=False)
ALWAYS = documented(400, 401, 403, 422, 429, 503)
api = APIRouter(dependencies=[Depends(bearer)], responses=ALWAYS)
probes = APIRouter(tags=["health"], responses=documented(400, 403, 503))


@dataclass
class Service:
    """All that the routes of one application share."""

    settings: Settings
    ranker: LiveRanker
    feedback: Feedback
    traffic: TrafficCounter
    metrics: Metrics
    rate: RateLimiter
    shadow: Shadow | None = None
    # Each kind of work that may block has its own threads: a locked database hides no figures.
    storing: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(8))
    reading: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    grouping: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))

    async def close(self) -> None:
        """Store what is counted in memory, and end all threads."""
        await self.traffic.flush()
        if self.shadow:
            await self.shadow.flush()
        self.ranker.close()
        self.feedback.close()

    def charge(self, request: Request, *texts: str) -> None:
        """Count the texts of a request against its client's rate."""
        self.rate.charge_texts(request.state.client, texts)

    async def redact(self, questions: list[AnyQuestion]) -> list[AnyQuestion]:
        """Give questions as they are ranked, logged and stored: redacted, if that is set."""
        if not self.settings.redact:
            return questions
        from twinrank.data.redaction import redact_all

        texts, counts = await run_in_threadpool(redact_all, [q.query for q in questions])
        for kind, count in counts.items():
            self.metrics.redacted.labels(kind).inc(count)
        pairs = zip(questions, texts, strict=True)
        return [q.model_copy(update={"text": text, "turns": None}) for q, text in pairs]

    def find_answer(self, id_: str, visible: Filter) -> Answer:
        """Return an answer that may be seen, or raise a 404."""
        row = self.ranker.current.find_answer(id_, visible)
        if row is None:
            raise _missing_answer(id_)
        return Answer.model_validate(row)


async def in_thread(limiter: CapacityLimiter, work: Callable[..., Result], *args: object) -> Result:
    """Call what may block, in one of a limited number of threads; the guard bounds the time."""
    return await to_thread.run_sync(work, *args, limiter=limiter, abandon_on_cancel=True)


def read_as_text(answer: NewAnswer) -> NewAnswer:
    """Make text of HTML and Markdown, and sections of the headings if none are given."""
    text, parts, _ = read_markup(answer.text)
    given = [(strip_markup(part.title), read_markup(part.text).text) for part in answer.sections]
    pairs = given or [(part["title"], part["text"]) for part in parts]
    sections = [Section.model_construct(title=title, text=text) for title, text in pairs]
    changes = {"title": strip_markup(answer.title), "text": text, "sections": sections}
    return answer.model_copy(update=changes)


async def get_service(request: Request) -> Service:
    """Return the service of the application that a request came to."""
    service: Service = request.app.state.service
    return service


async def get_visible(request: Request) -> Filter:
    """Return the filter of the answers that the sender of a request may see."""
    visible: Filter = request.state.visible
    return visible


Shared = Annotated[Service, Depends(get_service)]
Visible = Annotated[Filter, Depends(get_visible)]


@api.post("/v1/rank", responses=WITH_BODY, tags=["ranking"])
async def rank(
    body: OneOrMore, request: Request, service: Shared, visible: Visible
) -> Ranking | list[Ranking]:
    """Rank the answers for a query, or for each query of a batch."""
    queries = body if isinstance(body, list) else [body]
    passages = sum(query.k for query in queries if query.passage)
    service.charge(request, *(query.query for query in queries), *[""] * passages)
    queries = await service.redact(queries)
    if service.settings.log_texts:
        request.state.logged = {"texts": [query.query for query in queries]}
    knows_confidence = service.ranker.current.ranker.confidence is not None
    if any(query.min_confidence for query in queries) and not knows_confidence:
        raise HTTPException(422, "min_confidence: this ranker knows no confidence; leave it out")
    batch = [ScopedRequest(query, visible) for query in queries]
    rankings = first = await service.ranker.rank(batch, request.state.client)
    if service.shadow and service.settings.interleave:
        rankings = await service.shadow.interleave(batch, first)
    for query, ranking, of_ranker in zip(queries, rankings, first, strict=True):
        kind = counted_type(query.type, service.ranker.current.types)
        service.traffic.add(kind, ranking.confidence, withheld=ranking.withheld)
        service.metrics.queries.labels(kind).inc()
        if ranking.withheld:
            service.metrics.withheld.labels(kind).inc()
        if service.shadow:
            service.shadow.offer(ScopedRequest(query, visible), kind, of_ranker)
    return rankings if isinstance(body, list) else rankings[0]


@api.get("/v1/answers", tags=["answers"])
async def answers(
    service: Shared,
    visible: Visible,
    search: Annotated[str, Query(max_length=200, description="Words of the title.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> FoundAnswers:
    """Look for answers by the words of their titles."""
    find = service.ranker.current.search_titles  # many words in many titles take a while
    rows, total = await in_thread(service.reading, find, search, limit, visible)
    found_rows = rows.select("id", "title", "url").iter_rows(named=True)
    return FoundAnswers(answers=[Found(**row) for row in found_rows], total=total)


@api.get("/v1/answers/{id:text}", responses=MISSING, tags=["answers"])
async def answer(id: AnswerId, service: Shared, visible: Visible) -> Answer:
    """An answer with its text."""
    return service.find_answer(id, visible)


@api.put("/v1/answers/{id:text}", responses=WITH_BODY | NEW, tags=["answers"])
async def put(
    id: AnswerId,
    body: NewAnswer,
    request: Request,
    response: Response,
    service: Shared,
    visible: Visible,
    plain: Annotated[bool, Query(description="Whether to leave HTML and Markdown alone.")] = False,
) -> Answer:
    """Take an answer in, or in place of the one with this id, with no retraining.

    HTML and Markdown become text, their headings sections, if none are given. One that is
    replaced keeps its past queries. Other workers know it within two seconds.
    """
    if not plain:
        body = await run_in_threadpool(read_as_text, body)
    row = {"id": id, **body.model_dump()}
    if body.metadata is not None:
        row["metadata"] = json.dumps(body.metadata, ensure_ascii=False)
    sections = [section.text for section in body.sections]
    service.charge(request, "".join((body.title, body.text, *sections)))
    new = await service.ranker.put(row, visible)
    if new:
        response.status_code = 201
    log_change(request.state, "added an answer" if new else "replaced an answer", id=id)
    return service.find_answer(id, visible)


@api.delete("/v1/answers/{id:text}", status_code=204, responses=MISSING, tags=["answers"])
async def delete(id: AnswerId, request: Request, service: Shared, visible: Visible) -> Response:
    """Forget an answer; for some days it can be restored."""
    if not await service.ranker.delete(id, visible):
        raise _missing_answer(id)
    log_change(request.state, "deleted an answer", id=id)
    return Response(status_code=204)


@api.post("/v1/answers/{id:text}/restore", responses=MISSING | documented(409), tags=["answers"])
async def restore(id: AnswerId, request: Request, service: Shared, visible: Visible) -> Answer:
    """Bring back an answer that was deleted, with its past queries.

    One that is there, and was not deleted before, stays as it is.
    """
    if await service.ranker.restore(id, visible):
        log_change(request.state, "restored an answer", id=id)
    return service.find_answer(id, visible)


@api.get("/v1/rules", tags=["answers"])
async def rules(service: Shared, visible: Visible) -> StoredRules:
    """The pins and synonyms. A key with a filter may not: they are for all answers."""
    if visible:
        raise HTTPException(403, "this key sees some of the answers; rules are for all of them")
    current, text = service.ranker.current, await run_in_threadpool(service.ranker.read_rules)
    in_use = current.ranker.rules
    return StoredRules(
        text=text,
        digest=digest_rules(text),
        pins=len(in_use.pins),
        synonyms=len(in_use.synonyms),
        unknown=current.find_unknown({pin.answer for pin in in_use.pins}, visible),
    )


@api.put("/v1/rules", responses=WITH_BODY | documented(409), tags=["answers"])
async def put_rules(
    body: RulesFile, request: Request, service: Shared, visible: Visible
) -> StoredRules:
    """Write the pins and synonyms in place of those there; other workers know within two seconds.

    The text is TOML, as docs/guides/rules.md shows.
    """
    if not visible:
        await service.ranker.put_rules(body.text, body.digest)
        log_change(request.state, "changed the rules")
    return await rules(service, visible)


@api.post(
    "/v1/feedback",
    status_code=201,
    responses=WITH_BODY | documented(404, 409) | DUPLICATE,
    tags=["feedback"],
)
async def feedback(
    body: FeedbackRequest,
    request: Request,
    response: Response,
    service: Shared,
    visible: Visible,
) -> Stored:
    """Keep a verdict; it is on disk when this answers."""
    service.charge(request, body.query)
    [body] = await service.redact([body])
    verdict = Verdict(
        key=body.key,
        text=body.query,
        type=counted_type(body.type, service.ranker.current.types),
        answer=body.answer,
        right=body.right,
        shown=None if body.shown is None else tuple(body.shown),
        ranker=body.ranker,
        scope=str(visible),
    )
    named = set() if body.answer is None else {body.answer}
    if visible:  # others may name what was shown, and is gone since
        named.update(body.shown or ())
    unknown = service.ranker.current.find_unknown(named, visible)
    if unknown and not await _is_stored(service, verdict):  # else the answer is gone since
        await service.ranker.catch_up()  # another worker may have taken it in
        for id_ in unknown:
            service.find_answer(id_, visible)
    if new := await in_thread(service.storing, service.feedback.add, verdict):
        service.metrics.verdicts.labels(f"{body.right}".lower()).inc()
        log_change(request.state, "gave a verdict", key=body.key)
    else:
        await _is_stored(service, verdict)
        response.status_code = 200
    return Stored(key=body.key, stored=True, duplicate=not new)


async def _is_stored(service: Service, verdict: Verdict) -> bool:
    """Return whether a verdict is stored, or raise a 409 if another one has its key."""
    stored = await in_thread(service.storing, service.feedback.find, verdict.key)
    compared = ("text", "answer", "right")
    if stored and any(getattr(stored, name) != getattr(verdict, name) for name in compared):
        raise HTTPException(
            409, f"another verdict has the key {verdict.key!r}; give each a key of its own"
        )
    return stored is not None


@api.get("/v1/feedback", tags=["feedback"])
async def verdicts(
    service: Shared,
    visible: Visible,
    search: Annotated[
        str, Query(max_length=1_000, description="What stands in their text, case aside.")
    ] = "",
    since: Annotated[date | None, Query(description="The first day (UTC).")] = None,
    until: Annotated[date | None, Query(description="The last day (UTC).")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> FoundVerdicts:
    """Look for verdicts, with their texts; the newest come first.

    A key with a filter sees those alone that keys with the same filter gave.
    """
    find = partial(service.feedback.search, since=since, until=until, scope=str(visible))
    page, total = await in_thread(
        service.reading, partial(find, limit=limit, offset=offset), search
    )
    return FoundVerdicts.model_validate({"verdicts": page, "total": total})


@api.delete("/v1/feedback/{key:text}", status_code=204, responses=MISSING, tags=["feedback"])
async def take_back(
    key: VerdictKey, request: Request, service: Shared, visible: Visible
) -> Response:
    """Take a verdict back; that is on disk when this answers, and its key is free again."""
    verdict = await in_thread(service.storing, service.feedback.find, key)
    hidden = verdict is not None and bool(visible) and verdict.scope != str(visible)
    if hidden or not await in_thread(service.storing, service.feedback.remove, key):
        raise HTTPException(404, f"there is no verdict {key!r}; check the key")
    log_change(request.state, "took a verdict back", key=key)
    return Response(status_code=204)


@api.get("/v1/stats", tags=["feedback"])
async def stats(
    service: Shared, visible: Visible, days: Annotated[int, Query(ge=1, le=3650)] = 30
) -> Statistics:
    """What was asked and said in the last days, today (UTC) included.

    A key with a filter sees verdicts alone, and of keys with the same filter: queries are counted
    for all keys together.
    """
    current = service.ranker.current

    def title_of(id_: str) -> str:
        row = current.find_answer(id_, visible)
        return str(row["title"]) if row else ""

    scope = str(visible)
    summarise = partial(service.feedback.statistics, days, title_of=title_of, scope=scope)
    statistics = await in_thread(service.reading, summarise)
    return Statistics(**dict(statistics), ranker=current.fingerprint)


@api.get("/v1/misses", tags=["feedback"])
async def misses(
    service: Shared,
    visible: Visible,
    days: Annotated[int, Query(ge=1, le=3650)] = 30,
    answer: Annotated[str | None, Query(max_length=256, description="An id.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> FoundMisses:
    """The judged queries of the last days that went wrong, with their texts; newest first.

    Those without a right answer among the shown; with `answer`, those for which that one was
    wrong, or right and not shown. A key with a filter sees those that such keys judged.
    """

    def find() -> list[MissedQuery]:
        return find_misses(service.feedback.recent(days, str(visible)), answer)

    queries = await in_thread(service.reading, find)
    page, current = queries[offset : offset + limit], service.ranker.current
    ids = {id_ for q in page for id_ in (*(q.shown or ()), *q.wrong, *q.right)} | {answer or ""}
    rows = {id_: current.find_answer(id_, visible) for id_ in ids}
    titles = {id_: f"{row['title']}" for id_, row in rows.items() if row}
    return FoundMisses(misses=page, titles=titles, total=len(queries))


@api.get("/v1/shadow", responses=MISSING, tags=["feedback"])
async def shadow(
    service: Shared, visible: Visible, days: Annotated[int, Query(ge=1, le=3650)] = 30
) -> ShadowReport:
    """The ranker beside its shadow, in the last days: how far they agree, and who is right."""
    _check_whole(visible)
    if service.shadow is None:
        raise HTTPException(404, "there is no shadow; start the service with --shadow RANKER")
    await service.shadow.flush()
    return await in_thread(service.grouping, service.shadow.report, days)


@api.get("/v1/learning", tags=["feedback"])
async def learning(service: Shared, visible: Visible) -> LearningState:
    """What learning from feedback did last, and how much waits to be learned."""
    _check_whole(visible)
    return await in_thread(service.reading, _describe_learning, service)


@api.post("/v1/learning/rollback", responses=documented(409), tags=["feedback"])
async def rollback(
    request: Request,
    service: Shared,
    visible: Visible,
    version: Annotated[str, Query(description="The one before, so that nothing else is undone.")],
) -> LearningState:
    """Go back to the ranker that learning replaced; answers stay as they are now."""
    _check_whole(visible)
    await service.ranker.roll_back(version)
    log_change(request.state, "rolled the ranker back", version=version)
    return await in_thread(service.reading, _describe_learning, service)


def _describe_learning(service: Service) -> LearningState:
    folder, ranker = service.settings.ranker, service.ranker.current.ranker
    versions = {"current": (service.ranker.current.fingerprint, ranker.origin)}
    if version := read_pointer(folder).previous:
        versions["previous"] = (version, read_manifest(folder, previous=True).origin)
    waiting, learned = None, ranker.origin.learned
    if ranker.recipe.training:
        ids, past = ranker.answers["id"].to_list(), ranker.past
        labels = zip(*past.labels.nonzero(), strict=True) if past else ()
        pairs = ((past.texts[query], ids[row]) for query, row in labels) if past else ()
        hold_back = learned.hold_back if learned else HOLD_BACK
        waiting = count_waiting(service.feedback.verdicts(), ids, pairs, hold_back=hold_back)
    state: dict[str, Any] = {
        name: {"version": version, **origin.model_dump(include={"learned", "quality", "labelled"})}
        for name, (version, origin) in versions.items()
    }
    command = shlex.join(["twinrank", "learn", folder.name])
    return LearningState(**{"previous": None, **state, "waiting": waiting, "command": command})


def _check_whole(visible: Filter) -> None:
    """Refuse a key with a filter: the ranker is everybody's."""
    if visible:
        raise HTTPException(403, "the ranker is everybody's; use a key without a filter")


@api.get("/v1/gaps", tags=["feedback"])
async def gaps(
    service: Shared,
    visible: Visible,
    days: Annotated[int, Query(ge=1, le=3650)] = 90,
    k: Annotated[int, Query(ge=1, le=100, description="How many topics.")] = 10,
) -> Gaps:
    """Topics with several queries whose verdicts name no right answer, the likeliest gap first.

    Of the last days, today (UTC) included, the newest 10,000 verdicts are read, and the newest 500
    of their queries looked at. A key with a filter sees verdicts of keys with the same filter
    alone.
    """
    verdicts = await in_thread(service.reading, service.feedback.recent, days, str(visible))
    find = service.ranker.find_gaps
    try:
        return await in_thread(service.grouping, find, verdicts[-MAX_GAP_VERDICTS:], k, visible)
    except RankerError as error:  # it has no encoder
        raise HTTPException(422, f"{error}") from None


@probes.get("/healthz")
async def healthz() -> dict[str, bool]:
    """Whether the process lives."""
    return {"alive": True}


@probes.get("/readyz")
async def readyz(service: Shared) -> Ready:
    """Whether queries are answered, and by which ranker."""
    current = service.ranker.current
    answer_count = current.ranker.answers.height
    return Ready(ready=True, ranker=current.fingerprint, answers=answer_count)


@probes.get("/metrics", include_in_schema=False)
async def metrics(service: Shared) -> Response:
    """Return the figures for Prometheus."""
    text, media_type = await run_in_threadpool(service.metrics.render)
    return Response(text, media_type=media_type)


def _missing_answer(id_: str) -> HTTPException:
    return HTTPException(404, f"there is no answer {id_!r}; check the id")
