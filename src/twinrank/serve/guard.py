"""What every request passes: its time, its rate, its key, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from twinrank.serve.logs import ACCESS, time_text
from twinrank.serve.metrics import Metrics
from twinrank.serve.settings import Keys, Role, Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

AT_ONCE = 512  # requests being answered by one worker
RETRY_S = 1
NAMED = "twinrank.request"  # in a scope: the id that a request has already
LOCAL = frozenset({"localhost", "127.0.0.1", "::1", "testserver"})
CHANGES = frozenset({"POST", "PUT", "DELETE", "PATCH"})
WRITES = frozenset({"/v1/feedback", "/v1/stats"})
# Need no key and count for no rate: pages load much at once, and probes must always be answered.
OPEN = frozenset({"/", "/admin", "/docs", "/openapi.json", "/healthz", "/readyz"})
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-cache",  # pages ask whether they changed; no proxy keeps an answer
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

access = logging.getLogger(ACCESS)
log = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 (it is an answer, not an accident)
    """A request that is answered here."""

    def __init__(self, status: HTTPStatus, detail: str, retry_s: int | None = None) -> None:
        super().__init__(detail)
        headers = {} if retry_s is None else {"Retry-After": f"{retry_s}"}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        self.response = JSONResponse({"detail": detail}, int(status), headers)


class Guard:
    """ASGI middleware: refuses what must be refused, before a body is read.

    Args:
        app: what it guards.
        settings: limits.
        keys: who may do what; none lets everybody who reaches the service do all.
        metrics: are told of every request.
    """

    def __init__(self, app: App, settings: Settings, keys: Keys | None, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._now = 0
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._rate = RateLimitItemPerMinute(settings.rate) if settings.rate else None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send, self._settings)
        self._now += 1
        try:
            self._admit(scope)
            async with asyncio.timeout(self._settings.timeout_s * 2):
                await self._app(scope, request.receive, request.send)
        except Refusal as refusal:
            await refusal.response(scope, receive, request.send)
        except TimeoutError:
            late = "this took too long; try again, or ask for less"
            await request.fail(HTTPStatus.SERVICE_UNAVAILABLE, late, RETRY_S)
        except Exception:
            log.exception("request %s failed", request.id)
            await request.fail(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                f"that failed here; the service's log tells more of request {request.id}",
            )
        finally:
            self._now -= 1
            self._tell(scope, request)

    def _admit(self, scope: MutableMapping[str, Any]) -> None:
        headers = Headers(scope=scope)
        path = scope["path"]
        if path in OPEN or path.startswith("/static/"):
            if self._keys is None:
                self._same_site(scope, headers)
            return
        if self._now > AT_ONCE:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "too much at once; try again soon", RETRY_S
            )
        role, who = self._role(headers, scope)
        if self._rate and not self._limiter.hit(self._rate, who):
            reset = self._limiter.get_window_stats(self._rate, who).reset_time
            wait = max(1, math.ceil(reset - time.time()))
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"more than {self._settings.rate:,} requests a minute; try again in {wait} s",
                wait,
            )
        if self._keys is None:
            self._same_site(scope, headers)
            return
        if role is None:
            what = "this key is not known" if "authorization" in headers else "a key is needed"
            mend = "send the header `Authorization: Bearer KEY`, with a key of the service's"
            raise Refusal(HTTPStatus.UNAUTHORIZED, f"{what}; {mend}")
        writes = scope["method"] in {"PUT", "DELETE"} or path in WRITES
        if writes and role != "write":
            raise Refusal(
                HTTPStatus.FORBIDDEN, "this key may only read; use one with the role write"
            )

    def _role(self, headers: Headers, scope: MutableMapping[str, Any]) -> tuple[Role | None, str]:
        """What the caller may do, and under which name the rate is counted."""
        address = (scope.get("client") or ("unknown",))[0]
        kind, _, key = headers.get("authorization", "").partition(" ")
        if self._keys is None or kind.lower() != "bearer":
            return None, address
        role = self._keys.role(key.strip())
        return role, sha256(key.strip().encode()).hexdigest() if role else address

    def _same_site(self, scope: MutableMapping[str, Any], headers: Headers) -> None:
        """Without keys, no other site's page may use a visitor's browser to come here.

        A name that was pointed at this machine (DNS rebinding) is refused by the header Host,
        a form or script of another site by the header Origin.
        """
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if self._settings.loopback and name not in LOCAL | {self._settings.host}:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "without keys the service answers to localhost alone; give it --keys",
            )
        origin = headers.get("origin")
        if origin and scope["method"] in CHANGES and urlsplit(origin).netloc != host:
            raise Refusal(HTTPStatus.FORBIDDEN, "this comes from another site's page")

    def _tell(self, scope: MutableMapping[str, Any], request: _Request) -> None:
        route = getattr(scope.get("route"), "path", "unmatched").replace(":path", "")
        seconds = time.perf_counter() - request.began
        self._metrics.requests.labels(route, scope["method"], f"{request.status}").inc()
        self._metrics.seconds.labels(route).observe(seconds)
        address = (scope.get("client") or ("unknown",))[0]
        line = {
            "time": time_text(time.time()),
            "request": request.id,
            **({"address": address} if self._settings.log_addresses else {}),
            "method": scope["method"],
            "route": route,
            "status": request.status,
            "ms": round(seconds * 1000, 1),
            **scope.get("state", {}).get("told", {}),
        }
        access.info(json.dumps(line, ensure_ascii=False))


class _Request:
    """One request: its id, what was answered, and its body, in time and not too large."""

    def __init__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, settings: Settings
    ) -> None:
        self.id = scope.get(NAMED) or uuid4().hex
        self.began = time.perf_counter()
        self.status = 0
        self._scope = scope
        self._receive = receive
        self._send = send
        self._timeout_s, self._body_bytes = settings.timeout_s, settings.body_bytes
        self._bytes = 0
        self._read = False

    async def receive(self) -> Message:
        """The next part of the body, or word that the client is gone."""
        if self._read:
            return await self._receive()
        left = self._timeout_s - (time.perf_counter() - self.began)
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.001))
        except TimeoutError:
            late = f"the body did not arrive within {self._timeout_s:g} s; send it faster"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, late) from None
        self._read = not message.get("more_body", False)
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._body_bytes:
            large = f"the body has more than {self._body_bytes:,} bytes; send less at once"
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, large)
        return message

    async def send(self, message: Message) -> None:
        """Answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def fail(self, status: HTTPStatus, detail: str, retry_s: int | None = None) -> None:
        """Answer that it failed, unless an answer has begun."""
        if not self.status:
            response = Refusal(status, detail, retry_s).response
            await response(self._scope, self._receive, self.send)
