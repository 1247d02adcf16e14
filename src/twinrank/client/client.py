"""The clients of a service: one that waits for each reply, and one for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeAlias
from uuid import uuid4

import httpx
from pydantic import TypeAdapter

from twinrank.client.requests import (
    MAX_CONNECTIONS,
    RETRIES,
    TIMEOUT_S,
    Attempts,
    Outcome,
    Reply,
    Request,
    Service,
    dump_json,
    make_batches,
    quote_name,
)
from twinrank.service.schemas import (
    Answer,
    FoundAnswers,
    Ranking,
    Ready,
    Section,
    Statistics,
    Stored,
    Turn,
)

Query: TypeAlias = str | Sequence[Turn | Mapping[str, str]]
_RANKINGS = TypeAdapter(list[Ranking])


class Client:
    """Asks a running service, and waits for its replies; threads may share one.

    A passing failure (a lost connection, 429, 502, 503, 504) is tried again, with growing pauses,
    or after as long as the service asks. Every method raises `ClientError`.

    Args:
        url: the service's address.
        key: if the service has keys.
        timeout: seconds for each request, its retries and the pauses between them included.
        retries: attempts after the first.
        transport: of httpx, for certificates of your own or in tests.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._service = Service(url, key, timeout, retries)
        self._http = httpx.Client(**self._service.httpx_options, transport=transport)

    def rank(
        self,
        query: Query,
        *,
        k: int = 5,
        type: str | None = None,
        min_confidence: float = 0.0,
        explain: bool = True,
    ) -> Ranking:
        """Rank the answers for a query.

        Args:
            query: a text, or the turns of a conversation: `Turn(role="user", text="...")`, or
                mappings with the same fields.
            k: how many answers.
            type: of the query, as in the data; for the service's counts.
            min_confidence: give no answer if the first is less likely right.
            explain: whether to give section, sentence, channels and past queries.

        Returns:
            The ranking, best answer first; `withheld` says that there would be one but for
            `min_confidence`.
        """
        body = _rank_body(query, k, type, min_confidence, explain)
        return self._send(Request("POST", "/v1/rank", body=body), Ranking.model_validate_json)

    def rank_batch(
        self,
        queries: Sequence[Query],
        *,
        k: int = 5,
        type: str | None = None,
        min_confidence: float = 0.0,
        explain: bool = True,
    ) -> list[Ranking]:
        """Rank the answers for each of n queries, in as many requests as that takes.

        Queries are texts or conversations; the options are those of `rank`, for each of them. The
        rankings come in the queries' order.
        """
        rankings: list[Ranking] = []
        for request in _batch_requests(queries, k, type, min_confidence, explain):
            rankings += self._send(request, _RANKINGS.validate_json)
        return rankings

    def answer(self, id: str) -> Answer:
        """Get an answer with its text."""
        return self._send(Request("GET", _answer_path(id)), Answer.model_validate_json)

    def find_answers(self, words: str = "", *, limit: int = 10) -> FoundAnswers:
        """Find answers whose titles hold all the words: `limit` of them, and their number."""
        request = Request("GET", "/v1/answers", {"search": words, "limit": limit})
        return self._send(request, FoundAnswers.model_validate_json)

    def put_answer(
        self,
        id: str,
        *,
        title: str,
        text: str = "",
        url: str | None = None,
        sections: Sequence[Section | Mapping[str, str]] = (),
    ) -> Answer:
        """Insert an answer, or replace the one with this id; it can be ranked at once.

        Args:
            id: of the answer.
            title: of the answer.
            text: all of it, that of sections included.
            url: where people can read it.
            sections: its parts: `Section(title="...", text="...")`, or mappings with these
                fields.

        Returns:
            The answer as it is stored.
        """
        request = _put_request(id, title, text, url, sections)
        return self._send(request, Answer.model_validate_json)

    def delete_answer(self, id: str) -> None:
        """Delete an answer; an unknown one is an error. See `restore_answer`."""
        self._send(Request("DELETE", _answer_path(id)), bytes)

    def restore_answer(self, id: str) -> Answer:
        """Bring back an answer that was deleted some days ago at most, with its past queries.

        Returns:
            The answer as it is stored.
        """
        request = Request("POST", f"{_answer_path(id)}/restore")
        return self._send(request, Answer.model_validate_json)

    def feedback(
        self,
        query: Query,
        *,
        answer: str | None = None,
        right: bool,
        shown: Sequence[str] | None = None,
        type: str | None = None,
        ranker: str | None = None,
        key: str | None = None,
    ) -> Stored:
        """Store a verdict; it is on the service's disk when this returns.

        Args:
            query: a text, or the turns of a conversation.
            answer: id of the answer that is right or wrong, shown or not; None with `right`
                false says that none of those shown was right.
            right: whether it is.
            shown: ids of the answers that were shown, in their order; None if not known.
            type: of the query, as in the data.
            ranker: fingerprint of the ranker, from the ranking.
            key: of the verdict, 64 characters at most: the service keeps one with each, and
                refuses another verdict with it (409). By default one is made for this call, and
                serves for its retries; give one where the call itself may be made again.

        Returns:
            Its `key`, by which `take_back` finds it; `duplicate` if the key was there, from this
            call's lost attempt or another call.
        """
        request = _feedback_request(query, answer, right, shown, type, ranker, key)
        return self._send(request, Stored.model_validate_json)

    def take_back(self, key: str) -> None:
        """Take a verdict back; an unknown one is an error.

        Args:
            key: of the verdict, as it was given to `feedback` or is in its reply.
        """
        self._send(Request("DELETE", f"/v1/feedback/{quote_name(key, 'key')}"), bytes)

    def stats(self, days: int = 30) -> Statistics:
        """Count the questions and verdicts of the last days, today (UTC) included."""
        request = Request("GET", "/v1/stats", {"days": days})
        return self._send(request, Statistics.model_validate_json)

    def ready(self) -> Ready:
        """Ask which ranker answers; a service that is not ready is an error."""
        return self._send(Request("GET", "/readyz"), Ready.model_validate_json)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: Request, parse: Callable[[bytes], Reply]) -> Reply:
        attempts = Attempts(request, self._service)
        arguments = request.httpx_arguments()
        outcome: Outcome
        while True:
            try:
                outcome = self._http.request(**arguments, timeout=attempts.timeout())
            except httpx.RequestError as error:
                outcome = error
            pause = attempts.pause_s(outcome)
            if pause is None:
                return self._service.read(attempts.body(outcome), parse)
            time.sleep(pause)


