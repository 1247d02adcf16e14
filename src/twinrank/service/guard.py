"""What every request passes: its time, its rate, its key, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
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
from starlette.requests import Request
from starlette.responses import JSONResponse

from twinrank.service.logs import ACCESS, AUDIT, time_text
from twinrank.service.metrics import Metrics
from twinrank.service.settings import ROLES, Holder, Keys, Role, Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

AT_ONCE = 512  # requests being answered by one worker
RETRY_S = 1
CHARACTERS = 1_000  # of a text that count as one request more
CLIENT = "client"  # in a request's state: under which name its rate is counted
NAMED = "twinrank.request"  # in a scope: the id that a request has already
LOCAL = frozenset({"localhost", "127.0.0.1", "::1", "testserver"})
CHANGES = frozenset({"POST", "PUT", "DELETE", "PATCH"})
# What a proxy adds to a request: without keys, it would let everybody in.
FORWARDED = re.compile(
    rb"(x-)?(original-)?forwarded(-.+)?|via|x-(real|client|cluster-client|remote)-(ip|addr)|"
    rb"(true-client|fastly-client|fly-client|x-appengine-user)-ip(v6)?|"
    rb"x-envoy-.+|x-original-host|cdn-loop|cf-.+"
)
# Need no key. Pages, which load much at once, have a rate of their own; probes, which must be
# answered whatever the load, have none.
PROBES = frozenset({"/healthz", "/readyz"})
PAGES = frozenset({"/", "/admin", "/docs", "/openapi.json"})
PAGE_RATE = 3_000  # files of pages a minute to an address
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
audit = logging.getLogger(AUDIT)
log = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 (it is an answer, not an accident)
    """A request that is answered here."""

    def __init__(self, status: HTTPStatus, detail: str, retry_s: int | None = None) -> None:
        super().__init__(detail)
        headers = {} if retry_s is None else {"Retry-After": f"{retry_s}"}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        self.response = JSONResponse({"detail": detail}, int(status), headers)


def log_change(request: Request, did: str, **what: str) -> None:
    """Write a line to the log on a change that was made: who, what, and when."""
    state = request.state
    line = {
        "time": time_text(time.time()),
        "by": getattr(state, "by", None),  # nobody has a name where there are no keys
        **state.from_where,
        "did": did,
        **what,
        "request": state.request,
    }
    audit.info(json.dumps(line))


class Rate:
    """What each client may ask for in a minute; a request, or each query of a batch, is one.

    Args:
        most: none means no limit.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._limit = RateLimitItemPerMinute(most) if most else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, who: str, count: int = 1) -> None:
        """Count what a client asks for.

        Raises:
            Refusal: if that is too much.
        """
        if self._limit is None or not count or self._limiter.hit(self._limit, who, cost=count):
            return
        reset = self._limiter.get_window_stats(self._limit, who).reset_time
        wait = max(1, math.ceil(reset - time.time()))
        raise Refusal(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"more than {self._most:,} requests a minute; try again in {wait} s",
            wait,
        )

    def take_rest(self, who: str, texts: Sequence[str]) -> None:
        """Count what a request holds, which itself was counted as one before it was read.

        Each of its texts counts as one, and each 1,000 characters of it as one more.

        Raises:
            Refusal: if that is too much, now or ever.
        """
        whole = sum(1 + len(text) // CHARACTERS for text in texts)
        if self._most and whole > self._most:
            raise Refusal(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"this counts as {whole:,} requests, and {self._most:,} a minute are allowed; "
                "send less at once",
            )
        self.take(who, whole - 1)


class Guard:
    """ASGI middleware: refuses what must be refused, before a body is read.

    Args:
        app: what it guards.
        settings: limits.
        keys: who may do what; none lets everybody who reaches the service do all.
        rate: how much each client may ask for.
        metrics: are told of every request.
    """

    def __init__(
        self, app: App, settings: Settings, keys: Keys | None, rate: Rate, metrics: Metrics
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._now = 0
        self._rate = rate
        self._pages = Rate(PAGE_RATE)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send, self._settings)
        where = {"address": _address(scope)} if self._settings.log_addresses else {}
        state = {**scope.get("state", {}), "request": request.id, "from_where": where}
        asked = {**scope, "state": state}
        self._now += 1
        try:
            self._admit(asked)
            if scope["method"] == "HEAD":  # what GET gives, without its body
                asked["method"] = "GET"
            async with asyncio.timeout(self._settings.timeout_s * 2):
                await self._app(asked, request.receive, request.send)
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
            self._tell(scope["method"], asked, request)

    def _admit(self, scope: MutableMapping[str, Any]) -> None:
        headers = Headers(scope=scope)
        path = scope["path"]
        host = _host_of("Host", f"//{headers.get('host', '')}")
        page = path in PAGES or path.startswith("/static/")
        if page or path in PROBES:
            if page:
                self._pages.take(_address(scope))
            if self._keys is None:
                self._same_site(scope, headers, host)
            if scope["method"] == "OPTIONS":  # some probes ask so
                raise Refusal(HTTPStatus.OK, "ask by GET or HEAD")
            return
        if self._now > AT_ONCE:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "too much at once; try again soon", RETRY_S
            )
        holder, who = self._holder(headers, scope)
        scope.setdefault("state", {})[CLIENT] = who
        self._rate.take(who)
        if self._keys is None:
            self._same_site(scope, headers, host)
            return
        if holder is None:
            what = "this key is not known" if "authorization" in headers else "a key is needed"
            mend = "send the header `Authorization: Bearer KEY`, with a key of the service's"
            raise Refusal(HTTPStatus.UNAUTHORIZED, f"{what}; {mend}")
        scope["state"]["by"] = holder.name
        needed = _needed_role(scope["method"], path)
        if ROLES.index(holder.role) < ROLES.index(needed):
            may = "only read" if holder.role == "read" else "only read and give feedback"
            raise Refusal(
                HTTPStatus.FORBIDDEN, f"this key may {may}; use one with the role {needed}"
            )

    def _holder(
        self, headers: Headers, scope: MutableMapping[str, Any]
    ) -> tuple[Holder | None, str]:
        """Whose key the caller has, and under which name the rate is counted."""
        address = _address(scope)
        kind, _, key = headers.get("authorization", "").partition(" ")
        if self._keys is None or kind.lower() != "bearer":
            return None, address
        holder = self._keys.find(key.strip())
        return holder, sha256(key.strip().encode()).hexdigest() if holder else address

    def _same_site(self, scope: MutableMapping[str, Any], headers: Headers, host: str) -> None:
        """Without keys, nobody beyond this machine may come here, by a browser or a proxy.

        A name that was pointed at this machine (DNS rebinding) is refused by the header Host,
        which every browser sends and some probes do not; a form or script of another site by the
        header Origin; a proxy that lets others in by what it adds.
        """
        for name, _ in scope["headers"]:
            if FORWARDED.fullmatch(name):
                raise Refusal(
                    HTTPStatus.FORBIDDEN,
                    f"this came through a proxy (header {name.decode('latin-1')}), which may let "
                    "others in: behind one the service needs keys; give it --keys",
                )
        if self._settings.loopback and host and host not in LOCAL | {self._settings.host}:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "without keys the service answers to localhost alone; give it --keys",
            )
        origin = headers.get("origin", "")
        _host_of("Origin", origin)
        foreign = urlsplit(origin).netloc != headers.get("host", "")
        if (
            origin
            and foreign
            and scope["method"] in CHANGES
            and origin not in self._settings.origins
        ):
            raise Refusal(HTTPStatus.FORBIDDEN, "this comes from another site's page")

    def _tell(self, method: str, scope: MutableMapping[str, Any], request: _Request) -> None:
        route = getattr(scope.get("route"), "path", "unmatched").replace(":path", "")
        seconds = time.perf_counter() - request.began
        self._metrics.requests.labels(route, method, f"{request.status}").inc()
        self._metrics.seconds.labels(route).observe(seconds)
        line = {
            "time": time_text(time.time()),
            "request": request.id,
            "by": scope["state"].get("by"),
            **scope["state"]["from_where"],
            "method": method,
            "route": route,
            "status": request.status,
            "ms": round(seconds * 1000, 1),
            **scope["state"].get("told", {}),
        }
        access.info(json.dumps(line, ensure_ascii=False))


def _needed_role(method: str, path: str) -> Role:
    """What a caller has to be to do this; what is not listed takes the highest."""
    if method in {"GET", "HEAD", "OPTIONS"} and path.startswith(("/v1/answers", "/metrics")):
        return "read"
    if path == "/v1/rank":
        return "read"
    if (method, path) == ("POST", "/v1/feedback"):
        return "feedback"
    return "feedback" if method == "DELETE" and path.startswith("/v1/feedback/") else "write"


def _host_of(header: str, value: str) -> str:
    """The host in a header.

    Raises:
        Refusal: if it cannot be read.
    """
    try:
        return urlsplit(value).hostname or ""
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the header {header} is no address") from None


def _address(scope: MutableMapping[str, Any]) -> str:
    return str((scope.get("client") or ("unknown",))[0])


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
        elif self._scope["method"] == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)

    async def fail(self, status: HTTPStatus, detail: str, retry_s: int | None = None) -> None:
        """Answer that it failed, unless an answer has begun."""
        if not self.status:
            response = Refusal(status, detail, retry_s).response
            await response(self._scope, self._receive, self.send)
