# SPDX-License-Identifier: BUSL-1.1
"""What a run has left behind: shared-memory files and processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

SHM = Path("/dev/shm")
SETTLE_S = 3.0


def shared_memory() -> set[str]:
    """The names in /dev/shm."""
    return {entry.name for entry in SHM.iterdir()}


def processes(tag: str) -> list[int]:
    """Living processes that inherited `MLOS_BENCH_RUN=tag`, other than this one."""
    return [pid for pid in all_pids() if pid != os.getpid() and carries(pid, tag)]


def all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def carries(pid: int, tag: str) -> bool:
    """Whether the environment of `pid` at its start had the tag (empty for a zombie)."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"MLOS_BENCH_RUN={tag}".encode() in environ.split(b"\0")


def complaints(before: set[str], tag: str) -> list[str]:
    """What is there now and was not before; things that are about to go get a moment.

    Processes are ended after they were found.
    """
    end = time.monotonic() + SETTLE_S
    while True:
        segments, pids = shared_memory() - before, processes(tag)
        if not (segments or pids) or time.monotonic() >= end:
            break
        time.sleep(0.1)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [
        *(f"left in /dev/shm: {name}" for name in sorted(segments)),
        *(f"was still running: process {pid}" for pid in pids),
    ]
