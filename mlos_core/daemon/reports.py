# SPDX-License-Identifier: BUSL-1.1
"""What the service tells of models: plain values made of the live objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from mlos_core.daemon.model import ManagedModel, add_stats
from mlos_core.ipc.messages import BatchPolicy, WorkerStats
from mlos_core.types import Signature


class WorkerInfo(msgspec.Struct, frozen=True):
    """One worker. `restarts` counts those of its place."""

    owner: int
    pid: int
    state: str
    restarts: int


class ModelInfo(msgspec.Struct, frozen=True):
    """One registered model. `reason` says why it failed; `registered_at` is Unix time."""

    name: str
    version: str
    plugin: str
    path: str
    device: str
    state: str
    reason: str
    hint: str
    signature: Signature | None
    instances: int
    batch: BatchPolicy
    options: dict[str, Any]
    workers: tuple[WorkerInfo, ...]
    restarts: int
    channels: int
    registered_at: float
    manifest: dict[str, Any] | None = None


def info_of(model: ManagedModel) -> dict[str, Any]:
    """What the user sees of a model: a `ModelInfo` as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(_info(model))
    return plain


def _info(model: ManagedModel) -> ModelInfo:
    entry, error = model.entry, model.error
    return ModelInfo(
        name=entry.name,
        version=entry.version,
        plugin=entry.plugin,
        path=entry.path,
        device=entry.device,
        state=model.state,
        reason=error.message if error else "",
        hint=error.hint if error else "",
        signature=model.signature,
        instances=entry.instances,
        batch=entry.batch,
        options=entry.options,
        workers=_workers(model),
        restarts=model.restarts,
        channels=len(model.channels),
        registered_at=entry.registered_at,
        manifest=entry.manifest,
    )


def _workers(model: ManagedModel) -> tuple[WorkerInfo, ...]:
    return tuple(
        WorkerInfo(
            worker.owner,
            worker.pid,
            worker.state,
            worker.instance.restarts.total if worker.instance else 0,
        )
        for _, worker in sorted(model.workers.items())
    )


def totals(model: ManagedModel) -> WorkerStats:
    """The sum over workers past and present."""
    total = model.past
    for worker in model.workers.values():
        total = add_stats(total, worker.stats)
    return total


def merge(stats: WorkerStats, model: ManagedModel) -> dict[str, Any]:
    """Counters together with what the daemon itself counts."""
    plain: dict[str, Any] = msgspec.to_builtins(stats)
    return plain | {
        "state": model.state,
        "restarts": model.restarts,
        "channels": len(model.channels),
        "workers": len(model.workers),
    }


def memory_now(channel_bytes: int) -> dict[str, int]:
    """Bytes: of all channels, resident in the daemon, and free in /dev/shm."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    shm = os.statvfs("/dev/shm")  # noqa: S108
    return {
        "channels": channel_bytes,
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "shm_free": shm.f_bavail * shm.f_frsize,
    }
