# SPDX-License-Identifier: BUSL-1.1
"""Counters and latencies as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from mlos_core.cli.fitted import Fitted
from mlos_core.cli.render import latency, size

_COUNTED: Final = ("requests", "failures", "cancelled", "executions")
_PERCENTILES: Final = {
    "#p50": "p50_us",
    "#p90": "p90_us",
    "#p99": "p99_us",
    "#p99.9": "p999_us",
    "#max": "max_us",
}
_SPARE: Final = (
    *("#copied", "#p90", "#executions", "#cancelled", "#p99.9", "#restarts", "#max"),
    *("#queue", "#infer"),
)


def table(by_model: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """Counters of each version, its percentiles, and means of the queue and the computation."""
    rows = [
        _row(name, version, stats)
        for name, whole in by_model.items()
        for version, stats in whole["versions"].items()
    ]
    return Fitted(rows, _SPARE) if rows else Text("no models")


def _row(model: str, version: str, stats: Mapping[str, Any]) -> dict[str, str]:
    request = stats["latency"]["request"]
    return {
        "model": model,
        "version": version or "-",
        "state": stats["state"],
        **{f"#{key}": str(stats[key]) for key in _COUNTED},
        **{column: latency(request[key]) for column, key in _PERCENTILES.items()},
        "#queue": latency(stats["latency"]["queue"]["mean_us"]),
        "#infer": latency(stats["latency"]["infer"]["mean_us"]),
        "#copied": size(stats["copied_bytes"]),
        "#restarts": str(stats["restarts"]),
    }
