# SPDX-License-Identifier: BUSL-1.1
"""What happened between two readings. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from mlos_core.cli.top.sample import Process, Sample
from mlos_core.ipc.histogram import percentile, since


class DaemonRow(msgspec.Struct, frozen=True):
    """The daemon itself. `cpu` is 1.0 for one processor; memory is in bytes."""

    version: str
    pid: int
    uptime_s: float
    models: int
    clients: int
    channels: int
    channel_bytes: int
    shm_free: int
    cpu: float
    memory: int


class VersionRow(msgspec.Struct, frozen=True):
    """One version of a model.

    Rates are per second of the interval; so are `p50_us` and `p99_us` of it alone, and `batch`, the
    mean rows of a call: `None` where nothing happened. `waiting` requests are not being worked on
    yet, `running` ones are. `weight` is its part of the route.
    """

    model: str
    version: str
    state: str
    weight: float | None
    requests_s: float
    errors_s: float
    waiting: int
    running: int
    p50_us: float | None
    p99_us: float | None
    batch: float | None
    tokens_s: float | None
    workers: int
    cpu: float
    memory: int
    restarts: int


class WorkerRow(msgspec.Struct, frozen=True):
    """One worker process."""

    pid: int
    model: str
    version: str
    state: str
    cpu: float
    memory: int
    restarts: int


class View(msgspec.Struct, frozen=True):
    """What is shown of the `seconds` between two readings."""

    seconds: float
    daemon: DaemonRow
    versions: tuple[VersionRow, ...]
    workers: tuple[WorkerRow, ...]


def compare(before: Sample, now: Sample) -> View:
    """The view of the time between two readings."""
    return _Interval(before, now).view()


class _Interval:
    def __init__(self, before: Sample, now: Sample) -> None:
        self._before = before
        self._now = now
        self._seconds = max(now.at - before.at, 1e-9)

    def view(self) -> View:
        workers = tuple(self._workers())
        versions = tuple(self._versions(workers))
        return View(round(self._seconds, 3), self._daemon(), versions, workers)

    def _rate(self, before: Mapping[str, Any], now: Mapping[str, Any], key: str) -> float:
        gained = now.get(key, 0) - before.get(key, 0)
        # Fewer than before: it was registered anew meanwhile.
        return float(round((now.get(key, 0) if gained < 0 else gained) / self._seconds, 3))

    def _cpu(self, pid: int) -> float:
        now, before = self._now.processes.get(pid), self._before.processes.get(pid)
        if now is None or before is None:
            return 0.0
        return round(max(0.0, now.cpu_s - before.cpu_s) / self._seconds, 3)

    def _memory(self, pid: int) -> int:
        return self._now.processes.get(pid, _NOTHING).memory

    def _daemon(self) -> DaemonRow:
        status = self._now.status
        memory, pid = status["memory"], status["pid"]
        return DaemonRow(
            version=status["version"],
            pid=pid,
            uptime_s=status["uptime_s"],
            models=status["models"],
            clients=status["clients"],
            channels=status["channels"],
            channel_bytes=memory["channels"],
            shm_free=memory["shm_free"],
            cpu=self._cpu(pid),
            memory=self._memory(pid) or memory["resident"],
        )

    def _workers(self) -> Iterator[WorkerRow]:
        for info in self._now.models:
            for worker in info["workers"]:
                pid = worker["pid"]
                yield WorkerRow(
                    pid=pid,
                    model=info["name"],
                    version=worker.get("version", info["version"]),
                    state=worker["state"],
                    cpu=self._cpu(pid),
                    memory=self._memory(pid),
                    restarts=worker["restarts"],
                )

    def _versions(self, workers: tuple[WorkerRow, ...]) -> Iterator[VersionRow]:
        weights = _weights(self._now)
        old = dict(_by_version(self._before))
        for (model, version), stats in _by_version(self._now):
            its = [w for w in workers if (w.model, w.version) == (model, version)]
            before = old.get((model, version), {})
            yield self._version(model, version, weights, before, stats, its)

    def _version(
        self,
        model: str,
        version: str,
        weights: Mapping[tuple[str, str], float],
        before: Mapping[str, Any],
        now: Mapping[str, Any],
        workers: list[WorkerRow],
    ) -> VersionRow:
        counts = since(_counts(before), _counts(now))
        calls, rows = self._rate(before, now, "executions"), self._rate(before, now, "rows")
        held = int(now["engine"].get("num_requests_waiting", 0))
        return VersionRow(
            model=model,
            version=version,
            state=now["state"],
            weight=weights.get((model, version)),
            requests_s=self._rate(before, now, "requests"),
            errors_s=self._rate(before, now, "failures"),
            waiting=now["pending"] + held,
            running=max(0, now["running"] - held),
            p50_us=_us(percentile(counts, 0.5)),
            p99_us=_us(percentile(counts, 0.99)),
            batch=round(rows / calls, 3) if calls and rows else None,
            tokens_s=self._tokens(before, now),
            workers=now["workers"],
            cpu=sum(worker.cpu for worker in workers),
            memory=sum(worker.memory for worker in workers),
            restarts=now["restarts"],
        )

    def _tokens(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
        for key in _TOKENS:
            if key in now["engine"]:
                return self._rate(before.get("engine", {}), now["engine"], key)
        return None


_NOTHING: Final = Process(0.0, 0)
_TOKENS: Final = ("generation_tokens_total", "generation_tokens")


def _by_version(sample: Sample) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for model, whole in sorted(sample.stats.items()):
        for version, stats in whole["versions"].items():
            yield (model, version), stats


def _weights(sample: Sample) -> dict[tuple[str, str], float]:
    return {
        (info["name"], version["version"]): version["weight"]
        for info in sample.models
        for version in info.get("versions", ())
    }


def _counts(stats: Mapping[str, Any]) -> dict[int, int]:
    known: dict[int, int] = stats.get("latency", {}).get("request", {}).get("counts", {})
    return known


def _us(ns: float | None) -> float | None:
    return None if ns is None else round(ns / 1000, 3)
