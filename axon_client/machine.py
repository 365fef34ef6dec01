# SPDX-License-Identifier: BUSL-1.1
"""What this machine has to run models with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


class Gpu(msgspec.Struct, frozen=True):
    """A GPU: bytes of its memory."""

    name: str
    total: int
    free: int


class Machine(msgspec.Struct, frozen=True):
    """Bytes of memory that can be had now, cores of this process, bytes free in the store."""

    memory_total: int
    memory_available: int
    cores: int
    disk_free: int
    gpus: tuple[Gpu, ...] = ()


def this_machine(store: Path) -> Machine:
    """What there is now; `store` is a folder, which need not exist yet."""
    meminfo = _table(_MEMINFO)
    total, available = meminfo.get("MemTotal", 0), meminfo.get("MemAvailable", 0)
    limit = _limit()
    if limit is not None:
        total, available = min(total, limit[0]), min(available, limit[1])
    folder = next(path for path in (store, *store.absolute().parents) if path.exists())
    return Machine(
        total,
        available,
        len(os.sched_getaffinity(0)),
        shutil.disk_usage(folder).free,
        tuple(_gpus()),
    )


def _table(path: Path) -> dict[str, int]:
    """Lines such as `MemTotal:  16303428 kB`, in bytes."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {
        words[0]: int(words[1]) * (1024 if words[-1] == "kB" else 1)
        for words in lines
        if len(words) > 1 and words[1].isdecimal()
    }


def _limit() -> tuple[int, int] | None:
    """What the control group allows, and what of that can still be had; None without a limit."""
    try:
        most = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    # Files that nobody is using just now go when memory is needed.
    idle = _table(_CGROUP / "memory.stat").get("inactive_file", 0)
    return most, max(0, most - used + idle)


def _gpus() -> Iterator[Gpu]:
    """The NVIDIA GPUs, if there is a driver."""
    try:
        import pynvml
    except ImportError:
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            yield _gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError:
        return
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> Gpu:
    name, memory = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetMemoryInfo(handle)
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return Gpu(text, int(memory.total), int(memory.free))
