"""When a request is sent again, when it is given up, and what is said then; does no I/O itself."""

from __future__ import annotations

import logging
import random
import time
from email.utils import parsedate_to_datetime

import httpx

from twinrank.client.calls import Request
from twinrank.errors import ClientError

CONNECT_S = 5.0  # for a connection: one that is lost in the network is tried again
FIRST_PAUSE_S = 0.25  # doubled with each try
PASSING = frozenset({429, 502, 503, 504})  # the service, or a proxy before it, will do better soon
# What uvicorn says where no answer came: of Ray's proxy, when a replica dies under a request.
BROKEN_OFF = (500, b"Internal Server Error")

Outcome = httpx.Response | httpx.RequestError
log = logging.getLogger(__name__)


class Attempts:
    """The attempts at one request.

    Every request of `calls` may be sent again, whatever became of it: PUT and DELETE by their
    nature, feedback by its key, the others because they change nothing.

    Args:
        request: what is sent.
        service: its address, for what is said.
        timeout_s: seconds for all attempts and the pauses between them.
        retries: attempts after the first.
    """

    def __init__(self, request: Request, service: str, timeout_s: float, retries: int) -> None:
        self._request = request
        self._service = service
        self._timeout_s = timeout_s
        self._retries = retries
        self._ends = time.monotonic() + timeout_s
        self._made = 0
        self._lost = False  # whether an attempt may have been carried out all the same

    def timeout(self) -> httpx.Timeout:
        """For the next attempt: what is left."""
        left = max(self._ends - time.monotonic(), 0.001)
        return httpx.Timeout(left, connect=min(left, CONNECT_S))

    def pause(self, outcome: Outcome) -> float | None:
        """Seconds until the next attempt; none if there is none to be."""
        after = _retry_after(outcome)
        if after is None or self._made == self._retries:
            return None
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 (so that clients do not come back together)
        pause = after + FIRST_PAUSE_S * 2.0**self._made * jitter
        if time.monotonic() + pause >= self._ends:
            return None
        self._made += 1
        self._lost |= isinstance(outcome, httpx.RequestError) or outcome.status_code != 429
        log.info("%s: %s; again in %.1f s", self._service, _brief(outcome), pause)
        return pause

    def body(self, outcome: Outcome) -> bytes:
        """What the last attempt brought.

        Raises:
            ClientError: if it failed.
        """
        if isinstance(outcome, httpx.RequestError):
            raise ClientError(self._unreached(outcome)) from outcome
        if outcome.is_success:
            return outcome.content
        if self._lost and self._request.method == "DELETE" and outcome.status_code == 404:
            return b""  # an earlier attempt deleted it
        raise ClientError(
            self._refused(outcome),
            status=outcome.status_code,
            request_id=outcome.headers.get("x-request-id"),
        )

    def _unreached(self, error: httpx.RequestError) -> str:
        if isinstance(error, httpx.TimeoutException) and not isinstance(
            error, httpx.ConnectTimeout
        ):
            return (
                f"{self._service} did not answer within {self._timeout_s:g} s; "
                "try again, ask for less at once, or give a longer timeout"
            )
        return (
            f"{self._service} cannot be reached ({_brief(error)}); "
            "check the address, and that `twinrank serve` runs there"
        )

    def _refused(self, response: httpx.Response) -> str:
        if response.has_redirect_location:
            return f"{self._service} has moved to {response.headers['location']}; give its address"
        try:
            return str(response.json()["detail"])
        except (ValueError, KeyError, TypeError):  # it was not twinrank that answered
            return (
                f"{self._service} answered {_brief(response)}, and not as twinrank does; "
                "check the address, and what stands before the service"
            )


def _retry_after(outcome: Outcome) -> float | None:
    """Seconds that a service asks to wait, 0 if it does not say; none where to retry is no use."""
    if isinstance(outcome, httpx.RequestError):
        passing = httpx.NetworkError | httpx.RemoteProtocolError | httpx.TimeoutException
        return 0.0 if isinstance(outcome, passing) else None
    broken_off = (outcome.status_code, outcome.content) == BROKEN_OFF
    if outcome.status_code not in PASSING and not broken_off:
        return None
    said = outcome.headers.get("retry-after", "")
    if said.isdecimal():
        return float(said)
    try:
        return max(parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def _brief(outcome: Outcome) -> str:
    if isinstance(outcome, httpx.RequestError):
        return str(outcome) or type(outcome).__name__
    return f"{outcome.status_code} {outcome.reason_phrase}".strip()
