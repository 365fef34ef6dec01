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


def marked(mark: str) -> list[int]:
    """Processes that inherited `mark`, like `NAME=value`, in their environment: also those
    whose parents are gone."""
    wanted = mark.encode()
    return [
        int(entry.name)
        for entry in _PROC.iterdir()
        if entry.name.isdigit() and wanted in _environment(entry)
    ]


def _environment(entry: Path) -> list[bytes]:
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []  # it ended, or is somebody else's


def footprint(pids: list[int]) -> Footprint:
    """Of all these processes together."""
    memory, descriptors = sum(map(_pss, pids)), sum(map(_descriptors, pids))
    return Footprint(len(pids), memory, descriptors)


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
