# SPDX-License-Identifier: BUSL-1.1
"""A view as tables. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from mlos_core.cli.fitted import Fitted
from mlos_core.cli.render import duration, latency, size, table
from mlos_core.cli.top.rates import DaemonRow, VersionRow, View, WorkerRow

ORDERS: Final[dict[str, Callable[[VersionRow], Any]]] = {
    "name": lambda row: (row.model, row.version),
    "rate": lambda row: -row.requests_s,
    "p99": lambda row: -(row.p99_us or 0.0),
    "cpu": lambda row: -row.cpu,
    "memory": lambda row: -row.memory,
}
# What goes first where there is no room: the table of workers tells most of it, too.
_SPARE: Final = ("#workers", "#restarts", "#route", "#batch", "#run", "#memory", "#cpu", "#tok/s")
_WORKERS: Final = ("#pid", "model", "version", "state", "#cpu", "#memory", "#restarts")


def render(view: View, order: str = "name", hint: str = "") -> RenderableType:
    """The daemon on a line, a table of versions, and one of workers."""
    rows = sorted(view.versions, key=ORDERS[order])
    parts: list[RenderableType] = [_daemon(view.daemon)]
    if rows:
        parts += [
            _versions(rows),
            table(_WORKERS, map(_worker, view.workers)),
        ]
    else:
        parts.append(Text("no models; register one with `mlosctl register NAME PATH`"))
    if hint:
        parts.append(Text(hint, style="dim"))
    return Group(*parts)


def _daemon(row: DaemonRow) -> Text:
    return Text(
        f"mlosd {row.version}  pid {row.pid}  up {duration(row.uptime_s)}  "
        f"cpu {_percent(row.cpu)}  memory {size(row.memory)}\n"
        f"{row.models} models  {row.clients} clients  {row.channels} channels ("
        f"{size(row.channel_bytes)} shared, {size(row.shm_free)} free)"
    )


def _versions(rows: Sequence[VersionRow]) -> RenderableType:
    """A line each; routes and tokens only where there are any."""
    hidden = set()
    if all(row.weight in (None, 1.0) for row in rows):
        hidden.add("#route")
    if all(row.tokens_s is None for row in rows):
        hidden.add("#tok/s")
    cells = [_version(row) for row in rows]
    return Fitted([{k: v for k, v in row.items() if k not in hidden} for row in cells], _SPARE)


def _version(row: VersionRow) -> dict[str, str]:
    return {
        "model": row.model,
        "version": row.version or "-",
        "state": row.state,
        "#route": "-" if row.weight is None else f"{row.weight:.0%}",
        "#req/s": _number(row.requests_s),
        "#err/s": _number(row.errors_s),
        "#wait": str(row.waiting),
        "#run": str(row.running),
        "#p50": latency(row.p50_us),
        "#p99": latency(row.p99_us),
        "#batch": "-" if row.batch is None else f"{row.batch:.1f}",
        "#tok/s": "-" if row.tokens_s is None else _number(row.tokens_s),
        "#workers": str(row.workers),
        "#cpu": _percent(row.cpu),
        "#memory": size(row.memory),
        "#restarts": str(row.restarts),
    }


def _worker(row: WorkerRow) -> tuple[str, ...]:
    return (
        str(row.pid or "-"),
        row.model,
        row.version or "-",
        row.state,
        _percent(row.cpu),
        size(row.memory),
        str(row.restarts),
    )


def _percent(cpu: float) -> str:
    return f"{cpu * 100:.0f} %"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
