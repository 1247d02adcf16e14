"""What Prometheus is told."""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    multiprocess,
)

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where the workers of one service add up
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of one service, by route, type and outcome; never by text."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter(
            "twinrank_requests", "Requests.", ["route", "method", "status"], registry=own
        )
        self.seconds = Histogram(
            "twinrank_request_seconds",
            "From a request's first byte to its answer's last.",
            ["route"],
            buckets=SECONDS,
            registry=own,
        )
        self.queries = Counter("twinrank_queries", "Queries ranked.", ["type"], registry=own)
        self.withheld = Counter(
            "twinrank_queries_withheld", "Queries without an answer.", ["type"], registry=own
        )
        self.verdicts = Counter("twinrank_verdicts", "Verdicts stored.", ["right"], registry=own)

    def text(self) -> tuple[bytes, str]:
        """All workers' figures in Prometheus' format, and its content type."""
        registry = self._registry
        if os.environ.get(SHARED):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
