# SPDX-License-Identifier: BUSL-1.1
"""One client's session on the control socket: its channels and its calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from mlos_core.daemon.channels import Channel
from mlos_core.daemon.deployment import Deployment
from mlos_core.daemon.logs import Log
from mlos_core.daemon.model import ManagedModel
from mlos_core.daemon.peer import Peer
from mlos_core.daemon.service import Service
from mlos_core.daemon.supervisor import Supervisor
from mlos_core.daemon.tasks import Tasks
from mlos_core.errors import DeadlineExceeded, MlosError, Overloaded, ProtocolError, Unavailable
from mlos_core.ipc import framing
from mlos_core.ipc.messages import (
    Answer,
    Attach,
    Attached,
    Call,
    ClientMessage,
    Detach,
    Hello,
    Problem,
    Resume,
)

MAX_PENDING: Final = 256
_LONGEST_WAIT: Final = 3600.0
_log = Log("session")


class ClientSession:
    """What one connected client has and waits for. Owns `pidfd`."""

    def __init__(
        self,
        peer: Peer,
        pidfd: int,
        supervisor: Supervisor,
        service: Service,
        on_end: Callable[[ClientSession], None],
    ) -> None:
        self._peer = peer
        self._pid, self._uid, _ = peer.connection.peer()
        self._pidfd = pidfd
        self._supervisor = supervisor
        self._book = supervisor.book
        self._service = service
        self._on_end = on_end
        self._channels: set[Channel] = set()
        self._tasks = Tasks()
        peer.name = f"client {self._pid}"
        peer.on_frame = self._frame
        peer.on_close = self._closed

    async def stop(self) -> None:
        """Hang up, and see the calls under way end."""
        self._peer.close()
        await self._tasks.stop()

    def _closed(self, _reason: str) -> None:
        # Whoever still holds the segment (the client may only have lost this connection)
        # must see an end instead of waiting for ever.
        gone = Unavailable("the client's connection to the daemon ended", hint="connect again")
        for channel in self._channels:
            self._book.drop(channel, gone)
        self._channels.clear()
        self._tasks.cancel()
        os.close(self._pidfd)
        self._on_end(self)

    # --- messages ---------------------------------------------------------------------

    def _frame(self, body: bytes, fds: list[int]) -> None:
        try:
            message = framing.decode(body, ClientMessage)
        except ProtocolError:
            framing.close_all(fds)
            raise
        if isinstance(message, Resume):
            self._answer(message.id, self._resume(message, fds), fds)
            return
        framing.close_all(fds)
        if isinstance(message, Attach):
            self._answer(message.id, self._attach(message))
        elif isinstance(message, Call):
            self._answer(message.id, self._call(message))
        elif isinstance(message, Detach):
            self._detach(message.channel)
        elif isinstance(message, Hello):
            raise ProtocolError("a client introduced itself twice")

    def _answer(
        self, id: int, work: Coroutine[Any, Any, None], fds: list[int] | None = None
    ) -> None:
        if len(self._tasks) >= MAX_PENDING:
            work.close()
            framing.close_all(fds or ())
            self._refuse(
                id, Overloaded(f"{MAX_PENDING} calls of this client are pending", hint="wait")
            )
            return
        self._tasks.spawn(self._guard(id, work), f"{self._peer.name} {id}")

    async def _guard(self, id: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except MlosError as err:
            self._refuse(id, err)
        except Exception as err:
            _log.error("call_failed", exc=err, client=self._pid)
            self._refuse(id, MlosError("the daemon failed", hint="see its log"))

    def _refuse(self, id: int, error: MlosError) -> None:
        self._peer.send(Answer(id, problem=Problem(error.code, error.message, error.hint)))

    async def _call(self, message: Call) -> None:
        result = await self._service.call(message.method, message.params, self._uid)
        self._peer.send(Answer(message.id, result=msgspec.to_builtins(result)))

    # --- channels ---------------------------------------------------------------------

    def _detach(self, id: str) -> None:
        for channel in list(self._channels):
            if channel.id == id:
                self._channels.discard(channel)
                self._book.drop(channel)

    async def _settled(self, within: float) -> None:
        """Until adoption is over nobody knows which doorbell a model has."""
        try:
            async with asyncio.timeout(within):
                await self._supervisor.settled.wait()
        except TimeoutError:
            raise DeadlineExceeded(
                "the daemon is still adopting workers", hint="try again in a moment"
            ) from None

    async def _attach(self, message: Attach) -> None:
        within = min(max(message.timeout, 0.0), _LONGEST_WAIT)
        await self._settled(within)
        model, wanted = self._supervisor.resolve(message.model, message.version)
        size = (message.slots, message.request_bytes, message.reply_bytes)
        self._book.check_limits(*size)
        if message.worker and self._pid == os.getpid():
            deployment = self._of_worker(model, message.worker)
        else:
            deployment = await self._awake(model, wanted, within)
        channel = await self._book.open(deployment, self._pid, self._uid, self._pidfd, size)
        channel.wanted = wanted
        channel.only = message.worker if self._pid == os.getpid() else 0
        self._keep(channel)
        if not (wanted or channel.only) and self._is_past(deployment):
            self._supervisor.traffic.rebalance(model)
        await self._hand_over(message.id, channel, within)

    def _is_past(self, deployment: Deployment) -> bool:
        """Whether the route turned away from it while its channel was made."""
        model, version = deployment.model, deployment.version
        return model.deployments.get(version) is not deployment or version not in model.shares

    def _of_worker(self, model: ManagedModel, owner: int) -> Deployment:
        worker = model.workers.get(owner)
        if worker is None or not worker.serves:
            raise Unavailable(f"worker {owner} of model {model.name!r} is gone")
        return worker.fleet.deployment

    async def _awake(self, model: ManagedModel, wanted: str, within: float) -> Deployment:
        """The version that a new channel belongs to, loaded."""
        end = asyncio.get_running_loop().time() + within
        while True:
            deployment = self._supervisor.traffic.version_for(model, wanted)
            if deployment.asleep or deployment.unloading:
                await self._supervisor.loader.begin(deployment)
            left = end - asyncio.get_running_loop().time()
            await model.wait_until(
                lambda d=deployment: d.state == "ready" or d.asleep,  # type: ignore[misc]
                left,
                deployment,
            )
            # It may have been unloaded meanwhile, or the route may have turned to another one.
            current = model.deployments.get(deployment.version) is deployment
            if deployment.state == "ready" and current:
                return deployment

    def _keep(self, channel: Channel) -> None:
        if self._peer.closed:
            self._book.drop(channel)
            raise Unavailable("the client is gone")
        channel.claimed = True
        self._channels.add(channel)
        self._book.spread(channel)

    async def _hand_over(self, id: int, channel: Channel, within: float) -> None:
        model = channel.model
        try:
            await self._book.wait_served(channel, within, self._supervisor.loader.wake)
            deployment = channel.deployment
            proving = model.workers.get(channel.only)
            signature = proving.signature if proving is not None else deployment.signature
            if signature is None:
                raise Unavailable(f"model {model.name!r} is not ready", hint="try again")
        except BaseException:
            self._channels.discard(channel)
            self._book.drop(channel)
            raise
        self._peer.send(
            Attached(id, channel.id, model.name, deployment.version, signature),
            (channel.segment, model.bell, channel.eventfd),
        )

    async def _resume(self, message: Resume, fds: list[int]) -> None:
        left = list(fds)
        try:
            await self._settled(_LONGEST_WAIT)
            model, wanted = self._supervisor.resolve(message.model, message.version)
            channel = self._book.take_back(message.channel, self._uid, model)
            if channel is None:
                deployment = self._supervisor.traffic.version_for(model, wanted)
                channel = self._adopt(message.channel, deployment, left)
            channel.wanted = wanted
            self._keep(channel)
        finally:
            framing.close_all(left)
        _log.info("channel_resumed", client=self._pid, channel=channel.id[:8])
        await self._hand_over(message.id, channel, _LONGEST_WAIT)

    def _adopt(self, id: str, deployment: Deployment, fds: list[int]) -> Channel:
        """Enter a channel that no worker held any more; takes the descriptors."""
        if len(fds) != 2:
            raise ProtocolError("a channel is resumed with two descriptors")
        self._book.check_foreign(fds[0])
        own = (fds[0], fds[1], os.dup(self._pidfd))
        fds.clear()
        channel = self._book.add(id, deployment, self._pid, self._uid, own)
        channel.orphaned = True
        return channel
