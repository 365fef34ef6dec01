# SPDX-License-Identifier: BUSL-1.1
"""How much memory this process could still have."""

from __future__ import annotations

import contextlib
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def available() -> int:
    """Bytes: what the machine has left, or what this control group may still take if less."""
    return min(_machine(), _group())


def _machine() -> int:
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def _group() -> int:
    """Control groups of version 2; caches of files count as free."""
    left = 1 << 62
    with contextlib.suppress(OSError, ValueError, IndexError):
        own = _GROUP.read_text().split("0::", 1)[1].splitlines()[0]
        folder = _GROUPS / own.lstrip("/")
        while True:
            left = min(left, _limit(folder))
            if folder == _GROUPS:
                break
            folder = folder.parent
    return left


def _limit(folder: Path) -> int:
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return 1 << 62
        used = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 1 << 62
    cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(int(limit) - used + cached, 0)
