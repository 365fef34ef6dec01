# SPDX-License-Identifier: BUSL-1.1
"""Asking another process to fork: which births are awaited, and which nobody wants any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Final

import msgspec

from mlos_core.daemon.peer import Peer
from mlos_core.errors import DeadlineExceeded, ProtocolError, Unavailable
from mlos_core.ipc import framing
from mlos_core.ipc.messages import Forked

_GRACE: Final = 5.0

Born = tuple[int, int]
"""A pid, and a pidfd that its owner closes."""


class Births:
    """What one forking process was asked for.

    Args:
        title: the process, for messages.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._awaited: dict[int, asyncio.Future[Born]] = {}
        self._unanswered: set[int] = set()
        self._answered = asyncio.Event()

    async def ask(
        self, peer: Peer | None, message: msgspec.Struct, owner: int, within: float, fd: int = -1
    ) -> Born:
        """Send `message` and wait for the process that comes of it.

        Raises:
            Unavailable: who should fork is gone.
            DeadlineExceeded: it did not answer in time.
        """
        if peer is None or peer.closed:
            raise Unavailable(f"{self._title} is gone")
        future: asyncio.Future[Born] = asyncio.get_running_loop().create_future()
        self._awaited[owner] = future
        self._unanswered.add(owner)
        peer.send(message, () if fd < 0 else (fd,))
        try:
            async with asyncio.timeout(within):
                return await future
        except TimeoutError:
            raise DeadlineExceeded(f"{self._title} did not fork within {within:g} s") from None
        except asyncio.CancelledError:
            # The birth may have been told in the moment in which nobody wanted it any more.
            if future.done() and not future.cancelled() and future.exception() is None:
                unwanted(future.result()[1])
            raise
        finally:
            self._awaited.pop(owner, None)

    def born(self, message: Forked, fds: list[int]) -> None:
        """The answer. A child that nobody waits for is ended: nobody would ever watch it."""
        self.told(message.owner)
        future = self._awaited.get(message.owner)
        if len(fds) != 1:
            framing.close_all(fds)
            raise ProtocolError(f"{self._title} forked without giving a pidfd")
        if future is None or future.done():
            unwanted(fds[0])
        else:
            future.set_result((message.pid, fds[0]))

    @property
    def idle(self) -> bool:
        """Whether nobody waits for any."""
        return not self._awaited

    def awaits(self, owner: int) -> bool:
        """Whether somebody waits for that birth, or is about to hear of it."""
        return owner in self._awaited

    def refused(self, owner: int, error: Exception) -> None:
        """Nothing will be born of that request."""
        self.told(owner)
        future = self._awaited.get(owner)
        if future is not None and not future.done():
            future.set_exception(error)

    def told(self, owner: int) -> None:
        """Whatever came of that request is known."""
        self._unanswered.discard(owner)
        self._answered.set()

    def end(self) -> None:
        """Who should fork is gone."""
        self._answered.set()
        for owner in list(self._awaited):
            self.refused(owner, Unavailable(f"{self._title} is gone"))

    async def settle(self, peer: Peer | None) -> None:
        """Wait for the answers to all requests: a child we never hear of could not be ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                while self._unanswered and peer is not None and not peer.closed:
                    self._answered.clear()
                    await self._answered.wait()


def unwanted(pidfd: int) -> None:
    """End a process that nobody waits for any more."""
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
