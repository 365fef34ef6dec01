# SPDX-License-Identifier: BUSL-1.1
"""What the service tells of models: plain values made of the live objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from mlos_core.daemon.counters import across, add_stats
from mlos_core.daemon.deployment import Deployment
from mlos_core.daemon.entry import version_key
from mlos_core.daemon.figures import figures
from mlos_core.daemon.model import ManagedModel
from mlos_core.daemon.worker import Worker
from mlos_core.ipc.messages import BatchPolicy, WorkerStats
from mlos_core.types import Signature


class WorkerInfo(msgspec.Struct, frozen=True):
    """One worker. `restarts` counts those of its place."""

    owner: int
    pid: int
    state: str
    restarts: int
    version: str = ""


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
    python: str = ""
    route: dict[str, Any] = {}
    versions: tuple[VersionInfo, ...] = ()


class VersionInfo(msgspec.Struct, frozen=True):
    """One version of a model.

    `weight` is its share of the requests that follow the route, `memory` what its workers take
    in bytes (0: not measured yet), `previous` the version a rollback gives back ("?": one
    without a version), `candidate` the state of what is to take its place.
    """

    version: str
    state: str
    reason: str
    hint: str
    path: str
    plugin: str
    python: str
    weight: float
    workers: int
    instances: int
    load: str
    keep_alive: float
    memory: int
    previous: str
    candidate: str


def info_of(model: ManagedModel) -> dict[str, Any]:
    """What the user sees of a model: a `ModelInfo` as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(_info(model))
    return plain


def _info(model: ManagedModel) -> ModelInfo:
    entry, error = model.entry, model.error
    by_version = sorted(model.deployments.values(), key=lambda d: version_key(d.version))
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
        python=entry.python,
        route={"kind": model.route.kind, "weights": model.route.weights or model.shares},
        versions=tuple(_version(d) for d in by_version),
    )


def _version(deployment: Deployment) -> VersionInfo:
    entry, error = deployment.entry, deployment.error
    shares = deployment.model.shares
    total = sum(shares.values())
    return VersionInfo(
        version=entry.version,
        state=deployment.state,
        reason=error.message if error else "",
        hint=error.hint if error else "",
        path=entry.path,
        plugin=entry.plugin,
        python=entry.python,
        weight=shares.get(entry.version, 0.0) / total if total else 0.0,
        workers=len(deployment.workers),
        instances=entry.instances,
        load=entry.load,
        keep_alive=entry.keep_alive,
        memory=deployment.memory,
        previous=deployment.previous,
        candidate=_candidate(deployment),
    )


def _candidate(deployment: Deployment) -> str:
    if deployment.candidate is None:
        return ""
    if any(worker.admitted for worker in deployment.candidate.workers):
        return "canary"
    states = {worker.state for worker in deployment.candidate.workers}
    return "warming" if states & {"warming", "ready"} else "loading"


def _workers(model: ManagedModel) -> tuple[WorkerInfo, ...]:
    return tuple(
        WorkerInfo(
            worker.owner,
            worker.pid,
            worker.state,
            worker.instance.restarts.total if worker.instance else 0,
            worker.spec.version,
        )
        for _, worker in sorted(model.workers.items())
    )


def stats_of(model: ManagedModel, *, histograms: bool = False) -> dict[str, Any]:
    """A model's counters, summed and by version, with what the daemon itself counts."""
    deployments = model.deployments.values()
    versions = {
        version: _known(deployment, version)
        | figures(_sum(deployment.past.of(version), deployment, version), histograms=histograms)
        for deployment in deployments
        for version in deployment.served
    }
    whole = across(_sum(deployment.past.total, deployment) for deployment in deployments)
    about = {
        "state": model.state,
        "restarts": model.restarts,
        "channels": len(model.channels),
        "workers": len(model.workers),
    }
    return about | figures(whole, histograms=histograms) | {"versions": versions}


def _sum(past: WorkerStats, deployment: Deployment, version: str | None = None) -> WorkerStats:
    """With those that live, all or one version's."""
    total = past
    for worker in deployment.workers:
        if version in (None, worker.spec.version):
            total = add_stats(total, worker.stats)
    return total


def _known(deployment: Deployment, version: str) -> dict[str, Any]:
    workers = [worker for worker in deployment.workers if worker.spec.version == version]
    main = version == deployment.version
    return {
        "state": deployment.state if main else _other_state(workers),
        "restarts": deployment.restarts if main else 0,
        "channels": len(set().union(*(worker.serving for worker in workers))),
        "workers": len(workers),
    }


def _other_state(workers: list[Worker]) -> str:
    """Of a version that takes another's place, or makes place for one."""
    states = {worker.state for worker in workers}
    return next((s for s in ("ready", "warming", "draining") if s in states), "loading")


def memory_now(channel_bytes: int) -> dict[str, int]:
    """Bytes: of all channels, resident in the daemon, and free in /dev/shm."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    shm = os.statvfs("/dev/shm")  # noqa: S108
    return {
        "channels": channel_bytes,
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "shm_free": shm.f_bavail * shm.f_frsize,
    }
