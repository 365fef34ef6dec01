# SPDX-License-Identifier: BUSL-1.1
"""Prometheus metrics: the HTTP front's own, and the answer to a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from mlos_core.front.limits import Gate

_BUCKETS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 120)


class HttpMetrics:
    """Counters of the front end itself, in a registry of its own."""

    def __init__(self, gate: Gate) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mlos_http_requests",
            "Requests by route and status; 0 is a client that left before the answer",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "mlos_http_request_duration_seconds",
            "Time from the request's head to the end of its answer",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        flight = Gauge(
            "mlos_http_requests_in_flight", "Requests being worked on", registry=self.registry
        )
        flight.set_function(lambda: float(gate.requests))
        held = Gauge("mlos_http_body_bytes", "Bytes of request bodies held", registry=self.registry)
        held.set_function(lambda: float(gate.body_bytes))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one finished request. `method` and `route` must be of a bounded number."""
        known = method if method in ("GET", "HEAD", "POST", "DELETE") else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class Exposition:
    """One scrape: what `render` needs of a registry."""

    def __init__(self, *sources: Callable[[], Iterable[Metric]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """All metric families."""
        for source in self._sources:
            yield from source()


def render(exposition: Exposition, accept: str) -> tuple[bytes, str]:
    """The scrape's body and its content type, in the format that `accept` asks for."""
    encoder, content_type = choose_encoder(accept)
    return encoder(exposition), content_type
