"""The clients of a service: one that waits for each reply, and one for asyncio."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeAlias, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from twinrank import __version__
from twinrank.arguments import ASK_BELOW
from twinrank.errors import ClientError
from twinrank.service.schemas import (
    MAX_BATCH_QUERIES,
    Answer,
    FoundAnswers,
    Passage,
    Ranking,
    Ready,
    Section,
    Statistics,
    Stored,
    Turn,
)

if TYPE_CHECKING:
    from twinrank.ranking import Where

TIMEOUT_S, CONNECT_TIMEOUT_S = 30.0, 5.0  # a connection that is lost in the network is tried again
RETRIES = 3
FIRST_PAUSE_S = 0.25  # doubled with each attempt
MAX_CONNECTIONS = 16  # with more, httpx is busier with its connections than with requests
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
# uvicorn's reply where no answer came: from Ray's proxy, when a replica dies under a request.
BROKEN_OFF = (500, b"Internal Server Error")

Query: TypeAlias = str | Sequence[Turn | Mapping[str, str]]
Outcome: TypeAlias = httpx.Response | httpx.RequestError
Reply = TypeVar("Reply")
Params = ParamSpec("Params")
_RANKINGS = TypeAdapter(list[Ranking])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call(Generic[Reply]):
    """A request, which may be sent again, and how its reply is read.

    PUT and DELETE do the same thing once by their nature, feedback by its key; the others change
    nothing.
    """

    method: str
    path: str
    parse: Callable[[bytes], Reply]
    params: Mapping[str, str | int] = field(default_factory=dict)
    body: object = None  # JSON


class _Calls:
    """What can be asked of a service."""

    def rank(
        self,
        query: Query,
        *,
        k: int = 5,
        type: str | None = None,
        min_confidence: float = 0.0,
        ask_below: float = ASK_BELOW,
        where: Where | None = None,
        explain: bool = True,
        passage: Passage | None = None,
    ) -> Call[Ranking]:
        """Rank the answers for a query, the best first.

        Args:
            query: a text, or the turns of a conversation: `Turn(role="user", text="...")`, or
                mappings with the same fields.
            k: how many answers.
            type: of the query, as in the data; for the service's counts.
            min_confidence: withhold all answers if the first is less likely right.
            ask_below: name answers to choose from, in `ask`, if the first is less likely right.
            where: rank answers alone with this metadata: `{"locale": "da", "brand": ["a", "b"]}`.
            explain: whether to give section, sentence, channels and past queries.
            passage: a text to read of each answer: the whole `answer`; or the `section` or
                `sentence` that fits best.
        """
        options = {"k": k, "type": type, "min_confidence": min_confidence, "ask_below": ask_below}
        shown = {"where": dict(where or {}), "explain": explain, "passage": passage}
        body = {**_query_fields(query), **options, **shown}
        return Call("POST", "/v1/rank", Ranking.model_validate_json, body=body)

    def answer(self, id: str) -> Call[Answer]:
        """Get an answer with its text."""
        return Call("GET", _answer_path(id), Answer.model_validate_json)

    def find_answers(self, words: str = "", *, limit: int = 10) -> Call[FoundAnswers]:
        """Find answers whose titles hold all the words: `limit` of them, and their number."""
        params: dict[str, str | int] = {"search": words, "limit": limit}
        return Call("GET", "/v1/answers", FoundAnswers.model_validate_json, params)

    def put_answer(
        self,
        id: str,
        *,
        title: str,
        text: str = "",
        url: str | None = None,
        sections: Sequence[Section | Mapping[str, str]] = (),
        metadata: Where | None = None,
    ) -> Call[Answer]:
        """Insert an answer, or replace the one with this id; it can be ranked at once.

        Args:
            id: of the answer.
            title: of the answer.
            text: all of it, that of sections included.
            url: where people can read it.
            sections: its parts: `Section(title="...", text="...")`, or mappings with these
                fields.
            metadata: fields of your own, to filter by; a value may be a list of texts. None leaves
                those of the answer that is replaced.

        Returns:
            The answer as it is stored.
        """
        body: dict[str, object] = {"title": title, "text": text, "url": url}
        body |= {
            "sections": list(sections),
            "metadata": metadata if metadata is None else dict(metadata),
        }
        return Call("PUT", _answer_path(id), Answer.model_validate_json, body=body)

    def delete_answer(self, id: str) -> Call[None]:
        """Delete an answer; an unknown one is an error. See `restore_answer`."""
        return Call("DELETE", _answer_path(id), _ignore)

    def restore_answer(self, id: str) -> Call[Answer]:
        """Bring back an answer that was deleted some days ago at most, with its past queries."""
        return Call("POST", f"{_answer_path(id)}/restore", Answer.model_validate_json)

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
    ) -> Call[Stored]:
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
        verdict = {
            **_query_fields(query),
            "key": uuid4().hex if key is None else key,
            "type": type,
            "answer": answer,
            "right": right,
            "shown": shown if shown is None else list(shown),
            "ranker": ranker,
        }
        return Call("POST", "/v1/feedback", Stored.model_validate_json, body=verdict)

    def take_back(self, key: str) -> Call[None]:
        """Take a verdict back by its key, from `feedback`; an unknown one is an error."""
        return Call("DELETE", f"/v1/feedback/{_quote_name(key)}", _ignore)

    def stats(self, days: int = 30) -> Call[Statistics]:
        """Count the questions and verdicts of the last days, today (UTC) included."""
        return Call("GET", "/v1/stats", Statistics.model_validate_json, {"days": days})

    def ready(self) -> Call[Ready]:
        """Ask which ranker answers; a service that is not ready is an error."""
        return Call("GET", "/readyz", Ready.model_validate_json)


_CALLS = _Calls()


def _blocking(
    build: Callable[Concatenate[_Calls, Params], Call[Reply]],
) -> Callable[Concatenate[Client, Params], Reply]:
    """Make a method that sends a call, and waits for its reply."""

    @functools.wraps(build)
    def send(client: Client, /, *args: Params.args, **options: Params.kwargs) -> Reply:
        return client._send(build(_CALLS, *args, **options))

    return send


def _awaitable(
    build: Callable[Concatenate[_Calls, Params], Call[Reply]],
) -> Callable[Concatenate[AsyncClient, Params], Coroutine[Any, Any, Reply]]:
    """Make a method that sends a call, and whose reply is awaited."""

    @functools.wraps(build)
    async def send(client: AsyncClient, /, *args: Params.args, **options: Params.kwargs) -> Reply:
        return await client._send(build(_CALLS, *args, **options))

    return send


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
        self._service = _Service(url, key, timeout, retries)
        self._http = httpx.Client(**self._service.httpx_options, transport=transport)

    rank = _blocking(_Calls.rank)
    answer = _blocking(_Calls.answer)
    find_answers = _blocking(_Calls.find_answers)
    put_answer = _blocking(_Calls.put_answer)
    delete_answer = _blocking(_Calls.delete_answer)
    restore_answer = _blocking(_Calls.restore_answer)
    feedback = _blocking(_Calls.feedback)
    take_back = _blocking(_Calls.take_back)
    stats = _blocking(_Calls.stats)
    ready = _blocking(_Calls.ready)

    def rank_batch(self, queries: Sequence[Query], **options: Any) -> list[Ranking]:  # noqa: ANN401
        """Rank the answers for each of n queries, in as many requests as that takes.

        Queries are texts or conversations; the options are those of `rank`, for each of them. The
        rankings come in the queries' order.
        """
        calls = _batch_calls([_CALLS.rank(query, **options) for query in queries])
        return [ranking for call in calls for ranking in self._send(call)]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[Reply]) -> Reply:
        attempts = _Attempts(call, self._service)
        while True:
            try:
                outcome: Outcome = self._http.request(**attempts.arguments())
            except httpx.RequestError as error:
                outcome = error
            pause_s = attempts.pause_s(outcome)
            if pause_s is None:
                return attempts.read(outcome)
            time.sleep(pause_s)


class AsyncClient:
    """Asks a running service, for asyncio: `Client` with methods to be awaited."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._service = _Service(url, key, timeout, retries)
        self._http = httpx.AsyncClient(**self._service.httpx_options, transport=transport)
        # httpx goes through all that wait for a connection whenever one is free: none waits there
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    rank = _awaitable(_Calls.rank)
    answer = _awaitable(_Calls.answer)
    find_answers = _awaitable(_Calls.find_answers)
    put_answer = _awaitable(_Calls.put_answer)
    delete_answer = _awaitable(_Calls.delete_answer)
    restore_answer = _awaitable(_Calls.restore_answer)
    feedback = _awaitable(_Calls.feedback)
    take_back = _awaitable(_Calls.take_back)
    stats = _awaitable(_Calls.stats)
    ready = _awaitable(_Calls.ready)

    async def rank_batch(self, queries: Sequence[Query], **options: Any) -> list[Ranking]:  # noqa: ANN401
        """Rank the answers for each of n queries; see `Client.rank_batch`."""
        calls = _batch_calls([_CALLS.rank(query, **options) for query in queries])
        return [ranking for call in calls for ranking in await self._send(call)]

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call[Reply]) -> Reply:
        attempts = _Attempts(call, self._service)
        while True:
            async with self._free:
                try:
                    outcome: Outcome = await self._http.request(**attempts.arguments())
                except httpx.RequestError as error:
                    outcome = error
            pause_s = attempts.pause_s(outcome)
            if pause_s is None:
                return attempts.read(outcome)
            await asyncio.sleep(pause_s)


