# SPDX-License-Identifier: BUSL-1.1
"""The engines' statistics as metrics, under the names that vLLM's dashboards know."""

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

Rows = Iterable[tuple[str, Mapping[str, Any]]]

_TOTAL: Final = "_total"
_LABELS: Final = ("model_name",)
_GAUGES: Final = (
    ("num_requests_running", "Requests in the running batch"),
    ("num_requests_waiting", "Requests that wait for a place"),
    ("kv_cache_usage_perc", "Part of the KV cache that is in use; 1 is all of it"),
)
_COUNTERS: Final = (
    ("prefix_cache_queries", "Prompt tokens looked up in the prefix cache"),
    ("prefix_cache_hits", "Prompt tokens found in the prefix cache"),
    ("prompt_tokens", "Prompt tokens processed"),
    ("generation_tokens", "Tokens generated"),
    ("num_preemptions", "Requests put back because the KV cache was full"),
)
_HISTOGRAMS: Final = (
    ("time_to_first_token_seconds", "Time from a request's arrival to its first token"),
    ("inter_token_latency_seconds", "Time between two tokens of a request"),
    ("request_queue_time_seconds", "Time a request waited"),
    ("request_prefill_time_seconds", "Time a request's prompt took"),
    ("request_decode_time_seconds", "Time from a request's first token to its last"),
    ("request_inference_time_seconds", "Time a request was worked on"),
    ("e2e_request_latency_seconds", "Time from a request's arrival to its end"),
)
_SUCCESS: Final = "request_success"


def families(rows: Rows) -> Iterator[Metric]:
    """Metric families of the engines that report anything.

    Args:
        rows: a model's name and its engine's statistics by name: numbers, or histograms
            with `buckets`, cumulative `counts`, `sum` and `count`. A counter's name may end
            in `_total`. How many requests ended is `request_success_stop` and so on, by reason.
    """
    engines = [(model, engine) for model, engine in rows if engine]
    if not engines:
        return
    for name, text in _GAUGES:
        yield _numbers(GaugeMetricFamily("vllm:" + name, text, labels=_LABELS), name, engines)
    for name, text in _COUNTERS:
        yield _numbers(CounterMetricFamily("vllm:" + name, text, labels=_LABELS), name, engines)
    for name, text in _HISTOGRAMS:
        yield _histogram(name, text, engines)
    yield _success(engines)


def _numbers(
    family: GaugeMetricFamily | CounterMetricFamily, name: str, engines: Rows
) -> GaugeMetricFamily | CounterMetricFamily:
    for model, engine in engines:
        value = engine.get(name, engine.get(name + _TOTAL))
        if isinstance(value, (int, float)):
            family.add_metric((model,), value)
    return family


def _histogram(name: str, text: str, engines: Rows) -> HistogramMetricFamily:
    family = HistogramMetricFamily("vllm:" + name, text, labels=_LABELS)
    for model, engine in engines:
        value = engine.get(name)
        if isinstance(value, Mapping):
            pairs = zip(value["buckets"], value["counts"], strict=False)
            buckets = [(_bound(bound), count) for bound, count in pairs]
            buckets.append(("+Inf", value["count"]))
            family.add_metric((model,), buckets, value["sum"])
    return family


def _bound(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _success(engines: Rows) -> CounterMetricFamily:
    labels = (*_LABELS, "finished_reason")
    family = CounterMetricFamily("vllm:" + _SUCCESS, "Requests that ended well", labels=labels)
    for model, engine in engines:
        for name, value in engine.items():
            if name.startswith(_SUCCESS):
                reason = name.removeprefix(_SUCCESS).removeprefix(_TOTAL).removeprefix("_")
                family.add_metric((model, reason), value)
    return family
