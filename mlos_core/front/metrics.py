# SPDX-License-Identifier: BUSL-1.1
"""Prometheus metrics: the HTTP front's own, and the service's statistics at each scrape.

Beside our names there are Triton's `nv_inference_*` where the meaning is the same, so that
dashboards made for it show this server. Those keep Triton's spelling (no `_total`) and are
therefore exposed as untyped. What engines report of themselves comes under vLLM's names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from mlos_core.front.limits import Gate
from mlos_core.front.openai import statistics

_BUCKETS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 120)

# name, statistics key, what it says
_COUNTERS: Final = (
    ("mlos_model_requests", "requests", "Requests answered, also with an error"),
    ("mlos_model_failures", "failures", "Requests answered with an error"),
    ("mlos_model_cancelled", "cancelled", "Requests cancelled by their client or deadline"),
    ("mlos_model_executions", "executions", "Calls of the model, each with a batch of requests"),
    ("mlos_model_rows", "rows", "Rows of all batches"),
    ("mlos_model_copied_bytes", "copied_bytes", "Tensor bytes the worker had to copy"),
    ("mlos_model_recovered", "recovered", "Requests taken over from a worker that died"),
    ("mlos_model_worker_restarts", "restarts", "Workers started in place of one that died"),
)
_PHASES: Final = ("queue", "input", "infer", "output")
_STATES: Final = ("registered", "loading", "warming", "ready", "draining", "failed", "unloaded")
_TRITON: Final = (
    ("nv_inference_request_failure", "failures", "Number of failed inference requests"),
    ("nv_inference_count", "rows", "Number of inferences performed, batches counted by row"),
    ("nv_inference_exec_count", "executions", "Number of model executions"),
)
_TRITON_PHASES: Final = (
    ("nv_inference_queue_duration_us", ("queue",)),
    ("nv_inference_compute_input_duration_us", ("input",)),
    ("nv_inference_compute_infer_duration_us", ("infer",)),
    ("nv_inference_compute_output_duration_us", ("output",)),
    ("nv_inference_request_duration_us", _PHASES),
)


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


def families(
    status: Mapping[str, Any], models: Iterable[Mapping[str, Any]], stats: Mapping[str, Any]
) -> Iterator[Metric]:
    """The service's figures as metric families.

    Args:
        status: the daemon's own state.
        models: information on every model.
        stats: counters by model name.
    """
    known = {str(info["name"]): info for info in models}
    rows = [(name, str(known.get(name, {}).get("version", "")), row) for name, row in stats.items()]
    yield from _server(status)
    yield from _states(known)
    yield from _counters(rows)
    yield from _gauges(rows)
    yield from _triton(rows)
    yield from statistics.families((name, row.get("engine") or {}) for name, _, row in rows)


def _server(status: Mapping[str, Any]) -> Iterator[Metric]:
    info = GaugeMetricFamily("mlos_build_info", "The daemon's version", labels=("version",))
    info.add_metric((str(status.get("version", "")),), 1)
    yield info
    for key, text in (
        ("uptime_s", "Seconds since the daemon started"),
        ("clients", "Clients on the control socket"),
        ("channels", "Shared-memory channels"),
    ):
        if (value := _count(status.get(key))) is not None:
            name = "mlos_" + key.replace("uptime_s", "uptime_seconds")
            yield GaugeMetricFamily(name, text, value)


def _states(known: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "mlos_model_info", "A registered model", labels=("model", "version", "plugin", "device")
    )
    state = GaugeMetricFamily(
        "mlos_model_state", "1 for the state a model is in", labels=("model", "state")
    )
    for name, row in known.items():
        labels = (str(row.get(key, "")) for key in ("version", "plugin", "device"))
        info.add_metric((name, *labels), 1)
        for each in _STATES:
            state.add_metric((name, each), float(row.get("state") == each))
    yield info
    yield state


_Rows = list[tuple[str, str, Mapping[str, Any]]]


def _counters(rows: _Rows) -> Iterator[Metric]:
    for name, key, text in _COUNTERS:
        family = CounterMetricFamily(name, text, labels=("model",))
        for model, _, row in rows:
            family.add_metric((model,), float(row.get(key, 0)))
        yield family
    seconds = CounterMetricFamily(
        "mlos_model_phase_seconds",
        "Time of all requests by phase: waiting, preparing inputs, the model, writing outputs",
        labels=("model", "phase"),
    )
    for model, _, row in rows:
        for phase in _PHASES:
            seconds.add_metric((model, phase), row.get(f"{phase}_ns", 0) / 1e9)
    yield seconds


def _gauges(rows: _Rows) -> Iterator[Metric]:
    for key, text in (("channels", "Channels of a model"), ("workers", "Workers of a model")):
        family = GaugeMetricFamily(f"mlos_model_{key}", text, labels=("model",))
        for model, _, row in rows:
            if (value := _count(row.get(key))) is not None:
                family.add_metric((model,), value)
        yield family


def _triton(rows: _Rows) -> Iterator[Metric]:
    success = Metric(
        "nv_inference_request_success", "Number of successful inference requests", "unknown"
    )
    for model, version, row in rows:
        done = row.get("requests", 0) - row.get("failures", 0)
        success.add_sample(success.name, {"model": model, "version": version}, done)
    yield success
    for name, key, text in _TRITON:
        family = Metric(name, text, "unknown")
        for model, version, row in rows:
            family.add_sample(name, {"model": model, "version": version}, row.get(key, 0))
        yield family
    for name, phases in _TRITON_PHASES:
        family = Metric(name, "Cumulative duration in microseconds", "unknown")
        for model, version, row in rows:
            total = sum(row.get(f"{phase}_ns", 0) for phase in phases) / 1000
            family.add_sample(name, {"model": model, "version": version}, total)
        yield family


def _count(value: Any) -> float | None:
    """A number, or how many there are of something listed."""
    if isinstance(value, (list, tuple, dict)):
        return float(len(value))
    return float(value) if isinstance(value, (int, float)) else None
