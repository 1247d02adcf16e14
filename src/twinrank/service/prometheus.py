"""Counts of requests and queries: for Prometheus, and by day and type for the database."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter as Multiset
from collections.abc import Collection
from datetime import UTC, date, datetime

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from twinrank.errors import FeedbackError
from twinrank.feedback.database import Feedback
from twinrank.feedback.feedback_statistics import Traffic
from twinrank.service.settings import SHARED_FOLDER

BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
FLUSH_EVERY_S = 5.0
FIELDS = ("requests", "confident", "withheld")  # of `Traffic`
CONFIDENT = 0.5  # probability from which a first answer counts as confident
OTHER_TYPE = "other"  # a type that the ranker's data do not have: clients cannot make new ones

log = logging.getLogger(__name__)


class Metrics:
    """Prometheus metrics by route, type and outcome, never by text.

    Those of all processes with the same `SHARED_FOLDER` are added up.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "twinrank_requests", "Requests.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "twinrank_request_seconds",
            "From a request's first byte to its answer's last.",
            ["route"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.queries = Counter("twinrank_queries", "Queries ranked.", ["type"], registry=registry)
        self.withheld = Counter(
            "twinrank_queries_withheld", "Queries without an answer.", ["type"], registry=registry
        )
        self.verdicts = Counter(
            "twinrank_verdicts", "Verdicts stored.", ["right"], registry=registry
        )
        self.redacted = Counter(
            "twinrank_redactions", "Parts of queries redacted.", ["kind"], registry=registry
        )
        self.refused = Gauge(
            "twinrank_ranker_refused",
            "1 while a newer ranker lies in the folder and could not be loaded.",
            registry=registry,
            multiprocess_mode="mostrecent",  # all workers see the same folder
        )

    def render(self) -> tuple[bytes, str]:
        """Return the figures in Prometheus' text format, and its content type."""
        registry = self._registry
        if os.environ.get(SHARED_FOLDER):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


class TrafficCounter:
    """Counts queries by day and type in memory, and adds them to the database now and then."""

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback
        self._counts: Multiset[tuple[date, str, str]] = Multiset()

    def add(self, kind: str, confidence: float | None, *, withheld: bool) -> None:
        """Count a query that was answered."""
        today = datetime.now(UTC).date()
        self._counts[today, kind, "requests"] += 1
        self._counts[today, kind, "confident"] += confidence is not None and confidence >= CONFIDENT
        self._counts[today, kind, "withheld"] += withheld

    async def flush_regularly(self) -> None:
        """Add new counts to the database every few seconds; never returns."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Add new counts to the database; if that fails, they are added next time."""
        counts, self._counts = self._counts, Multiset()
        traffic = {
            (day, kind): Traffic(*(counts[day, kind, name] for name in FIELDS))
            for day, kind, _ in counts
        }
        try:
            await asyncio.to_thread(self._feedback.add_traffic, traffic)
        except FeedbackError as error:
            self._counts.update(counts)
            log.error("traffic is counted on in memory: %s", error)


def counted_type(kind: str | None, known: Collection[str]) -> str:
    """Return the type under which a query is counted; empty if the client gave none."""
    if kind is None:
        return ""
    return kind if kind in known else OTHER_TYPE
