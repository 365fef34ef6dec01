# SPDX-License-Identifier: BUSL-1.1
"""The I/O of worker processes: starting, recognising, hearing and burying them.

What follows from an event is decided in `supervisor`; this file only makes sure that every
worker is known by number and pid, that its frames reach the right place, and that its death
is noticed exactly once.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Final, Protocol

from mlos_core.config import Config
from mlos_core.daemon import procs
from mlos_core.daemon.adoption import Record, Survivor, WorkersFile
from mlos_core.daemon.allocate import Owners
from mlos_core.daemon.channels import Book
from mlos_core.daemon.compat import check_successor
from mlos_core.daemon.deployment import Fleet, Instance
from mlos_core.daemon.hosts import Hosts
from mlos_core.daemon.logs import Log
from mlos_core.daemon.model import ManagedModel
from mlos_core.daemon.peer import Peer
from mlos_core.daemon.tasks import Tasks
from mlos_core.daemon.worker import Worker
from mlos_core.errors import DeadlineExceeded, MlosError, OutOfMemory, ProtocolError, from_wire
from mlos_core.ipc import bell, framing
from mlos_core.ipc.messages import (
    Adopted,
    Exited,
    FromWorker,
    Held,
    HeldAll,
    SamplesTaken,
    Serving,
    Start,
    Stats,
    Unserved,
    WorkerHello,
    WorkerReport,
    WorkerSpec,
)
from mlos_core.resources.cpus import parse_cpus

# The host reaps a worker at the moment its pidfd fires; its word on how is worth this wait.
_STATUS_GRACE: Final = 0.05
_log = Log("crew")


class Events(Protocol):
    """What the supervisor wants to know."""

    def worker_ready(self, worker: Worker) -> None:
        """It reported that it is ready, or was found ready."""

    def worker_served(self, worker: Worker) -> None:
        """It answered a `Serve`."""

    def worker_gone(self, worker: Worker) -> None:
        """Its process is gone; its channels were handed on already."""


class Crew:
    """All worker processes of the daemon."""

    def __init__(
        self, config: Config, owners: Owners, hosts: Hosts, book: Book, events: Events
    ) -> None:
        self._config = config
        self._owners = owners
        self._hosts = hosts
        self._book = book
        self._events = events
        self._file = WorkersFile(config.workers_file)
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._by_owner: dict[int, Worker] = {}
        self.stopping = False
        self.settled = False

    def __len__(self) -> int:
        return len(self._by_owner)

    def all(self) -> list[Worker]:
        """Every worker that is not known dead."""
        return list(self._by_owner.values())

    # --- starting ---------------------------------------------------------------------

    def start(self, fleet: Fleet, instance: Instance) -> Worker:
        """Begin to start a worker; how it went arrives as an event.

        Raises:
            MlosError: no owner number or lane is left.
        """
        model = fleet.model
        if model.bell < 0:
            model.bell = bell.create()
        owner = self._owners.take()
        spec = self._spec(fleet, owner, model.lanes.take())
        worker = Worker(spec, fleet, instance)
        self._enter(worker, model)
        worker.launch = self._tasks.spawn(self._launch(worker), f"launch {model.name} {owner}")
        return worker

    def _enter(self, worker: Worker, model: ManagedModel) -> None:
        self._by_owner[worker.owner] = worker
        model.workers[worker.owner] = worker
        if worker.instance is not None:
            worker.instance.worker = worker

    def _spec(self, fleet: Fleet, owner: int, lane: int) -> WorkerSpec:
        entry, config = fleet.entry, self._config
        return WorkerSpec(
            model=entry.name,
            version=entry.version,
            path=entry.path,
            plugin=entry.plugin,
            owner=owner,
            lane=lane,
            socket=str(config.socket),
            device=fleet.device,
            options=entry.options,
            manifest=entry.manifest,
            batch=entry.batch,
            threads=entry.threads,
            cpus=parse_cpus(entry.cpus),
            numa_node=entry.numa_node,
            python=entry.python,
            warmup_inputs=entry.warmup_inputs,
            wait_mode=config.wait_mode,
            poll_max_us=config.poll_max_us,
            max_attempts=config.max_attempts,
            warmup=entry.warmup,
            orphan_grace=config.orphan_grace,
            log_format=config.log_format,
            log_level=config.log_level,
        )

    async def _launch(self, worker: Worker) -> None:
        try:
            worker.pid, worker.pidfd = await self._hosts.fork(worker.spec, worker.fleet.host)
        except (MlosError, OSError) as err:
            told = err if isinstance(err, MlosError) else OutOfMemory(f"no worker starts: {err}")
            worker.problem = told
            self._bury(worker)
            return
        self._watch(worker)
        self._save()
        if self.stopping or worker.fleet.retired:
            worker.kill()
            return
        deadline = self._loop.call_later(self._config.load_timeout, self._load_timed_out, worker)
        worker.set_timer("load", deadline)
        early, worker.early_peer = worker.early_peer, None
        if early is not None and not early.closed:
            self._greet(worker, early)

    def end(self, worker: Worker) -> None:
        """End a worker at once, even one that has no process yet."""
        if worker.pid:
            worker.kill()
        elif worker.launch is not None:
            # Should its host still fork it, it finds nobody waiting and kills it.
            worker.launch.cancel()
            self._bury(worker)

    def _load_timed_out(self, worker: Worker) -> None:
        seconds = self._config.load_timeout
        worker.problem = DeadlineExceeded(
            f"model {worker.spec.model!r} was not loaded within {seconds:g} s",
            hint="raise load_timeout, or see what its loading waits for",
        )
        _log.warning("load_timed_out", model=worker.spec.model, pid=worker.pid)
        worker.kill()

    def _save(self) -> None:
        self._file.save(
            Record(
                w.owner,
                w.spec.lane,
                w.pid,
                procs.start_time(w.pid),
                w.spec.model,
                w.spec.version,
                w.fleet.entry.registered_at,
            )
            for w in self._by_owner.values()
            if w.pid
        )

    # --- recognising ------------------------------------------------------------------

    def hello(self, peer: Peer, message: WorkerHello, fds: list[int]) -> None:
        """A connection says that it is a worker we know.

        Raises:
            ProtocolError: it is not.
        """
        worker = self._by_owner.get(message.spec.owner)
        pid = peer.connection.peer()[0]
        if worker is None or (worker.pid and worker.pid != pid) or worker.peer is not None:
            framing.close_all(fds)
            if worker is None and self.settled:
                _end_stranger(peer)
            raise ProtocolError(f"process {pid} is no worker of this daemon")
        if not worker.pid:
            # It was faster than its host's answer; the pid is checked when that comes.
            framing.close_all(fds)
            if worker.early_peer is not None:
                worker.early_peer.close("another worker came with the same number")
            worker.early_peer = peer
            peer.on_close = lambda _: None
        elif message.adopted:
            self._reunite(worker, peer, message, fds)
        else:
            framing.close_all(fds)
            self._greet(worker, peer)

    def _greet(self, worker: Worker, peer: Peer) -> None:
        if peer.connection.peer()[0] != worker.pid:
            peer.close("another process used a worker's number")
            return
        self._connect(worker, peer)
        worker.state = "loading"
        samples = (worker.fleet.samples,) if worker.fleet.samples >= 0 else ()
        peer.send(Start(), (worker.fleet.model.bell, *samples))
        worker.fleet.model.changed()

    def _reunite(self, worker: Worker, peer: Peer, message: WorkerHello, fds: list[int]) -> None:
        model = worker.fleet.model
        if model.bell < 0 and len(fds) == 1:
            model.bell = fds[0]
        else:
            framing.close_all(fds)
        self._connect(worker, peer)
        worker.state, worker.signature = message.state, message.signature
        worker.clear_timer("reconnect")

    def _connect(self, worker: Worker, peer: Peer) -> None:
        worker.peer = peer
        peer.name = f"worker {worker.spec.model} {worker.owner}"
        peer.on_frame = partial(self._frame, worker)
        peer.on_close = partial(self._hung_up, worker)

    def _hung_up(self, worker: Worker, reason: str) -> None:
        worker.peer = None
        if worker.owner not in self._by_owner or worker.pidfd < 0:
            return
        if reason:
            worker.kill()
        else:
            # It is dying, or it lost its connection: then it comes back soon.
            timer = self._loop.call_later(self._config.adopt_grace, worker.kill)
            worker.set_timer("reconnect", timer)

    # --- hearing ----------------------------------------------------------------------

    def _frame(self, worker: Worker, body: bytes, fds: list[int]) -> None:
        try:
            message = framing.decode(body, FromWorker)
        except ProtocolError:
            framing.close_all(fds)
            raise
        if isinstance(message, Held):
            self._held(worker, message, fds)
            return
        if isinstance(message, SamplesTaken):
            worker.told_samples(message, fds)
            return
        framing.close_all(fds)
        if isinstance(message, WorkerReport):
            self._report(worker, message)
        elif isinstance(message, Serving):
            self._book.serving(worker, message)
            self._events.worker_served(worker)
        elif isinstance(message, Unserved):
            self._book.unserved(worker, message)
        elif isinstance(message, Stats):
            worker.told_stats(message)
        elif isinstance(message, HeldAll):
            self._held_all(worker)
        else:
            raise ProtocolError("a worker introduced itself twice")

    def _report(self, worker: Worker, message: WorkerReport) -> None:
        worker.left = worker.left or message.state == "draining"
        if worker.state == "draining" and message.state != "failed":
            worker.fleet.model.changed()
            return
        worker.state = message.state
        worker.signature = message.signature or worker.signature
        _log.debug("worker_state", model=worker.spec.model, owner=worker.owner, to=message.state)
        if message.problem is not None:
            problem = message.problem
            worker.problem = from_wire(problem.code, problem.message, problem.hint)
        if message.state == "warming":
            self._check_signature(worker)
        elif message.state == "ready":
            worker.clear_timer("load")
            if worker.problem is None:  # else it was killed, and had said this before
                self._events.worker_ready(worker)
        elif message.state == "draining":
            # Somebody sent it SIGTERM.
            timeout = self._config.drain_timeout
            worker.set_timer("drain", self._loop.call_later(timeout, worker.kill))
        worker.fleet.model.changed()

    def _check_signature(self, worker: Worker) -> None:
        expected = worker.fleet.expects
        if expected is None or worker.signature is None:
            return
        try:
            check_successor(expected, worker.signature, worker.fleet.entry.title)
        except MlosError as err:
            worker.problem = err
            worker.kill()

    def _held(self, worker: Worker, message: Held, fds: list[int]) -> None:
        if len(fds) != 3:
            framing.close_all(fds)
            raise ProtocolError("a held channel comes with three descriptors")
        channel = self._book.get(message.channel)
        if channel is None:
            segment, event, pidfd = fds
            channel = self._book.add(
                message.channel,
                worker.fleet.deployment,
                message.client_pid,
                message.client_uid,
                (segment, event, pidfd),
            )
        else:
            framing.close_all(fds)
        self._book.held(worker, channel)

    def _held_all(self, worker: Worker) -> None:
        if worker.peer is not None:
            worker.peer.send(Adopted())
        worker.clear_timer("adopt")
        _log.info("worker_adopted", model=worker.spec.model, owner=worker.owner, pid=worker.pid)
        if worker.state == "ready":
            self._events.worker_ready(worker)
        elif worker.state in ("loading", "warming"):
            timeout = self._config.load_timeout
            worker.set_timer("load", self._loop.call_later(timeout, self._load_timed_out, worker))
        elif worker.state == "draining":
            timeout = self._config.drain_timeout
            worker.set_timer("drain", self._loop.call_later(timeout, worker.kill))
        worker.fleet.model.changed()

    # --- burying ----------------------------------------------------------------------

    def _watch(self, worker: Worker) -> None:
        self._loop.add_reader(worker.pidfd, self._ended, worker)

    def _ended(self, worker: Worker) -> None:
        self._loop.remove_reader(worker.pidfd)
        if worker.exit_status is None and self._hosts.alive(worker.spec, worker.fleet.host):
            worker.set_timer("status", self._loop.call_later(_STATUS_GRACE, self._bury, worker))
        else:
            self._bury(worker)

    def exited(self, message: Exited) -> None:
        """A host reaped a worker."""
        worker = self._by_owner.get(message.owner)
        if worker is None:
            return
        worker.exit_status = message.status
        if not message.pid:
            worker.problem = OutOfMemory("the machine gives no further process")
            self.end(worker)
        elif worker.pidfd >= 0 and worker.pid == message.pid:
            self._loop.remove_reader(worker.pidfd)
            self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        if worker.owner not in self._by_owner:
            return
        if worker.peer is not None:
            worker.peer.finish()
        del self._by_owner[worker.owner]
        model = worker.fleet.model
        del model.workers[worker.owner]
        if worker.instance is not None and worker.instance.worker is worker:
            worker.instance.worker = None
        worker.release()
        if model.bell >= 0:
            # Its bit would make clients ring for a sleeper that is none.
            bell.clear_lane(model.bell, worker.spec.lane)
        model.lanes.give_back(worker.spec.lane)
        worker.fleet.deployment.fold(worker)
        if worker.pid:
            self._save()
        self._book.worker_gone(worker)
        self._events.worker_gone(worker)
        model.changed()

    # --- adopting ---------------------------------------------------------------------

    def expect(self, survivor: Survivor, fleet: Fleet, instance: Instance | None) -> bool:
        """Take over a worker of the last daemon; it is to connect by itself.

        False: that is impossible. Else the survivor's pidfd is the crew's.
        """
        record = survivor.record
        self._owners.seen(record.owner)
        if record.owner in self._by_owner or not fleet.model.lanes.claim(record.lane):
            return False
        worker = Worker(self._spec(fleet, record.owner, record.lane), fleet, instance)
        worker.pid, worker.pidfd, worker.state = record.pid, survivor.pidfd, "loading"
        self._enter(worker, fleet.model)
        self._watch(worker)
        grace = self._loop.call_later(self._config.adopt_grace, self._did_not_return, worker)
        worker.set_timer("adopt", grace)
        return True

    def _did_not_return(self, worker: Worker) -> None:
        _log.warning("survivor_killed", model=worker.spec.model, pid=worker.pid)
        worker.kill()

    @property
    def adopting(self) -> list[Worker]:
        """Workers of the last daemon that have not said all yet."""
        return [w for w in self._by_owner.values() if "adopt" in w.timers]

    # --- ending -----------------------------------------------------------------------

    def let_go(self) -> None:
        """Forget all workers without ending them: the next daemon adopts them."""
        for worker in self._by_owner.values():
            if worker.pidfd >= 0:
                self._loop.remove_reader(worker.pidfd)
            if worker.peer is not None:
                worker.peer.on_close = lambda _: None
            worker.release()
        self._by_owner.clear()

    async def stop(self) -> None:
        """End the launches under way."""
        await self._tasks.stop()


def _end_stranger(peer: Peer) -> None:
    """A worker that the last daemon forked in the moment it died, and could not write down, or
    one that was given up before its birth was told.

    Nobody will ever give it work, and it would knock until its orphan grace is over.
    """
    pidfd = procs.peer_pidfd(peer.connection)
    if pidfd >= 0:
        procs.kill(pidfd)
        os.close(pidfd)


def close_bell(model: ManagedModel) -> None:
    """The model is over."""
    if model.bell >= 0:
        os.close(model.bell)
        model.bell = -1