class AsyncClient:
    """Asks a running service, for asyncio: the methods of `Client`, to be awaited.

    Args:
        url: the service's address.
        key: if the service has keys.
        timeout: seconds for each request, its retries and the pauses between them included.
        retries: attempts after the first.
        transport: of httpx, for certificates of your own or in tests.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._service = Service(url, key, timeout, retries)
        self._http = httpx.AsyncClient(**self._service.httpx_options, transport=transport)
        # httpx goes through all that wait for a connection whenever one is free: none waits there
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    async def rank(
        self,
        query: Query,
        *,
        k: int = 5,
        type: str | None = None,
        min_confidence: float = 0.0,
        explain: bool = True,
    ) -> Ranking:
        """Rank the answers for a query; see `Client.rank`."""
        body = _rank_body(query, k, type, min_confidence, explain)
        request = Request("POST", "/v1/rank", body=body)
        return await self._send(request, Ranking.model_validate_json)

    async def rank_batch(
        self,
        queries: Sequence[Query],
        *,
        k: int = 5,
        type: str | None = None,
        min_confidence: float = 0.0,
        explain: bool = True,
    ) -> list[Ranking]:
        """Rank the answers for each of n queries; see `Client.rank_batch`."""
        rankings: list[Ranking] = []
        for request in _batch_requests(queries, k, type, min_confidence, explain):
            rankings += await self._send(request, _RANKINGS.validate_json)
        return rankings

    async def answer(self, id: str) -> Answer:
        """Get an answer with its text."""
        return await self._send(Request("GET", _answer_path(id)), Answer.model_validate_json)

    async def find_answers(self, words: str = "", *, limit: int = 10) -> FoundAnswers:
        """Find answers whose titles hold all the words; see `Client.find_answers`."""
        request = Request("GET", "/v1/answers", {"search": words, "limit": limit})
        return await self._send(request, FoundAnswers.model_validate_json)

    async def put_answer(
        self,
        id: str,
        *,
        title: str,
        text: str = "",
        url: str | None = None,
        sections: Sequence[Section | Mapping[str, str]] = (),
    ) -> Answer:
        """Insert or replace an answer; see `Client.put_answer`."""
        request = _put_request(id, title, text, url, sections)
        return await self._send(request, Answer.model_validate_json)

    async def delete_answer(self, id: str) -> None:
        """Delete an answer; see `Client.delete_answer`."""
        await self._send(Request("DELETE", _answer_path(id)), bytes)

    async def restore_answer(self, id: str) -> Answer:
        """Bring back a deleted answer; see `Client.restore_answer`."""
        request = Request("POST", f"{_answer_path(id)}/restore")
        return await self._send(request, Answer.model_validate_json)

    async def feedback(
        self,
        query: Query,
        *,
        answer: str | None = None,
        right: bool,
        shown: Sequence[str] | None = None,
        type: str | None = None,
        ranker: str | None = None,
        key: str | None = None,
    ) -> Stored:
        """Store a verdict; see `Client.feedback`."""
        request = _feedback_request(query, answer, right, shown, type, ranker, key)
        return await self._send(request, Stored.model_validate_json)

    async def take_back(self, key: str) -> None:
        """Take a verdict back; see `Client.take_back`."""
        await self._send(Request("DELETE", f"/v1/feedback/{quote_name(key, 'key')}"), bytes)

    async def stats(self, days: int = 30) -> Statistics:
        """Count the questions and verdicts of the last days; see `Client.stats`."""
        request = Request("GET", "/v1/stats", {"days": days})
        return await self._send(request, Statistics.model_validate_json)

    async def ready(self) -> Ready:
        """Ask which ranker answers; see `Client.ready`."""
        return await self._send(Request("GET", "/readyz"), Ready.model_validate_json)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, request: Request, parse: Callable[[bytes], Reply]) -> Reply:
        attempts = Attempts(request, self._service)
        arguments = request.httpx_arguments()
        outcome: Outcome
        while True:
            async with self._free:
                try:
                    outcome = await self._http.request(**arguments, timeout=attempts.timeout())
                except httpx.RequestError as error:
                    outcome = error
            pause = attempts.pause_s(outcome)
            if pause is None:
                return self._service.read(attempts.body(outcome), parse)
            await asyncio.sleep(pause)


def _rank_body(
    query: Query, k: int, type: str | None, min_confidence: float, explain: bool
) -> bytes:
    options = {"k": k, "type": type, "min_confidence": min_confidence, "explain": explain}
    return dump_json({**_query_fields(query), **options})


def _batch_requests(
    queries: Sequence[Query], k: int, type: str | None, min_confidence: float, explain: bool
) -> list[Request]:
    items = [_rank_body(query, k, type, min_confidence, explain) for query in queries]
    bodies = [b"[" + b",".join(batch) + b"]" for batch in make_batches(items)]
    return [Request("POST", "/v1/rank", body=body) for body in bodies]


def _put_request(
    id: str,
    title: str,
    text: str,
    url: str | None,
    sections: Sequence[Section | Mapping[str, str]],
) -> Request:
    body = {"title": title, "text": text, "url": url, "sections": list(sections)}
    return Request("PUT", _answer_path(id), body=dump_json(body))


def _feedback_request(
    query: Query,
    answer: str | None,
    right: bool,
    shown: Sequence[str] | None,
    type: str | None,
    ranker: str | None,
    key: str | None,
) -> Request:
    verdict = {
        **_query_fields(query),
        "key": uuid4().hex if key is None else key,
        "type": type,
        "answer": answer,
        "right": right,
        "shown": shown if shown is None else list(shown),
        "ranker": ranker,
    }
    return Request("POST", "/v1/feedback", body=dump_json(verdict))


def _query_fields(query: Query) -> dict[str, object]:
    return {"text": query} if isinstance(query, str) else {"turns": list(query)}


def _answer_path(id: str) -> str:
    return f"/v1/answers/{quote_name(id, 'id')}"
