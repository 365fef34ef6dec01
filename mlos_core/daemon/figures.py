# SPDX-License-Identifier: BUSL-1.1
"""What counters come to, as the plain values that users see. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mlos_core.ipc.histogram import Times, percentile
from mlos_core.ipc.messages import WorkerStats

_PARTS: Final = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999}


def figures(stats: WorkerStats, *, histograms: bool = False) -> dict[str, Any]:
    """Counters by name, and what they say.

    `latency` has for the whole `request`, its time in the `queue` and the computation
    (`infer`) the `count`, and in microseconds `mean_us`, `p50_us`, `p90_us`, `p99_us`,
    `p999_us` and `max_us`; `None` before the first. With `histograms` there are the `counts`
    by bucket besides (`mlos_core.ipc.histogram`). `batches` says for each size in rows how
    many calls there were, and their time.
    """
    plain: dict[str, Any] = {
        name: getattr(stats, name)
        for name in WorkerStats.__struct_fields__
        if name not in ("times", "batches", "channels", "engine")
    }
    answered_ns = stats.queue_ns + stats.input_ns + stats.infer_ns + stats.output_ns
    sums = {"request": answered_ns, "queue": stats.queue_ns, "infer": stats.infer_ns}
    plain["latency"] = {
        name: _latency(stats.times.get(name, Times()), total, histograms)
        for name, total in sums.items()
    }
    plain["batches"] = [
        {"rows": rows, "executions": calls, "infer_ns": ns}
        for rows, (calls, ns) in sorted(stats.batches.items())
    ]
    return plain | {"engine": msgspec.to_builtins(stats.engine)}


def _latency(times: Times, total_ns: int, histograms: bool) -> dict[str, Any]:
    count = sum(times.counts.values())
    known: dict[str, Any] = {"count": count, "mean_us": _us(total_ns / count if count else None)}
    for name, part in _PARTS.items():
        known[name] = _us(percentile(times.counts, part, times.max_ns))
    known["max_us"] = _us(times.max_ns if count else None)
    return known | ({"counts": times.counts, "sum_ns": total_ns} if histograms else {})


def _us(ns: float | None) -> float | None:
    return None if ns is None else round(ns / 1000, 3)
