# SPDX-License-Identifier: BUSL-1.1
"""What a process occupies, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

FIELDS = {"VmHWM": "peak", "VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "file_mapped"}


def resident(pid: int | str = "self") -> dict[str, float]:
    """MiB: greatest and present resident size, its anonymous and file-mapped parts, and `pss`,
    in which what several processes share counts once."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in FIELDS:
            found[FIELDS[name]] = int(value.split()[0]) / 1024
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            found["pss"] = int(line.split()[1]) / 1024
    return found
