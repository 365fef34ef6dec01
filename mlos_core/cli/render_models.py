# SPDX-License-Identifier: BUSL-1.1
"""Models, their versions and routes, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.markup import escape
from rich.table import Table

from mlos_core.cli import render

Info = Mapping[str, Any]


_WIDE: Final = 110


def table(infos: Sequence[Info], width: int) -> Table:
    """All models, a line for each version; signatures only where there is room for them."""
    columns = ["name", "version", "state", "route", "plugin", "#workers", "#memory"]
    elsewhere = any(info["device"] != "cpu" for info in infos)
    rows = [
        (
            "" if number else info["name"],
            version["version"] or "-",
            version["state"],
            _share(info, version),
            version["plugin"],
            version["workers"],
            _memory(version),
            *([info["device"]] if elsewhere else []),
            _remark(version) or (render.signature_text(info["signature"]) * (width >= _WIDE)),
        )
        for info in infos
        for number, version in enumerate(info["versions"])
    ]
    columns += ["device"] if elsewhere else []
    return render.table([*columns, "signature" if width >= _WIDE else ""], rows)


def _remark(version: Info) -> str:
    if version["candidate"]:
        return f"being swapped: the new one is {version['candidate']}"
    return str(version["reason"])


def _memory(version: Info) -> str:
    # What is not in memory is known by what it took.
    loaded = version["workers"] and version["memory"]
    return render.size(version["memory"]) if loaded else "-"


def _share(info: Info, version: Info) -> str:
    """What a version gets of the requests that name none."""
    route, weight = info["route"], version["weight"]
    if not weight:
        return "-"
    return f"{100 * weight:.3g} %" if route["kind"] == "weighted" else str(route["kind"])


def route_text(info: Info) -> str:
    """`latest: 2.0`, `pinned to 1.0`, `1.0 90 %, 2.0 10 %`."""
    serving = [v for v in info["versions"] if v["weight"]]
    names = ", ".join(v["version"] or "the only version" for v in serving)
    if info["route"]["kind"] == "weighted":
        return ", ".join(f"{v['version']} {_share(info, v)}" for v in serving)
    return f"pinned to {names}" if info["route"]["kind"] == "pinned" else f"latest: {names}"


def detail(info: Info) -> Iterator[Table]:
    """One model: what it is, its versions, its workers."""
    yield facts(info)
    yield _versions(info)
    if info["workers"]:
        columns = ["worker", "version", "#pid", "state", "#restarts"]
        rows = [
            (w["owner"], w["version"] or "-", w["pid"], w["state"], w["restarts"])
            for w in info["workers"]
        ]
        yield render.table(columns, rows)


def facts(info: Info) -> Table:
    """What all versions share, a line per fact."""
    since = datetime.fromtimestamp(info["registered_at"], UTC)
    rows = {
        "model": info["name"],
        "state": render.state(info["state"]),
        "why": escape(". ".join(filter(None, (info["reason"], info["hint"])))),
        "route": escape(route_text(info)),
        "signature": escape(render.signature_text(info["signature"])),
        "device": info["device"],
        "batching": escape(_settings(info["batch"])) if _joins(info["batch"]) else "",
        "options": escape(_settings(info["options"])),
        "channels": str(info["channels"]),
        "since": since.strftime("%Y-%m-%d %H:%M:%S UTC") if info["registered_at"] else "",
    }
    made = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    made.add_column(style="cyan")
    made.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            made.add_row(name, value)
    return made


def _joins(batch: Info) -> bool:
    """Whether a batch policy joins requests at all."""
    return int(batch["max_batch_size"]) > 1


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items() if value not in ("", [], 0))


def _keep_alive(seconds: float) -> str:
    return "for ever" if seconds < 0 else f"{seconds:g} s"


def _versions(info: Info) -> Table:
    columns = ["version", "state", "route", "plugin", "#workers", "#memory", "load", "keep alive"]
    rows = [
        (
            version["version"] or "-",
            version["state"],
            _share(info, version),
            version["plugin"],
            version["workers"],
            _memory(version),
            "on demand" if version["load"] == "demand" else version["load"],
            _keep_alive(version["keep_alive"]),
            version["previous"] or "-",
            version["reason"] or version["path"],
        )
        for version in info["versions"]
    ]
    return render.table([*columns, "rollback to", "path"], rows)
