"""The clients: one that waits, one for asyncio; what can be asked is in `calls`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self

import httpx

from twinrank.client import calls
from twinrank.client.attempts import Outcome
from twinrank.client.calls import Call, Reply, Request
from twinrank.client.service import CONNECTIONS, LIMITS, RETRIES, TIMEOUT_S, Service, sendable

P = ParamSpec("P")


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
            base_url=self._service.url,
            headers=self._service.headers,
            limits=LIMITS,
            mounts=self._service.mounts,
            transport=transport,
        )

    rank = _now(calls.rank)
    rank_batch = _now(calls.rank_batch)
    answer = _now(calls.answer)
    find_answers = _now(calls.find_answers)
    put_answer = _now(calls.put_answer)
    delete_answer = _now(calls.delete_answer)
    restore_answer = _now(calls.restore_answer)
    feedback = _now(calls.feedback)
    take_back = _now(calls.take_back)
    stats = _now(calls.stats)
    ready = _now(calls.ready)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
            return self._http.request(**sendable(request), timeout=timeout)
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
            base_url=self._service.url,
            headers=self._service.headers,
            limits=LIMITS,
            mounts=self._service.mounts,
            transport=transport,
        )
        # httpx goes through all that wait for a connection whenever one is done: none waits there
        self._free = asyncio.Semaphore(CONNECTIONS)

    rank = _soon(calls.rank)
    rank_batch = _soon(calls.rank_batch)
    answer = _soon(calls.answer)
    find_answers = _soon(calls.find_answers)
    put_answer = _soon(calls.put_answer)
    delete_answer = _soon(calls.delete_answer)
    restore_answer = _soon(calls.restore_answer)
    feedback = _soon(calls.feedback)
    take_back = _soon(calls.take_back)
    stats = _soon(calls.stats)
    ready = _soon(calls.ready)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _made(self, call: Call[Reply]) -> Reply:
        return self._service.read(call, [await self._sent(request) for request in call.requests])

    async def _sent(self, request: Request) -> bytes:
        attempts = self._service.attempts(request)
        while True:
            async with self._free:
                outcome = await self._once(request, attempts.timeout())
            pause = attempts.pause(outcome)
            if pause is None:
                return attempts.body(outcome)
            await asyncio.sleep(pause)

    async def _once(self, request: Request, timeout: httpx.Timeout) -> Outcome:
        try:
            return await self._http.request(**sendable(request), timeout=timeout)
        except httpx.RequestError as error:
            return error
