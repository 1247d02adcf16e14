"""Requests to a service: their address and headers, retries, and the errors they end in."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from twinrank import __version__
from twinrank.errors import ClientError
from twinrank.service.schemas import MAX_BATCH_QUERIES

TIMEOUT_S, CONNECT_TIMEOUT_S = 30.0, 5.0  # a connection that is lost in the network is tried again
RETRIES = 3
FIRST_PAUSE_S = 0.25  # doubled with each attempt
MAX_CONNECTIONS = 16  # with more, httpx is busier with its connections than with requests
BATCH_BYTES = 500_000  # of queries in one request: half of a service's default limit
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
# uvicorn's reply where no answer came: from Ray's proxy, when a replica dies under a request.
BROKEN_OFF = (500, b"Internal Server Error")

Outcome = httpx.Response | httpx.RequestError
Reply = TypeVar("Reply")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One request, which may be sent again: the service does the same thing once.

    Attributes:
        method: of HTTP.
        path: below the service's address, percent-encoded.
        params: of the address.
        body: JSON.
    """

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    body: bytes | None = None

    def httpx_arguments(self) -> dict[str, Any]:
        """Give the arguments of `httpx.Client.request`.

        Raises:
            ClientError: if the path or parameters do not fit an address.
        """
        try:
            url = httpx.URL(self.path, params=dict(self.params))
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ClientError(f"that does not fit an address ({error}); ask with less") from None
        headers = {} if self.body is None else {"Content-Type": "application/json"}
        return {"method": self.method, "url": url, "content": self.body, "headers": headers}


class Service:
    """A service's address, and the patience of its clients.

    Raises:
        ClientError: if the address, the key or the numbers cannot be.
    """

    def __init__(self, url: str, key: str | None, timeout_s: float, retries: int) -> None:
        try:
            self.url = httpx.URL(url)
        except httpx.InvalidURL:
            self.url = httpx.URL("")
        if self.url.scheme not in {"http", "https"} or not self.url.host:
            shown = re.sub(r"[^/\s]*@", "***@", url)  # a password may be in it
            raise ClientError(
                f"{shown!r} is no service's address; give it as http://127.0.0.1:8000"
            )
        if timeout_s <= 0 or retries < 0:
            raise ClientError("timeout has to be more than 0, and retries 0 or more")
        netloc = self.url.netloc.decode()
        self.address = f"{self.url.scheme}://{netloc}{self.url.path.rstrip('/')}"
        self.timeout_s = timeout_s
        self.retries = retries
        headers = {"User-Agent": f"twinrank/{__version__}"}
        if key is not None:
            headers["Authorization"] = f"Bearer {_check_key(key)}"
        limits = httpx.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS
        )
        # A proxy of the environment ($HTTP_PROXY) is another machine: its loopback is another's.
        mounts = {f"all://{netloc}": None} if _is_loopback(self.url.host) else None
        self.httpx_options: dict[str, Any] = {
            **{"base_url": self.url, "headers": headers, "limits": limits, "mounts": mounts}
        }

    def read(self, body: bytes, parse: Callable[[bytes], Reply]) -> Reply:
        """Parse a reply.

        Raises:
            ClientError: if it is no reply of a service.
        """
        try:
            return parse(body)
        except ValidationError as error:
            raise ClientError(
                f"{self.address} does not answer as twinrank {__version__} does; "
                "check the address and the service's version"
            ) from error


