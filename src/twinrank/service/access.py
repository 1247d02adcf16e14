"""Access to a service: keys and their roles, requests a minute, requests from elsewhere."""

from __future__ import annotations

import logging
import math
import re
import shlex
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from twinrank.errors import ServeError, TwinrankError
from twinrank.ranking import Filter
from twinrank.service.settings import Settings

Role = Literal["read", "feedback", "write"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
MIN_KEY_CHARACTERS = 16
KEY_LINE = re.compile(
    rf"({'|'.join(ROLES)})\s+(\S{{{MIN_KEY_CHARACTERS},}})(?:\s+([\w.@-]{{1,32}}))?(?:\s+(.*=.*))?"
)
CHARACTERS_PER_REQUEST = 1_000  # of a text, that count as one request more
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
RANKING_PATHS = frozenset({"/v1/rank", "/v1/rerank", "/v2/rerank", "/v1/embeddings"})
CHANGING_METHODS = frozenset({"POST", "PUT", "DELETE", "PATCH"})
# A proxy's additions to a request: without keys, it would let everybody in.
PROXY_HEADER = re.compile(
    rb"(x-)?(original-)?forwarded(-.+)?|via|x-(real|client|cluster-client|remote)-(ip|addr)|"
    rb"(true-client|fastly-client|fly-client|x-appengine-user)-ip(v6)?|"
    rb"x-envoy-.+|x-original-host|cdn-loop|cf-.+"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeyHolder:
    """The name of a key, for the log, its role, and the filter of the answers that it knows."""

    name: str
    role: Role
    visible: Filter


class Keys:
    """API keys by their digests, so that none is in memory as it is.

    Args:
        file: with a role, a key and perhaps a name and a filter on each line, such as
            `write 3f9c... anna brand=acme "team=Sales, Support"`; `#` begins a comment.

    Raises:
        ServeError: if it cannot be read, or a line is wrong; it says which.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._holders = _read_keys(file)
        mode = file.stat().st_mode & 0o777
        if mode & 0o027:
            log.warning("%s: others may read or change it (mode %o); chmod 600 it", file, mode)

    def reload(self) -> None:
        """Read the file again; if it cannot be used, the former keys stay, and the log says so."""
        try:
            self._holders = _read_keys(self._file)
            log.info("%s: %d keys taken up", self._file, len(self._holders))
        except ServeError as error:
            log.error("the former keys stay: %s", error)

    def find(self, key: str) -> KeyHolder | None:
        """Return a key's holder; digests are compared, whose bytes nobody can choose."""
        return self._holders.get(_digest(key))


def _read_keys(file: Path) -> dict[str, KeyHolder]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()  # Notepad begins with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(
            f"{file}: cannot be read as UTF-8 ({error}); give a file of keys"
        ) from None
    holders: dict[str, KeyHolder] = {}
    for number, line in enumerate(lines, start=1):
        entry = re.split(r"(?:^|\s)#", line)[0].strip()  # a key may hold `#`
        if not entry:
            continue
        match = KEY_LINE.fullmatch(entry)
        if match is None:
            raise ServeError(
                f"{file}:{number}: not a role and a key; write `read KEY`, `feedback KEY` or "
                f"`write KEY`, with a key of {MIN_KEY_CHARACTERS} characters or more (`openssl "
                "rand -hex 32`), and behind it a name if you like (up to 32 letters and digits), "
                "and a filter if you like (FIELD=VALUE)"
            )
        try:
            visible = Filter.parse(_split_words(match[4] or ""))
        except (ValueError, TwinrankError) as error:
            raise ServeError(f"{file}:{number}: {error}") from None
        role = next(role for role in ROLES if role == match[1])
        digest = _digest(match[2])
        if digest in holders:
            raise ServeError(f"{file}:{number}: this key stands twice; give each one role")
        holders[digest] = KeyHolder(match[3] or f"{role}-{digest[:8]}", role, visible)
    if not holders:
        raise ServeError(f"{file}: no key in it; write one `read KEY` or `write KEY` a line")
    return holders


def _split_words(text: str) -> list[str]:
    """Split at spaces that are not in quotes."""
    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters, words.escape = True, "", ""
    return list(words)


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


class RateLimiter:
    """Limits the requests of each client in a minute, where there is a limit."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def charge(self, client: str, count: int = 1) -> None:
        """Count requests of a client; too many are an HTTPException with status 429."""
        if self._limit is None or not count or self._limiter.hit(self._limit, client, cost=count):
            return
        reset = self._limiter.get_window_stats(self._limit, client).reset_time
        wait_s = max(1, math.ceil(reset - time.time()))
        raise HTTPException(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"more than {self._per_minute:,} requests a minute; try again in {wait_s} s",
            {"Retry-After": f"{wait_s}"},
        )

    def charge_texts(self, client: str, texts: Sequence[str]) -> None:
        """Count the contents of a request, which itself was counted as one before it was read.

        Each of its texts counts as one, and each 1,000 characters of it as one more.

        Raises:
            HTTPException: if that is too much, now (429) or ever (422).
        """
        count = sum(1 + len(text) // CHARACTERS_PER_REQUEST for text in texts)
        if self._per_minute and count > self._per_minute:
            raise HTTPException(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"this counts as {count:,} requests, and {self._per_minute:,} a minute are "
                "allowed; send less at once",
            )
        self.charge(client, count - 1)


def identify_client(
    keys: Keys | None, headers: Headers, address: str
) -> tuple[KeyHolder | None, str]:
    """Return whose key a client has, and the name under which its rate is counted."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if keys is None or scheme.lower() != "bearer":
        return None, address
    holder = keys.find(key.strip())
    return holder, _digest(key.strip()) if holder else address


def check_role(holder: KeyHolder | None, headers: Headers, method: str, path: str) -> None:
    """Refuse a request without a known key (401), or whose key may not do that (403)."""
    if holder is None:
        fault = "this key is not known" if "authorization" in headers else "a key is needed"
        hint = "send the header `Authorization: Bearer KEY`, with a key of the service's"
        bearer = {"WWW-Authenticate": "Bearer"}
        raise HTTPException(HTTPStatus.UNAUTHORIZED, f"{fault}; {hint}", bearer)
    role = _required_role(method, path)
    if ROLES.index(holder.role) < ROLES.index(role):
        rights = "only read" if holder.role == "read" else "only read and give feedback"
        raise HTTPException(
            HTTPStatus.FORBIDDEN, f"this key may {rights}; use one with the role {role}"
        )


def _required_role(method: str, path: str) -> Role:
    """Return the role that a request takes; one that is not listed takes the highest."""
    if method in {"GET", "HEAD", "OPTIONS"} and path.startswith(("/v1/answers", "/metrics")):
        return "read"
    if path in RANKING_PATHS:
        return "read"
    if (method, path) == ("POST", "/v1/feedback"):
        return "feedback"
    return "feedback" if method == "DELETE" and path.startswith("/v1/feedback/") else "write"


def check_local(scope: MutableMapping[str, Any], headers: Headers, settings: Settings) -> None:
    """Without keys, refuse what comes from beyond this machine by a browser or a proxy.

    A name that was pointed at this machine (DNS rebinding) is refused by the header Host, which
    every browser sends and some probes do not; a form or script of another site by the header
    Origin; a proxy that lets others in by the headers that it adds.
    """
    for name, _ in scope["headers"]:
        if PROXY_HEADER.fullmatch(name):
            raise HTTPException(
                HTTPStatus.FORBIDDEN,
                f"this came through a proxy (header {name.decode('latin-1')}), which may let "
                "others in: behind one the service needs keys; give it --keys",
            )
    host, origin = headers.get("host", ""), headers.get("origin", "")
    name = parse_host(f"//{host}")
    if settings.loopback and name and name not in LOCAL_HOSTS | {settings.host}:
        raise HTTPException(
            HTTPStatus.FORBIDDEN,
            "without keys the service answers to localhost alone; give it --keys",
        )
    parse_host(origin)
    foreign = origin and urlsplit(origin).netloc != host
    if foreign and scope["method"] in CHANGING_METHODS and origin not in settings.origins:
        raise HTTPException(HTTPStatus.FORBIDDEN, "this comes from another site's page")


def parse_host(value: str) -> str:
    """Return the host in the value of the header Host or Origin; 400 if it cannot be read."""
    try:
        return urlsplit(value).hostname or ""
    except ValueError:
        raise HTTPException(
            HTTPStatus.BAD_REQUEST, "the header Host or Origin is no address"
        ) from None
