# SPDX-License-Identifier: BUSL-1.1
"""One model as the daemon runs it: fleets of workers, their doorbell, their channels.

A fleet is the workers of one registration. While a registration is replaced there are two:
the candidate joins the channels once it is proven, and then the old one drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from mlos_core.daemon.allocate import Lanes
from mlos_core.daemon.registry import ModelEntry
from mlos_core.daemon.restarts import RestartPolicy, Restarts
from mlos_core.daemon.worker import Worker
from mlos_core.errors import DeadlineExceeded, MlosError
from mlos_core.ipc.messages import WorkerStats
from mlos_core.smi import LEVELS, Histogram, Statistics
from mlos_core.types import Signature

if TYPE_CHECKING:
    from mlos_core.daemon.channels import Channel

ModelState = Literal["registered", "loading", "warming", "ready", "draining", "failed", "unloaded"]


class Instance:
    """One of a fleet's places for a worker."""

    def __init__(self, index: int, policy: RestartPolicy) -> None:
        self.index = index
        self.restarts = Restarts(policy)
        self.worker: Worker | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.given_up = False


class Fleet:
    """The workers of one registration."""

    def __init__(self, model: ManagedModel, entry: ModelEntry, policy: RestartPolicy) -> None:
        self.model = model
        self.entry = entry
        self.instances = [Instance(index, policy) for index in range(entry.instances)]
        self.started = False
        self.ever_ready = False
        self.retired = False
        self.error: MlosError | None = None

    @property
    def workers(self) -> list[Worker]:
        """Its workers that live."""
        return [worker for worker in self.model.workers.values() if worker.fleet is self]

    @property
    def proven(self) -> bool:
        """Whether one of its workers serves and was proven."""
        return any(worker.proven and worker.serves for worker in self.workers)

    def retire(self) -> None:
        """No further start; its workers end as they will."""
        self.retired = True
        for instance in self.instances:
            if instance.timer is not None:
                instance.timer.cancel()
                instance.timer = None


class ManagedModel:
    """A registered model with everything that runs for it."""

    def __init__(self, entry: ModelEntry, policy: RestartPolicy) -> None:
        self.name = entry.name
        self.bell = -1
        self.lanes = Lanes()
        self.workers: dict[int, Worker] = {}
        self.channels: dict[str, Channel] = {}
        self.fleet = Fleet(self, entry, policy)
        self.candidate: Fleet | None = None
        self.ending: MlosError | None = None
        self.unloaded = False
        self.restarts = 0
        self.past = WorkerStats()
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def entry(self) -> ModelEntry:
        """The registration that serves."""
        return self.fleet.entry

    @property
    def error(self) -> MlosError | None:
        """Why it failed, if it did."""
        return self.fleet.error

    @property
    def signature(self) -> Signature | None:
        """As a worker of the serving fleet reported it."""
        for worker in self.fleet.workers:
            if worker.signature is not None:
                return worker.signature
        return None

    @property
    def state(self) -> ModelState:
        """What the user is told."""
        if self.unloaded:
            return "unloaded"
        if self.ending is not None:
            return "draining"
        if self.error is not None:
            return "failed"
        if self.fleet.proven:
            return "ready"
        states = {worker.state for worker in self.fleet.workers}
        if states & {"warming", "ready"}:
            return "warming"
        return "loading" if self.fleet.started else "registered"

    @property
    def servable(self) -> bool:
        """Whether some worker can be given a channel, proven or not."""
        return any(worker.serves for worker in self.workers.values())

    def alive(self) -> tuple[int, ...]:
        """Owners that are not known dead."""
        return tuple(sorted(self.workers))

    def fold(self, stats: WorkerStats) -> None:
        """Keep the counters of a worker that is gone."""
        engine = {name: value for name, value in stats.engine.items() if name not in LEVELS}
        self.past = add_stats(self.past, msgspec.structs.replace(stats, engine=engine))

    # --- waiting ----------------------------------------------------------------------

    def changed(self) -> None:
        """Let everybody who waits look again."""
        for future in self._waiters:
            if not future.done():
                future.set_result(None)

    async def wait_until(self, predicate: Callable[[], bool], within: float) -> None:
        """Wait until `predicate()`.

        Raises:
            MlosError: the reason why it failed, or why it goes.
            DeadlineExceeded: neither happened `within` seconds.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while not predicate():
            self.raise_if_over()
            future: asyncio.Future[None] = loop.create_future()
            self._waiters.add(future)
            try:
                async with asyncio.timeout_at(end):
                    await future
            except TimeoutError:
                raise DeadlineExceeded(
                    f"model {self.name!r} is still {self.state} after {within:g} s",
                    hint="give it more time, or see `mlosctl models` and the daemon's log",
                ) from None
            finally:
                self._waiters.discard(future)

    async def next_change(self) -> None:
        """Return at the next change."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(future)
        try:
            await future
        finally:
            self._waiters.discard(future)

    def raise_if_over(self) -> None:
        """Raise if the model will never be ready: it failed, or it goes."""
        for error in (self.ending, self.error):
            if error is not None:
                raise type(error)(error.message, hint=error.hint)


def add_stats(a: WorkerStats, b: WorkerStats) -> WorkerStats:
    """Field by field; `channels` is a level, not a counter, and is left out."""
    fields = (f for f in WorkerStats.__struct_fields__ if f not in ("channels", "engine"))
    sums = {f: getattr(a, f) + getattr(b, f) for f in fields}
    return WorkerStats(**sums, engine=_add_engines(a.engine, b.engine))


def _add_engines(a: Statistics, b: Statistics) -> Statistics:
    """Name by name; of two histograms with other buckets the second one counts."""
    total = dict(a)
    for name, more in b.items():
        have = total.get(name)
        if isinstance(more, Histogram):
            fits = isinstance(have, Histogram) and have.buckets == more.buckets
            total[name] = _add_histograms(have, more) if fits else more  # type: ignore[arg-type]
        elif not isinstance(have, float | int):
            total[name] = more
        else:
            total[name] = max(have, more) if name.endswith("_perc") else have + more
    return total


def _add_histograms(a: Histogram, b: Histogram) -> Histogram:
    counts = tuple(x + y for x, y in zip(a.counts, b.counts, strict=True))
    return Histogram(a.buckets, counts, a.sum + b.sum, a.count + b.count)
