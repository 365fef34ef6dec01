# SPDX-License-Identifier: BUSL-1.1
"""One reading: what the daemon tells, and what the kernel tells of its processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from mlos_core.client import Client
from mlos_core.resources.memory import PROC, pss_of

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
# Behind the name in parentheses, counted from the state: utime, stime, rss.
_UTIME, _STIME, _RSS = 11, 12, 21


class Process(msgspec.Struct, frozen=True):
    """Seconds of processor time since its start, and bytes of memory: its proportional part of
    what it shares, or all that is resident where the kernel does not tell."""

    cpu_s: float
    memory: int


class Sample(msgspec.Struct, frozen=True):
    """All of it at one moment; `at` is in seconds of a clock that never goes back."""

    at: float
    status: dict[str, Any]
    models: list[dict[str, Any]]
    stats: dict[str, Any]
    processes: dict[int, Process] = {}


def read(client: Client) -> Sample:
    """Ask the daemon and the kernel.

    Raises:
        Unavailable: the daemon does not answer.
    """
    status = client.call("status")
    models = client.call("models")
    stats = client.call("stats", histograms=True)
    at = time.monotonic()
    pids = [worker["pid"] for model in models for worker in model["workers"]]
    return Sample(at, status, models, stats, processes([status["pid"], *pids]))


def processes(pids: Iterable[int], proc: Path = PROC) -> dict[int, Process]:
    """Those that live."""
    wanted = [pid for pid in pids if pid]
    shares = pss_of(wanted, proc)
    found = {}
    for pid in wanted:
        try:
            fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:  # it ended
            continue
        cpu_s = (int(fields[_UTIME]) + int(fields[_STIME])) * _TICK_S
        found[pid] = Process(cpu_s, shares.get(pid) or int(fields[_RSS]) * _PAGE)
    return found
