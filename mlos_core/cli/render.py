# SPDX-License-Identifier: BUSL-1.1
"""Tables for people, JSON for programs."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click
import msgspec
import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlos_core.resources.machine import Machine
from mlos_core.resources.units import size as size
from mlos_core.types import Array, dtype_name

_STATE_STYLE: Final = {
    "ready": "green",
    "registered": "dim",
    "unloaded": "dim",
    "loading": "yellow",
    "warming": "yellow",
    "unprobed": "dim",
    "draining": "yellow",
    "failed": "bold red",
    "broken": "bold red",
    "conflict": "bold red",
    "pass": "green",
    "skip": "dim",
    "fail": "bold red",
}
_PLAIN_WIDTH: Final = 200
_SHOWN: Final = 12


def console() -> Console:
    """The standard output; in a pipe, lines are not cut to some terminal's width."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=_PLAIN_WIDTH)


def print_json(value: Any) -> None:
    """One JSON document."""
    encoded = msgspec.json.encode(value, enc_hook=_plain)
    click.echo(msgspec.json.format(encoded, indent=2).decode())


def print_json_line(value: Any) -> None:
    """One JSON document on one line, at once."""
    click.echo(msgspec.json.encode(value, enc_hook=_plain).decode())


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return jsonable(value)
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> Table:
    """A table; columns that begin with `#` are numbers, and `state` is coloured."""
    made = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        numeric = column.startswith("#")
        made.add_column(column.lstrip("#"), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_cell(c, value) for c, value in zip(columns, row, strict=True)))
    return made


def _cell(column: str, value: Any) -> str:
    return state(str(value)) if column == "state" else escape(str(value))


def state(name: str) -> str:
    """A state in its colour, as markup."""
    style = _STATE_STYLE.get(name)
    return f"[{style}]{escape(name)}[/]" if style else escape(name)


# --- the daemon -----------------------------------------------------------------------


def plugins(statuses: Sequence[Mapping[str, Any]]) -> Table:
    """All plugins, a line each."""
    columns = ["name", "state", "distribution", "version", "formats", "framework", "reason"]
    rows = [
        (
            status["name"],
            status["state"],
            status["distribution"],
            status["version"],
            " ".join(status["formats"]),
            status["framework"],
            status["reason"],
        )
        for status in statuses
    ]
    return table(columns, rows)


def checks(outcomes: Sequence[Mapping[str, Any]]) -> Table:
    """What `plugins check` found, a line each."""
    rows = [
        (o["group"], o["name"], o["outcome"], f"{o['seconds']:.2f}", o["reason"]) for o in outcomes
    ]
    return table(["group", "check", "state", "#s", "reason"], rows)


def status(values: Mapping[str, Any], machine: Machine) -> Table:
    """The daemon's state and the machine's, a line per fact."""
    memory = values["memory"]
    rows = [
        ("version", values["version"]),
        ("pid", values["pid"]),
        ("up", duration(values["uptime_s"])),
        ("ready", "yes" if values["ready"] else "no"),
        ("socket", values["socket"]),
        ("http", " ".join(values["http"]) or "off"),
        ("models", values["models"]),
        ("workers", values["workers"]),
        ("clients", values["clients"]),
        ("channels", f"{values['channels']} ({size(memory['channels'])} of shared memory)"),
        ("memory", f"{size(memory['resident'])} resident, {size(memory['shm_free'])} shared free"),
        *_machine(machine),
    ]
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="cyan")
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, escape(str(value)))
    return made


def _machine(machine: Machine) -> Iterator[tuple[str, str]]:
    yield "machine", f"processors {machine.cpus}, {size(machine.available)} of memory left"
    if len(machine.nodes) > 1:
        parts = (f"{node}: processors {cpus or 'none'}" for node, cpus in machine.nodes.items())
        yield "numa", ", ".join(parts)
    yield "gpu", ", ".join(gpu.describe() for gpu in machine.gpus) or machine.no_gpu


def signature_text(signature: Mapping[str, Any] | None) -> str:
    """A signature as the wire brings it, on one line."""
    if signature is None:
        return "-"
    sides = (signature["inputs"], signature["outputs"])
    return " -> ".join(", ".join(_spec_text(spec) for spec in side) or "nothing" for side in sides)


def _spec_text(spec: Mapping[str, Any]) -> str:
    dims = ", ".join("?" if dim < 0 else str(dim) for dim in spec["shape"])
    return f"{spec['name']}: {spec['dtype']}[{dims}]"


# --- tensors --------------------------------------------------------------------------


def outputs(arrays: Mapping[str, Array]) -> Table:
    """Outputs, a line each, long ones cut."""
    rows = [
        (name, dtype_name(array), list(array.shape), preview(array))
        for name, array in arrays.items()
    ]
    return table(["output", "dtype", "shape", "values"], rows)


def preview(array: Array) -> str:
    """The first values of an array."""
    flat = array.reshape(-1)
    shown = [_element(item) for item in flat[:_SHOWN]]
    return " ".join(shown) + (f" … ({flat.size} in all)" if flat.size > _SHOWN else "")


def _element(item: Any) -> str:
    if isinstance(item, bytes):
        return _text(item)
    return f"{item:.6g}" if isinstance(item, float | np.floating) else str(item)


def jsonable(array: Array) -> Any:
    """Nested lists; byte strings as text, or base64 where they are none."""
    if array.dtype.kind in "OSU":
        listed = np.empty(array.shape, dtype=object)
        for index, item in np.ndenumerate(array):
            listed[index] = _text(item) if isinstance(item, bytes) else str(item)
        return listed.tolist()
    return array.tolist()


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(data).decode()


# --- quantities -----------------------------------------------------------------------


def latency(us: float | None) -> str:
    """`1.5 ms`, of microseconds; `-` where there is none."""
    if us is None:
        return "-"
    for limit, divisor, unit in ((1e3, 1, "µs"), (1e6, 1e3, "ms")):
        if us < limit:
            return f"{us / divisor:.3g} {unit}"
    return f"{us / 1e6:.3g} s"


def duration(seconds: float) -> str:
    """`3 d 04:05:06`."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    clock = time.strftime("%H:%M:%S", time.gmtime(rest))
    return f"{days} d {clock}" if days else clock
