# SPDX-License-Identifier: BUSL-1.1
"""Processors and NUMA nodes: how lists of them are written, and which this machine has."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mlos_core.errors import InvalidInput

SYSFS: Final = Path("/sys/devices/system")
ANY_NODE: Final = -1
MAX_CPU: Final = 8191
"""The highest number that Linux can be built for."""
_PART: Final = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
_NODE: Final = re.compile(r"node(\d+)")


def parse_cpus(text: str) -> tuple[int, ...]:
    """`0-3,8` as (0, 1, 2, 3, 8), sorted, each once; an empty text names none.

    Raises:
        InvalidInput: it is no such list.
    """
    found: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _PART.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last > MAX_CPU:
            raise InvalidInput(
                f"{part!r} in {text!r} names no processors", hint="write a list such as 0-3,8"
            )
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def format_cpus(cpus: Iterable[int]) -> str:
    """The inverse of `parse_cpus`, with ranges where numbers follow each other."""
    ordered = sorted(set(cpus))
    runs = itertools.groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0])
    parts = []
    for _, run in runs:
        numbers = [number for _, number in run]
        first, last = numbers[0], numbers[-1]
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)


def online_cpus(sysfs: Path = SYSFS) -> tuple[int, ...]:
    """Every processor that runs, whoever may use it."""
    listed = _read(sysfs / "cpu" / "online")
    return parse_cpus(listed) if listed else tuple(range(os.cpu_count() or 1))


def nodes(sysfs: Path = SYSFS) -> tuple[int, ...]:
    """The NUMA nodes; a kernel that knows none has node 0."""
    try:
        names = [entry.name for entry in (sysfs / "node").iterdir()]
    except OSError:
        names = []
    found = sorted(int(match[1]) for name in names if (match := _NODE.fullmatch(name)))
    return tuple(found) or (0,)


def cpus_of_node(node: int, sysfs: Path = SYSFS) -> tuple[int, ...]:
    """The processors of a NUMA node; none for a node that is memory only.

    Raises:
        InvalidInput: the machine has no such node.
    """
    there = nodes(sysfs)
    if node not in there:
        raise InvalidInput(
            f"there is no NUMA node {node}",
            hint=f"the machine has {_nodes_text(there, sysfs)}; -1 means any",
        )
    path = sysfs / "node" / f"node{node}" / "cpulist"
    return parse_cpus(_read(path)) if path.exists() else online_cpus(sysfs)


def check_placement(cpus: Iterable[int], node: int, sysfs: Path = SYSFS) -> None:
    """Raise `InvalidInput`, naming what the machine has, unless it has these.

    Args:
        cpus: processors to run on; none means any.
        node: where memory lies; -1 means anywhere.
    """
    wanted, online = set(cpus), online_cpus(sysfs)
    if absent := wanted - set(online):
        raise InvalidInput(
            f"there is no processor {format_cpus(absent)}",
            hint=f"the machine has {format_cpus(online)}",
        )
    if node == ANY_NODE:
        return
    own = cpus_of_node(node, sysfs)
    if wanted and own and wanted.isdisjoint(own):
        raise InvalidInput(
            f"none of the processors {format_cpus(wanted)} is near NUMA node {node}",
            hint=f"the machine has {_nodes_text(nodes(sysfs), sysfs)}",
        )


def _nodes_text(there: Iterable[int], sysfs: Path) -> str:
    return ", ".join(
        f"node {node} (processors {format_cpus(cpus_of_node(node, sysfs)) or 'none'})"
        for node in there
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