class _Service:
    """A service's address, and the patience of its clients."""

    def __init__(self, url: str, key: str | None, timeout_s: float, retries: int) -> None:
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            address = httpx.URL("")
        if address.scheme not in {"http", "https"} or not address.host:
            shown = re.sub(r"[^/\s]*@", "***@", url)  # a password may be in it
            raise ClientError(
                f"{shown!r} is no service's address; give it as http://127.0.0.1:8000"
            )
        if timeout_s <= 0 or retries < 0:
            raise ClientError("timeout has to be more than 0, and retries 0 or more")
        netloc = address.netloc.decode()
        self.address = f"{address.scheme}://{netloc}{address.path.rstrip('/')}"
        self.timeout_s = timeout_s
        self.retries = retries
        headers = {"User-Agent": f"twinrank/{__version__}", "Content-Type": "application/json"}
        if key is not None:
            key = key.strip()  # read from a file, it ends with a newline
            if not re.fullmatch("[!-~]+", key):
                raise ClientError(
                    "key: not one a header can hold; give it as the service's file has it"
                )
            headers["Authorization"] = f"Bearer {key}"
        self.httpx_options: dict[str, Any] = {
            "base_url": address,
            "headers": headers,
            "limits": httpx.Limits(max_connections=MAX_CONNECTIONS),
        }