class Attempts:
    """The attempts at one request.

    Every request may be sent again, whatever became of it: PUT and DELETE by their nature,
    feedback by its key, the others because they change nothing.

    Args:
        request: to be sent.
        service: limits the seconds of all attempts and pauses, and the number of retries.
    """

    def __init__(self, request: Request, service: Service) -> None:
        self._request = request
        self._service = service
        self._ends = time.monotonic() + service.timeout_s
        self._retries = 0
        self._may_have_deleted = False

    def timeout(self) -> httpx.Timeout:
        """Give the rest of the time to the next attempt."""
        seconds = max(self._ends - time.monotonic(), 0.001)
        return httpx.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT_S))

    def pause_s(self, outcome: Outcome) -> float | None:
        """Count the seconds until the next attempt; None if there is none."""
        after = _read_retry_after(outcome)
        if after is None or self._retries == self._service.retries:
            return None
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 (so that clients do not come back together)
        pause = after + FIRST_PAUSE_S * 2.0**self._retries * jitter
        if time.monotonic() + pause >= self._ends:
            return None
        self._retries += 1
        failed = isinstance(outcome, httpx.RequestError) or outcome.status_code != 429
        self._may_have_deleted |= failed and self._request.method == "DELETE"
        log.info("%s: %s; again in %.1f s", self._service.address, _describe(outcome), pause)
        return pause

    def body(self, outcome: Outcome) -> bytes:
        """Give the body that the last attempt brought.

        Raises:
            ClientError: if it failed.
        """
        if isinstance(outcome, httpx.RequestError):
            raise ClientError(self._explain_loss(outcome)) from outcome
        if outcome.is_success:
            return outcome.content
        if self._may_have_deleted and outcome.status_code == 404:
            return b""
        raise ClientError(
            self._explain_refusal(outcome),
            status=outcome.status_code,
            request_id=outcome.headers.get("x-request-id"),
        )

    def _explain_loss(self, error: httpx.RequestError) -> str:
        address = self._service.address
        connected = not isinstance(error, httpx.ConnectTimeout)
        if isinstance(error, httpx.TimeoutException) and connected:
            return (
                f"{address} did not answer within {self._service.timeout_s:g} s; "
                "try again, ask for less at once, or give a longer timeout"
            )
        return (
            f"{address} cannot be reached ({_describe(error)}); "
            "check the address, and that `twinrank serve` runs there"
        )

    def _explain_refusal(self, response: httpx.Response) -> str:
        address = self._service.address
        if response.has_redirect_location:
            return f"{address} has moved to {response.headers['location']}; give its address"
        try:
            return str(response.json()["detail"])
        except (ValueError, KeyError, TypeError):  # it was not twinrank that answered
            return (
                f"{address} answered {_describe(response)}, and not as twinrank does; "
                "check the address, and what stands before the service"
            )


def dump_json(value: object) -> bytes:
    """Write a value as JSON.

    Raises:
        ClientError: if it is none.
    """
    try:
        return to_json(value)
    except PydanticSerializationError as error:
        raise ClientError(f"what is to be sent is no JSON ({error}); mend the text") from None


def quote_name(name: str, noun: str) -> str:
    """Write an `id` or a `key` as the last part of a path.

    Raises:
        ClientError: if it is empty or no text.
    """
    owner = "an answer" if noun == "id" else "a verdict"
    if not name:
        raise ClientError(f"the {noun} is empty; give {owner}'s")
    try:
        segment = quote(name, safe="")
    except UnicodeEncodeError as error:
        raise ClientError(f"the {noun} is no text ({error}); give {owner}'s") from None
    return segment.replace(".", "%2E") if name in {".", ".."} else segment  # a path loses dots


def make_batches(items: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Batch items in order, as many as a service takes; one that is too large is alone."""
    batch: list[bytes] = []
    size = 0
    for item in items:
        if batch and (len(batch) == MAX_BATCH_QUERIES or size + len(item) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item)
    if batch:
        yield batch


def _check_key(key: str) -> str:
    key = key.strip()  # read from a file, it ends with a newline
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ClientError("key: not one a header can hold; give it as the service's file has it")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _read_retry_after(outcome: Outcome) -> float | None:
    """Read the seconds that a service asks to wait; None where a retry is no use."""
    if isinstance(outcome, httpx.RequestError):
        passing = httpx.NetworkError | httpx.RemoteProtocolError | httpx.TimeoutException
        return 0.0 if isinstance(outcome, passing) else None
    broken_off = (outcome.status_code, outcome.content) == BROKEN_OFF
    if outcome.status_code not in RETRIED_STATUSES and not broken_off:
        return None
    header = outcome.headers.get("retry-after", "")
    if header.isdecimal():
        return float(header)
    try:
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def _describe(outcome: Outcome) -> str:
    if isinstance(outcome, httpx.RequestError):
        return str(outcome) or type(outcome).__name__
    return f"{outcome.status_code} {outcome.reason_phrase}".strip()
