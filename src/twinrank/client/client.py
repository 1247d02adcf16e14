"""The clients: one that waits, one for asyncio; what can be asked is in `calls`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
from pydantic import ValidationError

from twinrank import __version__
from twinrank.client import calls
from twinrank.client.attempts import Attempts, Outcome
from twinrank.client.calls import Call, Request
from twinrank.errors import ClientError

TIMEOUT_S = 30.0
RETRIES = 3

P = ParamSpec("P")
Reply = TypeVar("Reply")


class Service:
    """Where a service is, and how patient its clients are.

    Raises:
        ClientError: if that cannot be.
    """

    def __init__(self, url: str, key: str | None, timeout: float, retries: int) -> None:
        try:
            self.url = httpx.URL(url)
        except httpx.InvalidURL:
            self.url = httpx.URL("")
        if self.url.scheme not in {"http", "https"} or not self.url.host:
            raise ClientError(f"{url!r} is no service's address; give it as http://127.0.0.1:8000")
        if timeout <= 0 or retries < 0:
            raise ClientError("timeout has to be more than 0, and retries 0 or more")
        self.address = f"{self.url.scheme}://{self.url.netloc.decode()}{self.url.path.rstrip('/')}"
        self.headers = {"User-Agent": f"twinrank/{__version__}"} | _authorization(key)
        self._timeout = timeout
        self._retries = retries

    def attempts(self, request: Request) -> Attempts:
        """At a request, none made yet."""
        return Attempts(request, self.address, self._timeout, self._retries)

    def read(self, call: Call[Reply], bodies: Sequence[bytes]) -> Reply:
        """What a service replied.

        Raises:
            ClientError: if it is not what a service replies.
        """
        try:
            return call.read(bodies)
        except ValidationError as error:
            raise ClientError(
                f"{self.address} does not answer as twinrank {__version__} does; "
                "check the address and the service's version"
            ) from error


def _authorization(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    key = key.strip()  # read from a file, it ends with a newline
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ClientError("key: not one a header can hold; give it as the service's file has it")
    return {"Authorization": f"Bearer {key}"}


def _now(build: Callable[P, Call[Reply]]) -> Callable[Concatenate[Client, P], Reply]:
    """The method of `Client` that makes a call."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Reply:
        return self._made(build(*args, **kwargs))

    _dress(method, build)
    return method


def _soon(
    build: Callable[P, Call[Reply]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, Reply]]:
    """The method of `AsyncClient` that makes a call."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Reply:
        return await self._made(build(*args, **kwargs))

    _dress(method, build)
    return method


def _dress(method: Callable[..., Any], build: Callable[..., Any]) -> None:
    """Let `help` say of a method what stands at its call."""
    method.__name__, method.__doc__ = build.__name__, build.__doc__
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    taken = inspect.signature(build).parameters.values()
    vars(method)["__signature__"] = inspect.Signature([own, *taken])


class Client:
    """Asks a running service, and waits for what it answers; threads may share one.

    What failed in passing (a lost connection, 429, 502, 503, 504) is tried again, with growing
    pauses, or after as long as the service asks. Every method raises `ClientError`.

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
        self._http = httpx.Client(
            base_url=self._service.url, headers=self._service.headers, transport=transport
        )

    rank = _now(calls.rank)
    rank_batch = _now(calls.rank_batch)
    answer = _now(calls.answer)
    find_answers = _now(calls.find_answers)
    put_answer = _now(calls.put_answer)
    delete_answer = _now(calls.delete_answer)
    feedback = _now(calls.feedback)
    stats = _now(calls.stats)
    ready = _now(calls.ready)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def _made(self, call: Call[Reply]) -> Reply:
        return self._service.read(call, [self._sent(request) for request in call.requests])

    def _sent(self, request: Request) -> bytes:
        attempts = self._service.attempts(request)
        while True:
            outcome = self._once(request, attempts.timeout())
            pause = attempts.pause(outcome)
            if pause is None:
                return attempts.body(outcome)
            time.sleep(pause)

    def _once(self, request: Request, timeout: httpx.Timeout) -> Outcome:
        try:
            return self._http.request(**_sendable(request), timeout=timeout)
        except httpx.RequestError as error:
            return error


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
        self._http = httpx.AsyncClient(
            base_url=self._service.url, headers=self._service.headers, transport=transport
        )

    rank = _soon(calls.rank)
    rank_batch = _soon(calls.rank_batch)
    answer = _soon(calls.answer)
    find_answers = _soon(calls.find_answers)
    put_answer = _soon(calls.put_answer)
    delete_answer = _soon(calls.delete_answer)
    feedback = _soon(calls.feedback)
    stats = _soon(calls.stats)
    ready = _soon(calls.ready)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        await self.close()

    async def _made(self, call: Call[Reply]) -> Reply:
        return self._service.read(call, [await self._sent(request) for request in call.requests])

    async def _sent(self, request: Request) -> bytes:
        attempts = self._service.attempts(request)
        while True:
            outcome = await self._once(request, attempts.timeout())
            pause = attempts.pause(outcome)
            if pause is None:
                return attempts.body(outcome)
            await asyncio.sleep(pause)

    async def _once(self, request: Request, timeout: httpx.Timeout) -> Outcome:
        try:
            return await self._http.request(**_sendable(request), timeout=timeout)
        except httpx.RequestError as error:
            return error


def _sendable(request: Request) -> dict[str, Any]:
    try:
        url = httpx.URL(request.path, params=dict(request.params))
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise ClientError(f"that does not fit an address ({error}); ask with less") from None
    kind = {} if request.body is None else {"Content-Type": "application/json"}
    return {"method": request.method, "url": url, "content": request.body, "headers": kind}
