# SPDX-License-Identifier: BUSL-1.1
"""The service's figures on models and versions as Prometheus families.

What engines report of themselves comes under vLLM's names, and some of ours under Triton's
besides. `docs/metrics.md` lists them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from mlos_core.front import triton_metrics
from mlos_core.front.openai import statistics
from mlos_core.front.triton_metrics import PHASES, Row
from mlos_core.ipc.histogram import below

_LABELS: Final = ("model", "version")
_STATES: Final = ("registered", "loading", "warming", "ready", "draining", "failed", "unloaded")
# name, statistics key, what it says
_COUNTERS: Final = (
    ("mlos_model_requests", "requests", "Requests answered, also with an error"),
    ("mlos_model_failures", "failures", "Requests answered with an error"),
    ("mlos_model_cancelled", "cancelled", "Requests cancelled by their client or deadline"),
    ("mlos_model_rejected", "rejected", "Requests refused because too many waited"),
    ("mlos_model_expired", "expired", "Requests that waited longer than the policy lets them"),
    ("mlos_model_executions", "executions", "Calls of the model, each with a batch of requests"),
    ("mlos_model_rows", "rows", "Rows of all batches"),
    ("mlos_model_copied_bytes", "copied_bytes", "Tensor bytes the worker had to copy"),
    ("mlos_model_recovered", "recovered", "Requests taken over from a worker that died"),
    ("mlos_model_worker_restarts", "restarts", "Workers started in place of one that died"),
)
_GAUGES: Final = (
    ("mlos_model_channels", "channels", "Channels whose requests it answers"),
    ("mlos_model_workers", "workers", "Workers"),
    ("mlos_model_requests_pending", "pending", "Requests that no worker has claimed"),
    ("mlos_model_requests_running", "running", "Requests claimed and not answered"),
)
_HISTOGRAMS: Final = (
    (
        "mlos_model_request_duration_seconds",
        "request",
        "From submission to answer, errors left out",
    ),
    ("mlos_model_queue_duration_seconds", "queue", "From submission until a worker claimed it"),
    ("mlos_model_infer_duration_seconds", "infer", "The computation of the call it was part of"),
)
# Powers of two nanoseconds, about 1 µs to 137 s: there our own buckets have an edge, too.
_BOUNDS_NS: Final = tuple(1 << power for power in range(10, 38))
_ROWS: Final = tuple(1 << power for power in range(11))


def families(
    status: Mapping[str, Any], models: Iterable[Mapping[str, Any]], stats: Mapping[str, Any]
) -> Iterator[Metric]:
    """The service's figures as metric families.

    Args:
        status: the daemon's own state.
        models: information on every model.
        stats: counters by model name, with `histograms`.
    """
    known = {str(info["name"]): info for info in models}
    rows = list(_rows(known, stats))
    yield from _server(status)
    yield from _info(known)
    yield _state(rows)
    yield from _counters(rows)
    yield from _gauges(rows)
    yield from (_durations(name, key, text, rows) for name, key, text in _HISTOGRAMS)
    yield _batches(rows)
    yield from triton_metrics.families(rows)
    yield from statistics.families((name, row.get("engine") or {}) for name, row in stats.items())


def _rows(known: Mapping[str, Mapping[str, Any]], stats: Mapping[str, Any]) -> Iterator[Row]:
    """A row for every version; a model that tells of none is one version itself."""
    for name, whole in stats.items():
        itself = {str(known.get(name, {}).get("version", "")): whole}
        for version, row in (whole.get("versions") or itself).items():
            yield name, version, row


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


def _info(known: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "mlos_model_info", "A version of a model", labels=(*_LABELS, "plugin", "device")
    )
    weight = GaugeMetricFamily(
        "mlos_model_route_weight", "The part of requests that is routed to it", labels=_LABELS
    )
    memory = GaugeMetricFamily(
        "mlos_model_memory_bytes",
        "Memory of its workers, shared parts in proportion",
        labels=_LABELS,
    )
    for name, model in known.items():
        for row in model.get("versions") or (model,):
            labels = (name, str(row.get("version", "")))
            plugin = str(row.get("plugin") or model.get("plugin", ""))
            info.add_metric((*labels, plugin, str(model.get("device", ""))), 1)
            if (share := _count(row.get("weight"))) is not None:
                weight.add_metric(labels, share)
            if taken := _count(row.get("memory")):
                memory.add_metric(labels, taken)
    yield from (info, weight, memory)


def _state(rows: list[Row]) -> Metric:
    state = GaugeMetricFamily(
        "mlos_model_state", "1 for the state a version is in", labels=(*_LABELS, "state")
    )
    for model, version, row in rows:
        for each in _STATES:
            state.add_metric((model, version, each), float(row.get("state") == each))
    return state


def _counters(rows: list[Row]) -> Iterator[Metric]:
    for name, key, text in _COUNTERS:
        family = CounterMetricFamily(name, text, labels=_LABELS)
        for model, version, row in rows:
            family.add_metric((model, version), float(row.get(key, 0)))
        yield family
    seconds = CounterMetricFamily(
        "mlos_model_phase_seconds",
        "Time of answered requests by phase: waiting, inputs, the model, outputs",
        labels=(*_LABELS, "phase"),
    )
    for model, version, row in rows:
        for phase in PHASES:
            seconds.add_metric((model, version, phase), row.get(f"{phase}_ns", 0) / 1e9)
    yield seconds


def _gauges(rows: list[Row]) -> Iterator[Metric]:
    for name, key, text in _GAUGES:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        for model, version, row in rows:
            if (value := _count(row.get(key))) is not None:
                family.add_metric((model, version), value)
        yield family


def _durations(name: str, key: str, text: str, rows: list[Row]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=_LABELS)
    for model, version, row in rows:
        known = row.get("latency", {}).get(key, {})
        if "counts" in known:
            counts = known["counts"]
            bounds = [_go(bound / 1e9) for bound in _BOUNDS_NS]
            buckets = list(zip(bounds, below(counts, _BOUNDS_NS), strict=True))
            buckets.append(("+Inf", sum(counts.values())))
            family.add_metric((model, version), buckets, known["sum_ns"] / 1e9)
    return family


def _batches(rows: list[Row]) -> Metric:
    family = HistogramMetricFamily("mlos_model_batch_rows", "Rows of each call", labels=_LABELS)
    for model, version, row in rows:
        sizes = {batch["rows"]: batch["executions"] for batch in row.get("batches", ())}
        buckets = [(_go(at), sum(n for size, n in sizes.items() if size <= at)) for at in _ROWS]
        buckets.append(("+Inf", sum(sizes.values())))
        total = sum(size * n for size, n in sizes.items())
        family.add_metric((model, version), buckets, total)
    return family


def _go(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _count(value: Any) -> float | None:
    """A number, or how many there are of something listed."""
    if isinstance(value, (list, tuple, dict)):
        return float(len(value))
    return float(value) if isinstance(value, (int, float)) else None
