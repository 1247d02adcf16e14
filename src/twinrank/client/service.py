"""Where a service is, and what every request to it has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import httpx
from pydantic import ValidationError

from twinrank import __version__
from twinrank.client.attempts import Attempts
from twinrank.client.calls import Call, Reply, Request
from twinrank.errors import ClientError

TIMEOUT_S = 30.0
RETRIES = 3
CONNECTIONS = 16  # at once: with more, httpx is busier with its connections than with requests
LIMITS = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)


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
            shown = re.sub(r"[^/\s]*@", "***@", url)  # a password may be in it
            raise ClientError(
                f"{shown!r} is no service's address; give it as http://127.0.0.1:8000"
            )
        if timeout <= 0 or retries < 0:
            raise ClientError("timeout has to be more than 0, and retries 0 or more")
        self.address = f"{self.url.scheme}://{self.url.netloc.decode()}{self.url.path.rstrip('/')}"
        self.headers = {"User-Agent": f"twinrank/{__version__}"} | _authorization(key)
        # A proxy of the environment ($HTTP_PROXY) stands elsewhere: its loopback is another's.
        self.mounts = (
            {f"all://{self.url.netloc.decode()}": None} if _is_loopback(self.url.host) else None
        )
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


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _authorization(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    key = key.strip()  # read from a file, it ends with a newline
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ClientError("key: not one a header can hold; give it as the service's file has it")
    return {"Authorization": f"Bearer {key}"}


def sendable(request: Request) -> dict[str, Any]:
    """What httpx is told of a request.

    Raises:
        ClientError: if its path or parameters do not fit an address.
    """
    try:
        url = httpx.URL(request.path, params=dict(request.params))
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise ClientError(f"that does not fit an address ({error}); ask with less") from None
    kind = {} if request.body is None else {"Content-Type": "application/json"}
    return {"method": request.method, "url": url, "content": request.body, "headers": kind}