class _Attempts(Generic[Reply]):
    """The attempts at one call, within the time and retries of its client."""

    def __init__(self, call: Call[Reply], service: _Service) -> None:
        self._call = call
        self._service = service
        self._ends = time.monotonic() + service.timeout_s
        self._retries = 0
        try:
            url = httpx.URL(call.path, params=dict(call.params))
            content = None if call.body is None else to_json(call.body)
        except (httpx.InvalidURL, UnicodeEncodeError, PydanticSerializationError) as error:
            raise ClientError(
                f"that cannot be sent ({error}); mend the text, or ask less"
            ) from None
        self._arguments = {"method": call.method, "url": url, "content": content}

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of `httpx.Client.request` for the next attempt."""
        left_s = max(self._ends - time.monotonic(), 0.001)
        timeout = httpx.Timeout(left_s, connect=min(left_s, CONNECT_TIMEOUT_S))
        return {**self._arguments, "timeout": timeout}

    def pause_s(self, outcome: Outcome) -> float | None:
        """Count the seconds until the next attempt; None if there is none."""
        after_s = _read_retry_after(outcome)
        if after_s is None or self._retries == self._service.retries:
            return None
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 (so that clients do not come back together)
        pause_s = after_s + FIRST_PAUSE_S * 2.0**self._retries * jitter
        if time.monotonic() + pause_s >= self._ends:
            return None
        self._retries += 1
        log.info("%s: %s; again in %.1f s", self._service.address, _describe(outcome), pause_s)
        return pause_s

    def read(self, outcome: Outcome) -> Reply:
        """Read the reply that the last attempt brought.

        Raises:
            ClientError: if it failed, or is no reply of a service.
        """
        address = self._service.address
        if isinstance(outcome, httpx.TimeoutException) and not isinstance(
            outcome, httpx.ConnectTimeout
        ):
            raise ClientError(
                f"{address} did not answer within {self._service.timeout_s:g} s; "
                "try again, ask for less at once, or give a longer timeout"
            ) from outcome
        if isinstance(outcome, httpx.RequestError):
            raise ClientError(
                f"{address} cannot be reached ({_describe(outcome)}); "
                "check the address, and that `twinrank serve` runs there"
            ) from outcome
        # An attempt whose reply was lost may have deleted it.
        deleted = self._call.method == "DELETE" and self._retries and outcome.status_code == 404
        if not outcome.is_success and not deleted:
            raise ClientError(
                _explain_refusal(outcome, address),
                status=outcome.status_code,
                request_id=outcome.headers.get("x-request-id"),
            )
        try:
            return self._call.parse(outcome.content)
        except ValidationError as error:
            raise ClientError(
                f"{address} does not answer as twinrank {__version__} does; "
                "check the address and the service's version"
            ) from error


def _explain_refusal(response: httpx.Response, address: str) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):  # it was not twinrank that answered
        return (
            f"{address} answered {_describe(response)}, and not as twinrank does; "
            "check the address, and what stands before the service"
        )


def _read_retry_after(outcome: Outcome) -> float | None:
    """Read the seconds that a service asks to wait; None where a retry is no use."""
    if isinstance(outcome, httpx.RequestError):
        passing = httpx.NetworkError | httpx.RemoteProtocolError | httpx.TimeoutException
        return 0.0 if isinstance(outcome, passing) else None
    broken_off = (outcome.status_code, outcome.content) == BROKEN_OFF
    if outcome.status_code not in RETRIED_STATUSES and not broken_off:
        return None
    header = outcome.headers.get("retry-after", "")
    return float(header) if header.isdecimal() else 0.0


def _describe(outcome: Outcome) -> str:
    if isinstance(outcome, httpx.RequestError):
        return str(outcome) or type(outcome).__name__
    return f"{outcome.status_code} {outcome.reason_phrase}".strip()


def _batch_calls(calls: Sequence[Call[Ranking]]) -> list[Call[list[Ranking]]]:
    """Put calls of `rank` together in order, as many as a service takes."""
    bodies = [call.body for call in calls]
    starts = range(0, len(bodies), MAX_BATCH_QUERIES)
    parts = [bodies[start : start + MAX_BATCH_QUERIES] for start in starts]
    return [Call("POST", "/v1/rank", _RANKINGS.validate_json, body=part) for part in parts]


def _query_fields(query: Query) -> dict[str, object]:
    return {"text": query} if isinstance(query, str) else {"turns": list(query)}


def _answer_path(id: str) -> str:
    return f"/v1/answers/{_quote_name(id)}"


def _quote_name(name: str) -> str:
    """Write an id or a key as the last part of a path."""
    try:
        segment = quote(name, safe="")
    except UnicodeEncodeError:
        segment = ""
    if not segment:
        raise ClientError("the id or key is empty, or no text; give an answer's or a verdict's")
    return segment.replace(".", "%2E") if name in {".", ".."} else segment  # a path loses dots


def _ignore(_: bytes) -> None:
    """Read nothing."""
