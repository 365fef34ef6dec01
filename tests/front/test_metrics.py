# SPDX-License-Identifier: BUSL-1.1
"""The service's figures as metrics: a sample for each version, under our names and Triton's."""

from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from mlos_core.front.metrics import Exposition, render
from mlos_core.front.model_metrics import families
from mlos_core.ipc.histogram import BUCKETS, from_ns

STATS = {
    "state": "ready",
    "requests": 7,
    "failures": 2,
    "executions": 3,
    "rows": 12,
    "queue_ns": 1_000,
    "input_ns": 2_000,
    "infer_ns": 3_000_000_000,
    "output_ns": 4_000,
    "channels": 2,
    "workers": 1,
}
STATUS = {"version": "0", "uptime_s": 1, "clients": 1, "channels": 1}
INFO = {
    "name": "m",
    "version": "2",
    "plugin": "onnx",
    "device": "cpu",
    "versions": [
        {"version": "1", "plugin": "echo", "weight": 0.25, "memory": 0},
        {"version": "2", "plugin": "onnx", "weight": 0.75, "memory": 4096},
    ],
}


def latency(times):
    counts = {}
    for ns in times:
        bucket = max(b for b in range(BUCKETS) if from_ns(b) <= ns)
        counts[bucket] = counts.get(bucket, 0) + 1
    return {"count": len(times), "counts": counts, "sum_ns": sum(times)}


def stats(**changes):
    row = {**STATS, "pending": 4, "running": 2, **changes}
    return {"m": {**row, "versions": {"1": {**row, "requests": 3}, "2": row}}}


def samples(known, accept="", read=parse):
    body, _ = render(Exposition(lambda: families(STATUS, [INFO], known)), accept)
    return {
        (s.name, *(v for k, v in sorted(s.labels.items()) if k != "model")): s.value
        for family in read(body.decode())
        for s in family.samples
    }


def test_each_version_is_counted_for_itself():
    found = samples(stats())
    assert found["mlos_model_requests_total", "1"] == 3
    assert found["mlos_model_requests_total", "2"] == 7
    assert found["mlos_model_state", "ready", "1"] == 1
    assert found["mlos_model_state", "failed", "1"] == 0
    assert found["mlos_model_requests_pending", "2"] == 4
    assert found["mlos_model_requests_running", "2"] == 2
    assert found["mlos_model_workers", "2"] == 1


def test_a_version_tells_its_plugin_its_share_and_its_memory():
    found = samples(stats())
    assert found["mlos_model_info", "cpu", "echo", "1"] == 1
    assert found["mlos_model_info", "cpu", "onnx", "2"] == 1
    assert found["mlos_model_route_weight", "1"] == 0.25
    assert found["mlos_model_memory_bytes", "2"] == 4096
    assert ("mlos_model_memory_bytes", "1") not in found


def test_a_model_that_tells_of_no_versions_is_one_itself():
    assert samples({"m": STATS})["mlos_model_requests_total", "2"] == 7


def test_triton_has_the_same_figures_under_its_own_names():
    found = samples(stats())
    assert found["nv_inference_request_success", "1"] == 1
    assert found["nv_inference_request_success", "2"] == 5
    assert found["nv_inference_request_failure", "2"] == 2
    assert found["nv_inference_count", "2"] == 12
    assert found["nv_inference_exec_count", "2"] == 3
    assert found["nv_inference_queue_duration_us", "2"] == 1
    assert found["nv_inference_compute_infer_duration_us", "2"] == 3_000_000
    assert found["nv_inference_request_duration_us", "2"] == 3_000_007
    assert found["nv_inference_pending_request_count", "2"] == 4


@pytest.mark.parametrize(
    ("accept", "read"), [("", parse), ("application/openmetrics-text", parse_openmetrics)]
)
def test_durations_are_histograms_with_exact_bounds(accept, read):
    times = [700, 1_500, 1_500, 3_000_000, 2**38]
    found = samples(stats(latency={"request": latency(times)}), accept, read)
    name = "mlos_model_request_duration_seconds"
    assert found[f"{name}_bucket", "1.024e-06", "2"] == 1
    assert found[f"{name}_bucket", "2.048e-06", "2"] == 3
    assert found[f"{name}_bucket", "0.004194304", "2"] == 4
    assert found[f"{name}_bucket", "137.438953472", "2"] == 4
    assert found[f"{name}_bucket", "+Inf", "2"] == found[f"{name}_count", "2"] == 5
    assert found[f"{name}_sum", "2"] == pytest.approx(sum(times) / 1e9)


def test_calls_are_told_by_their_rows():
    batches = [{"rows": 1, "executions": 3}, {"rows": 3, "executions": 2}]
    found = samples(stats(batches=batches))
    assert found["mlos_model_batch_rows_bucket", "1.0", "2"] == 3
    assert found["mlos_model_batch_rows_bucket", "4.0", "2"] == 5
    assert found["mlos_model_batch_rows_sum", "2"] == 9


def test_every_metric_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    known = stats(latency={name: latency([1]) for name in ("request", "queue", "infer")})
    for family in families(STATUS, [INFO], known):
        assert f"`{family.name}" in text, family.name
