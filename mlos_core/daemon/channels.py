# SPDX-License-Identifier: BUSL-1.1
"""The book of channels: which segment belongs to which client and model, and who serves it.

The daemon keeps every segment's descriptor, so that a worker that starts later can be given
the channel, and it knows of every dead worker whether somebody took over what it left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import stat
from collections.abc import Callable
from typing import Final

from mlos_core.config import Config
from mlos_core.daemon import procs
from mlos_core.daemon.allocate import Owners
from mlos_core.daemon.deployment import Deployment
from mlos_core.daemon.logs import Log
from mlos_core.daemon.model import ManagedModel
from mlos_core.daemon.worker import Worker
from mlos_core.errors import (
    InvalidInput,
    MlosError,
    Overloaded,
    PayloadTooLarge,
    ProtocolError,
    Unavailable,
    from_wire,
)
from mlos_core.ipc import channel as segments
from mlos_core.ipc.framing import close_all
from mlos_core.ipc.messages import Problem, Recover, Release, Serve, Serving, Unserve, Unserved

_ID: Final = re.compile(r"[0-9a-f]{32}")
_log = Log("channels")


class Channel:
    """One client's link to one model. Owns its three descriptors.

    `deployment` is the version that answers it, `wanted` the version its client asked for
    ("": it follows the route), `only` the one worker that may serve it (0: all of the version).
    """

    def __init__(
        self,
        id: str,
        deployment: Deployment,
        pid: int,
        uid: int,
        fds: tuple[int, int, int],
    ) -> None:
        self.id = id
        self.model = deployment.model
        self.deployment = deployment
        self.wanted = ""
        self.only = 0
        self.pid = pid
        self.uid = uid
        self.segment, self.eventfd, self.pidfd = fds
        self.nbytes = os.fstat(self.segment).st_size
        self.served: set[int] = set()
        self.orphaned = False
        self.claimed = False
        self.dropped = False
        self.problem: MlosError | None = None


class Book:
    """Every channel, by its id."""

    def __init__(self, config: Config, owners: Owners) -> None:
        self._config = config
        self._owners = owners
        self._loop = asyncio.get_running_loop()
        self._channels: dict[str, Channel] = {}
        self._opening = 0

    def __len__(self) -> int:
        return len(self._channels)

    def get(self, id: str) -> Channel | None:
        """The channel of that id."""
        return self._channels.get(id)

    @property
    def nbytes(self) -> int:
        """Shared memory of all channels."""
        return sum(channel.nbytes for channel in self._channels.values())

    # --- making -----------------------------------------------------------------------

    def check_limits(self, slots: int, request_bytes: int, reply_bytes: int) -> None:
        """Raise unless a channel of that size may be made now."""
        config = self._config
        if not 1 <= slots <= config.max_slots:
            raise InvalidInput(
                f"a channel of {slots} slots is not possible",
                hint=f"ask for 1 to {config.max_slots}",
            )
        if min(request_bytes, reply_bytes) < 1:
            raise InvalidInput("an arena of no bytes is not possible", hint="ask for at least 1")
        if max(request_bytes, reply_bytes) > config.max_arena_bytes:
            raise PayloadTooLarge(
                f"arenas of {request_bytes} and {reply_bytes} bytes are larger than allowed",
                hint=f"ask for at most {config.max_arena_bytes}, or raise max_arena_bytes",
            )
        if len(self._channels) + self._opening >= config.max_channels:
            raise Overloaded(
                f"{config.max_channels} channels are open", hint="close some, or raise max_channels"
            )

    async def open(
        self,
        deployment: Deployment,
        pid: int,
        uid: int,
        client_pidfd: int,
        size: tuple[int, int, int],
    ) -> Channel:
        """Make a channel of `size` (slots, request bytes, reply bytes).

        Args:
            client_pidfd: stays the caller's.

        Raises:
            MlosError: a limit is exceeded or shared memory is full.
        """
        self.check_limits(*size)
        self._opening += 1
        # Reserving memory touches every page: not on the event loop.
        making = asyncio.ensure_future(asyncio.to_thread(segments.create, *size))
        try:
            segment = await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_unwanted)
            raise
        finally:
            self._opening -= 1
        eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        fds = (segment, eventfd, os.dup(client_pidfd))
        return self.add(secrets.token_hex(16), deployment, pid, uid, fds)

    def add(
        self, id: str, deployment: Deployment, pid: int, uid: int, fds: tuple[int, int, int]
    ) -> Channel:
        """Enter a channel; from here on its descriptors are the book's."""
        channel = Channel(id, deployment, pid, uid, fds)
        self._channels[id] = channel
        channel.model.channels[id] = channel
        self._loop.add_reader(channel.pidfd, self._client_died, channel)
        _log.debug("channel_opened", channel=id[:8], model=channel.model.name, client=pid)
        return channel

    def take_back(self, id: str, uid: int, model: ManagedModel) -> Channel | None:
        """The adopted channel that a client of the last daemon asks for, if we have it.

        Raises:
            ProtocolError: the channel is another user's, in use, or of another model.
        """
        if not _ID.fullmatch(id):
            raise ProtocolError("that is no channel id")
        channel = self._channels.get(id)
        if channel is not None and (
            channel.uid != uid or channel.claimed or channel.model is not model
        ):
            raise ProtocolError("that channel is not yours to resume")
        return channel

    def check_foreign(self, segment: int) -> None:
        """Raise unless the descriptor a client gave can be a channel's segment."""
        info = os.fstat(segment)
        limit = 4 * self._config.max_arena_bytes
        if not stat.S_ISREG(info.st_mode) or not 0 < info.st_size <= limit:
            raise ProtocolError("the descriptor is no channel")
        if len(self._channels) >= self._config.max_channels:
            raise Overloaded(f"{self._config.max_channels} channels are open")

    # --- serving ----------------------------------------------------------------------

    def serve(self, worker: Worker, channel: Channel) -> None:
        """Give a channel to a worker."""
        if worker.peer is None or channel.id in worker.serving | worker.asked:
            return
        message = Serve(channel.id, channel.pid, channel.uid)
        if worker.peer.send(message, (channel.segment, channel.eventfd, channel.pidfd)):
            worker.asked.add(channel.id)

    def serve_all(self, worker: Worker) -> None:
        """Give every channel of its version to a worker."""
        for channel in worker.fleet.deployment.channels:
            if not channel.only:
                self.serve(worker, channel)

    def spread(self, channel: Channel) -> None:
        """Give a channel to every worker that may serve it."""
        for worker in channel.deployment.workers:
            wanted = worker.owner == channel.only if channel.only else worker.admitted
            if worker.serves and wanted:
                self.serve(worker, channel)

    def move(self, channel: Channel, deployment: Deployment) -> None:
        """Another version answers the channel from now on.

        Workers of the old one go on until one of the new one serves it; then they finish what
        they hold. No moment passes in which nobody looks at its ring.
        """
        channel.deployment = deployment
        self.spread(channel)
        self._release_strangers(channel)

    def _release_strangers(self, channel: Channel) -> None:
        workers = [w for w in channel.model.workers.values() if channel.id in w.serving]
        own = [w for w in workers if w.fleet.deployment is channel.deployment and w.serves]
        for worker in workers if own else ():
            if worker.fleet.deployment is not channel.deployment and worker.peer is not None:
                worker.serving.discard(channel.id)
                worker.peer.send(Release(channel.id))

    def serving(self, worker: Worker, message: Serving) -> None:
        """A worker answered `Serve`."""
        worker.asked.discard(message.channel)
        channel = self._channels.get(message.channel)
        if channel is None:
            return
        if message.problem is None:
            worker.serving.add(channel.id)
            channel.served.add(worker.owner)
            if channel.orphaned:
                self._recover(worker, channel)
            self._release_strangers(channel)
        else:
            channel.problem = _error(message.problem)
            _log.warning("channel_refused", channel=channel.id[:8], reason=message.problem.message)
            self._drop_if_useless(channel)
        channel.model.changed()

    def held(self, worker: Worker, channel: Channel) -> None:
        """A worker of the last daemon already serves this channel."""
        worker.serving.add(channel.id)
        channel.served.add(worker.owner)

    def unserved(self, worker: Worker, message: Unserved) -> None:
        """A worker let a channel go; unasked, because the segment is broken."""
        worker.serving.discard(message.channel)
        worker.asked.discard(message.channel)
        channel = self._channels.get(message.channel)
        if channel is None:
            return
        channel.served.discard(worker.owner)
        if message.problem is not None:
            _log.warning("channel_broken", channel=channel.id[:8], client=channel.pid)
            self.drop(channel, _error(message.problem))
        elif not channel.dropped:
            # It was to finish what it held. What it had adopted and not begun is for others.
            self.recover(channel)
            channel.model.changed()

    def _drop_if_useless(self, channel: Channel) -> None:
        asked = any(channel.id in worker.asked for worker in channel.model.workers.values())
        if not channel.served and not asked:
            self.drop(channel, channel.problem)

    # --- recovery ---------------------------------------------------------------------

    def worker_gone(self, worker: Worker) -> None:
        """Have somebody take over what a dead worker left, now or as soon as there is one."""
        for channel in list(worker.fleet.model.channels.values()):
            if channel.only == worker.owner:
                # Nobody else may answer: the proof has failed.
                self.drop(channel, Unavailable("the worker ended while it was being tried"))
                continue
            served = worker.owner in channel.served or channel.id in worker.asked
            channel.served.discard(worker.owner)
            if worker.pid and channel.segment >= 0:
                # Its lane may be another's soon, who serves other channels.
                segments.clear_lane(channel.segment, worker.spec.lane)
            if served or channel.deployment is worker.fleet.deployment:
                self.recover(channel)

    def recover(self, channel: Channel) -> None:
        """Let one living worker look for orphaned slots."""
        workers = channel.model.workers
        living = (workers[owner] for owner in sorted(channel.served) if owner in workers)
        serving = (w for w in living if w.serves and channel.id in w.serving)
        successor = next(serving, None)
        if successor is None:
            channel.orphaned = True
        else:
            self._recover(successor, channel)

    def _recover(self, worker: Worker, channel: Channel) -> None:
        channel.orphaned = True
        if worker.peer is not None:
            # Whoever starts after this moment has a number of at least `limit`.
            message = Recover(channel.id, self._owners.next, channel.model.alive())
            channel.orphaned = not worker.peer.send(message)

    # --- ending -----------------------------------------------------------------------

    def _client_died(self, channel: Channel) -> None:
        _log.info("client_died", pid=channel.pid, channel=channel.id[:8])
        self.drop(channel)

    def drop(self, channel: Channel, error: MlosError | None = None) -> None:
        """Take a channel away from everybody. May be called twice.

        Args:
            error: what its client is told through the segment; none if it is gone.
        """
        if channel.dropped:
            return
        channel.dropped = True
        channel.problem = channel.problem or error
        del self._channels[channel.id]
        channel.model.channels.pop(channel.id, None)
        self._loop.remove_reader(channel.pidfd)
        if error is not None:
            _mark_closed(channel, error)
        for worker in channel.model.workers.values():
            if worker.peer is not None and channel.id in worker.serving | worker.asked:
                worker.peer.send(Unserve(channel.id))
            worker.serving.discard(channel.id)
            worker.asked.discard(channel.id)
        close_all((channel.segment, channel.eventfd, channel.pidfd))
        _log.debug("channel_closed", channel=channel.id[:8], model=channel.model.name)
        channel.model.changed()

    def drop_model(self, model: ManagedModel, error: MlosError) -> None:
        """End all channels of a model; their clients are told why."""
        for channel in list(model.channels.values()):
            self.drop(channel, error)

    def drop_version(self, deployment: Deployment, error: MlosError) -> None:
        """End all channels of a version; their clients are told why."""
        for channel in deployment.channels:
            self.drop(channel, error)

    def let_go(self) -> None:
        """Close our descriptors and leave the channels as they are, for the next daemon."""
        for channel in list(self._channels.values()):
            channel.dropped = True
            self._loop.remove_reader(channel.pidfd)
            close_all((channel.segment, channel.eventfd, channel.pidfd))
        self._channels.clear()

    async def wait_served(
        self, channel: Channel, within: float, wake: Callable[[Deployment], None]
    ) -> None:
        """Wait until a worker serves the channel.

        `wake` is called with its version should that be unloaded meanwhile: no request can
        come that would load it, for the client does not have the channel yet.

        Raises:
            MlosError: nobody does, and why.
        """

        def served() -> bool:
            if channel.dropped:
                raise channel.problem or Unavailable("the channel was closed meanwhile")
            if channel.only and channel.only not in channel.model.workers:
                raise Unavailable(f"worker {channel.only} of {channel.model.name!r} is gone")
            if channel.deployment.asleep and not channel.only:
                wake(channel.deployment)
            return bool(channel.served)

        await channel.model.wait_until(served, within, channel.deployment)


def _unwanted(making: asyncio.Future[int]) -> None:
    """Its client left while the segment was made."""
    if not making.cancelled() and making.exception() is None:
        os.close(making.result())


def _mark_closed(channel: Channel, error: MlosError) -> None:
    problem = Problem(error.code, error.message, error.hint)
    with contextlib.suppress(MlosError, OSError):  # a damaged segment has nobody to tell
        segments.close(channel.segment, problem, channel.eventfd)


def _error(problem: Problem) -> MlosError:
    return from_wire(problem.code, problem.message, problem.hint)


def client_pidfd_or_raise(pidfd: int) -> int:
    """The pidfd of a client, which must still be alive.

    Raises:
        ProtocolError: it is gone.
    """
    if pidfd < 0 or procs.ended(pidfd):
        raise ProtocolError("the client is gone")
    return pidfd
