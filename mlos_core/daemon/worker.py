# SPDX-License-Identifier: BUSL-1.1
"""What the daemon knows of one worker process."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Literal

from mlos_core.daemon import procs
from mlos_core.daemon.peer import Peer
from mlos_core.errors import MlosError
from mlos_core.ipc import framing
from mlos_core.ipc.messages import (
    AskSamples,
    AskStats,
    Drain,
    SamplesTaken,
    Stats,
    WorkerSpec,
    WorkerState,
    WorkerStats,
)
from mlos_core.types import Signature

if TYPE_CHECKING:
    from mlos_core.daemon.deployment import Fleet, Instance

State = Literal["forking"] | WorkerState
_ids = itertools.count(1)


class Worker:
    """One worker: its process, its connection and what it serves.

    `proven` means that the data plane answered after the worker had said it is ready.
    `admitted` workers are given the clients' channels; `left` ones claim nothing more.
    `serving` and `asked` hold channel ids: served, and `Serve` sent but not answered.
    """

    def __init__(self, spec: WorkerSpec, fleet: Fleet, instance: Instance | None) -> None:
        self.spec = spec
        self.fleet = fleet
        self.instance = instance
        self.pid = 0
        self.pidfd = -1
        self.peer: Peer | None = None
        self.early_peer: Peer | None = None
        self.state: State = "forking"
        self.signature: Signature | None = None
        self.proven = False
        self.proving = False
        self.admitted = False
        self.left = False
        self.launch: asyncio.Task[None] | None = None
        self.problem: MlosError | None = None
        self.exit_status: int | None = None
        self.serving: set[str] = set()
        self.asked: set[str] = set()
        self.timers: dict[str, asyncio.TimerHandle] = {}
        self.stats = WorkerStats()
        self._asking: dict[int, asyncio.Future[WorkerStats]] = {}
        self._samples: dict[int, asyncio.Future[int]] = {}

    @property
    def owner(self) -> int:
        """Its number, unique for ever."""
        return self.spec.owner

    @property
    def serves(self) -> bool:
        """Whether channels may be given to it."""
        return self.state == "ready" and self.peer is not None

    def set_timer(self, name: str, handle: asyncio.TimerHandle) -> None:
        """Remember a deadline under a name; an older one of that name ends."""
        self.clear_timer(name)
        self.timers[name] = handle

    def clear_timer(self, name: str) -> None:
        """The awaited thing happened."""
        if (handle := self.timers.pop(name, None)) is not None:
            handle.cancel()

    def drain(self) -> bool:
        """Ask it to finish and leave. False: it holds no request, so it may be killed."""
        if self.state not in ("ready", "draining") or self.peer is None:
            return False
        self.state = "draining"
        return self.peer.send(Drain())

    def kill(self) -> None:
        """SIGKILL, if its process is known and lives."""
        if self.pidfd >= 0:
            procs.kill(self.pidfd)

    def release(self) -> None:
        """The process is gone: let go of everything."""
        for name in list(self.timers):
            self.clear_timer(name)
        for peer in (self.peer, self.early_peer):
            if peer is not None:
                peer.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        for asked in self._asking.values():
            asked.cancel()
        for samples in self._samples.values():
            samples.cancel()

    # --- statistics -------------------------------------------------------------------

    async def ask_stats(self, within: float) -> WorkerStats:
        """Its counters; the last known ones if it does not answer `within` seconds."""
        if self.peer is None or self.state in ("forking", "failed"):
            return self.stats
        id = next(_ids)
        future: asyncio.Future[WorkerStats] = asyncio.get_running_loop().create_future()
        self._asking[id] = future
        self.peer.send(AskStats(id))
        try:
            await asyncio.wait((future,), timeout=within)
        finally:
            del self._asking[id]
        return self.stats

    async def ask_samples(self, within: float) -> int:
        """A memory file of requests it answered, which is the caller's; -1 if it has none."""
        if self.peer is None or self.state != "ready":
            return -1
        id = next(_ids)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._samples[id] = future
        self.peer.send(AskSamples(id))
        try:
            await asyncio.wait((future,), timeout=within)
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                os.close(future.result())
            raise
        finally:
            del self._samples[id]  # what comes later is closed
        return future.result() if future.done() and not future.cancelled() else -1

    def told_samples(self, message: SamplesTaken, fds: list[int]) -> None:
        """The answer to `ask_samples`."""
        future = self._samples.get(message.id)
        if future is None or future.done() or len(fds) != 1:
            framing.close_all(fds)
        else:
            future.set_result(fds[0])

    def told_stats(self, message: Stats) -> None:
        """The answer to `ask_stats`."""
        self.stats = message.stats
        future = self._asking.get(message.id)
        if future is not None and not future.done():
            future.set_result(message.stats)
