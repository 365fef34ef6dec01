# SPDX-License-Identifier: BUSL-1.1
"""What /proc tells of the daemon's processes."""

from __future__ import annotations

from pathlib import Path

import msgspec

_PROC = Path("/proc")


class Footprint(msgspec.Struct, frozen=True):
    """What processes hold: bytes of memory (each page shared out among its users) and counts."""

    processes: int
    memory: int
    descriptors: int


def descendants(pid: int) -> list[int]:
    """The children of `pid`, and theirs, and so on."""
    parents: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            parents.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _parent(entry: Path) -> int | None:
    try:
        # The name in parentheses may hold anything, parentheses too.
        rest = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(rest[1]) if rest[0] != "Z" else None


def footprint(pid: int) -> Footprint:
    """Of a process and its descendants."""
    every = [pid, *descendants(pid)]
    parts = [(_pss(each), _descriptors(each)) for each in every]
    return Footprint(len(every), sum(p for p, _ in parts), sum(d for _, d in parts))


def _pss(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _descriptors(pid: int) -> int:
    try:
        return len(list((_PROC / str(pid) / "fd").iterdir()))
    except OSError:
        return 0
