"""Every request goes through here: size and time of its body, access, headers, logs."""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinrank.ranking import Filter
from twinrank.service.access import (
    Keys,
    RateLimiter,
    check_local,
    check_role,
    identify_client,
    parse_host,
)
from twinrank.service.logs import log_request
from twinrank.service.prometheus import Metrics
from twinrank.service.settings import Settings

MAX_CONCURRENT_REQUESTS = 512  # of one worker
RETRY_AFTER_S = 1
RETRY = {"Retry-After": f"{RETRY_AFTER_S}"}
# Paths that need no key. Pages, which load much at once, have a rate of their own; probes, which
# must be answered whatever the load, have none.
PROBES = frozenset({"/healthz", "/readyz"})
PAGES = frozenset({"/", "/admin", "/docs", "/openapi.json", "/widget.js"})
PAGE_FILES_PER_MINUTE = 3_000  # to an address
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-cache",  # pages ask whether they changed; no proxy stores an answer
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

log = logging.getLogger(__name__)


class Guard:
    """Middleware that refuses requests before their bodies are read, and logs all of them.

    Without keys, everybody who reaches the service may do everything.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        keys: Keys | None,
        rate: RateLimiter,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._rate = rate
        self._visible = Filter.parse(settings.where)
        self._page_rate = RateLimiter(PAGE_FILES_PER_MINUTE)
        self._requests_now = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send, self._settings)
        self._requests_now += 1
        try:
            self._admit(request.scope)
            async with asyncio.timeout(self._settings.timeout_s * 2):
                await self._app(request.scope, request.receive, request.send)
        except HTTPException as refusal:
            await request.refuse(refusal)
        except TimeoutError:
            late = "this took too long; try again, or ask for less"
            await request.refuse(HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, late, RETRY))
        except Exception:
            log.exception("request %s failed", request.id)
            failed = f"that failed here; the service's log tells more of request {request.id}"
            await request.refuse(HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR, failed))
        finally:
            self._requests_now -= 1
            self._record(request)

    def _admit(self, scope: Scope) -> None:
        """Let a request in.

        Raises:
            HTTPException: if it may not come in.
        """
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        address = _address_of(scope)
        parse_host(f"//{headers.get('host', '')}")
        page = path in PAGES or path.startswith("/static/")
        if page or path in PROBES:
            if page:
                self._page_rate.charge(address)
            if self._keys is None:
                check_local(scope, headers, self._settings)
            if method == "OPTIONS":  # some probes ask so
                raise HTTPException(HTTPStatus.OK, "ask by GET or HEAD")
            return
        if self._requests_now > MAX_CONCURRENT_REQUESTS:
            busy = "too much at once; try again soon"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, busy, RETRY)
        holder, client = identify_client(self._keys, headers, address)
        visible = self._visible & holder.visible if holder else self._visible
        name = holder.name if holder else None
        scope["state"] |= {"client": client, "key_name": name, "visible": visible}
        self._rate.charge(client)
        if self._keys is None:
            check_local(scope, headers, self._settings)
        else:
            check_role(holder, headers, method, path)

    def _record(self, request: _Request) -> None:
        """Count and log a request that was answered."""
        route = getattr(request.scope.get("route"), "path", "unmatched").replace(":text", "")
        seconds = time.perf_counter() - request.began_s
        method = request.method if request.method in METHODS else "other"  # any word may be sent
        self._metrics.requests.labels(route, method, f"{request.status}").inc()
        self._metrics.seconds.labels(route).observe(seconds)
        state = request.scope["state"]
        log_request(
            request=request.id,
            by=state["key_name"],
            **state["address"],
            method=request.method,
            route=route,
            status=request.status,
            ms=round(seconds * 1000, 1),
            **state["logged"],
        )


class _Request:
    """One request: its id, the status of its answer, and its body, in time and not too large.

    HEAD is answered as GET, without the body.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        # The proxy of a cluster gives a request its id, and tells the client.
        given = Headers(scope=scope).get("x-request-id", "")[:64] if settings.proxied else ""
        self.id = given or uuid4().hex
        self.began_s = time.perf_counter()
        self.status = 0
        self.method: str = scope["method"]
        address = {"address": _address_of(scope)} if settings.log_addresses else {}
        state = {"request_id": self.id, "address": address, "key_name": None, "logged": {}}
        self.scope: Scope = {
            **scope,
            "method": "GET" if self.method == "HEAD" else self.method,
            "state": {**scope.get("state", {}), **state},
        }
        self._receive = receive
        self._send = send
        self._names_id = not given
        self._timeout_s, self._max_bytes = settings.timeout_s, settings.body_bytes
        self._bytes = 0
        self._read = False

    async def receive(self) -> Message:
        """Return the next part of the body, or the message that the client is gone."""
        if self._read:
            return await self._receive()
        left_s = self._timeout_s - (time.perf_counter() - self.began_s)
        try:
            async with asyncio.timeout(max(left_s, 0.001)):  # `wait_for` may swallow a cancellation
                message = await self._receive()
        except TimeoutError:
            late = f"the body did not arrive within {self._timeout_s:g} s; send it faster"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, late) from None
        self._read = not message.get("more_body", False)
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._max_bytes:
            large = f"the body has more than {self._max_bytes:,} bytes; send less at once"
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, large)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            if self._names_id:
                headers["X-Request-ID"] = self.id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        elif self.method == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)

    async def refuse(self, refusal: HTTPException) -> None:
        """Answer that it is refused or failed, unless an answer has begun."""
        if not self.status:
            response = JSONResponse(
                {"detail": refusal.detail}, refusal.status_code, refusal.headers
            )
            await response(self.scope, self._receive, self.send)


def _address_of(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])
