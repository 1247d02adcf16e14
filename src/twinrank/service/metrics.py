"""What Prometheus is told."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
    multiprocess,
)
from prometheus_client.registry import Collector

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where the workers of one service add up
# Rankers that nobody ranks by any more: each change of an answer would leave a series behind.
REPLACED = re.compile(rb"^twinrank_ranker_info\{[^}\n]*\} 0\.0\n", re.MULTILINE)
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of one service, by route, type and outcome; never by text.

    Args:
        replica: the name of this process, if what others count is not added up with its figures.
    """

    def __init__(self, replica: str = "") -> None:
        own = self._registry = CollectorRegistry()
        self._replica = replica
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
        self._ranker = Gauge(
            "twinrank_ranker_info",
            "Workers that rank by this ranker, by the digest that /readyz shows.",
            ["digest"],
            registry=own,
            multiprocess_mode="livesum",
        )
        self._since = Gauge(
            "twinrank_ranker_since_timestamp_seconds",
            "Since when the ranker is served, by the worker that took it up last.",
            registry=own,
            multiprocess_mode="livemax",
        )
        self.refused = Gauge(
            "twinrank_ranker_refused",
            "1 while a newer ranker lies in the folder and could not be loaded.",
            registry=own,
            multiprocess_mode="livemax",
        )
        self._digest = ""

    def show_ranker(self, digest: str) -> None:
        """Tell which ranker is served from now on."""
        if digest == self._digest:
            return
        if self._digest:
            self._ranker.labels(self._digest).set(0)
        self._digest = digest
        self._ranker.labels(digest).set(1)
        self._since.set_to_current_time()

    def text(self) -> tuple[bytes, str]:
        """All workers' figures, or those of a replica, in Prometheus' format; its content type."""
        registry = self._registry
        if self._replica:
            registry = CollectorRegistry()
            registry.register(_Named(self._registry, self._replica))
        elif os.environ.get(SHARED):
            _clear_dead(Path(os.environ[SHARED]))
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return REPLACED.sub(b"", generate_latest(registry)), CONTENT_TYPE_LATEST


def _clear_dead(shared: Path) -> None:
    """Forget which ranker workers had that are gone."""
    for pid in {int(file.stem.rsplit("_", 1)[1]) for file in shared.glob("gauge_live*.db")}:
        try:
            os.kill(pid, 0)
        except PermissionError:
            continue
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


class _Named(Collector):
    """The figures of a registry, each with the name of the replica that counted it."""

    def __init__(self, registry: CollectorRegistry, replica: str) -> None:
        self._registry = registry
        self._replica = replica

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        for metric in self._registry.collect():
            named = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            named.samples = [
                sample._replace(labels={**sample.labels, "replica": self._replica})
                for sample in metric.samples
            ]
            yield named
