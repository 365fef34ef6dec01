# SPDX-License-Identifier: BUSL-1.1
"""Triton's `nv_inference_*`, where the meaning is the same.

Dashboards made for Triton show this server. The names keep Triton's spelling (counters without
`_total`) and are therefore exposed as untyped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric

Row = tuple[str, str, Mapping[str, Any]]
"""A model's name, a version, and what is known of it."""

PHASES: Final = ("queue", "input", "infer", "output")
_COUNTERS: Final = (
    ("nv_inference_request_failure", "failures", "Number of failed inference requests"),
    ("nv_inference_count", "rows", "Number of inferences performed, batches counted by row"),
    ("nv_inference_exec_count", "executions", "Number of model executions"),
)
_DURATIONS: Final = (
    ("nv_inference_queue_duration_us", ("queue",)),
    ("nv_inference_compute_input_duration_us", ("input",)),
    ("nv_inference_compute_infer_duration_us", ("infer",)),
    ("nv_inference_compute_output_duration_us", ("output",)),
    ("nv_inference_request_duration_us", PHASES),
)


def families(rows: Sequence[Row]) -> Iterator[Metric]:
    """What Triton would tell of these versions."""
    success = Metric(
        "nv_inference_request_success", "Number of successful inference requests", "unknown"
    )
    for model, version, row in rows:
        done = row.get("requests", 0) - row.get("failures", 0)
        success.add_sample(success.name, {"model": model, "version": version}, done)
    yield success
    for name, key, text in _COUNTERS:
        family = Metric(name, text, "unknown")
        for model, version, row in rows:
            family.add_sample(name, {"model": model, "version": version}, row.get(key, 0))
        yield family
    for name, phases in _DURATIONS:
        family = Metric(name, "Cumulative duration in microseconds", "unknown")
        for model, version, row in rows:
            total = sum(row.get(f"{phase}_ns", 0) for phase in phases) / 1000
            family.add_sample(name, {"model": model, "version": version}, total)
        yield family
    pending = GaugeMetricFamily(
        "nv_inference_pending_request_count",
        "Number of requests awaiting execution",
        labels=("model", "version"),
    )
    for model, version, row in rows:
        pending.add_metric((model, version), row.get("pending", 0))
    yield pending
