# SPDX-License-Identifier: BUSL-1.1
"""The channels a worker serves: their names, their clients, their place in the port."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator

import msgspec

from mlos_core.errors import NotFound, ProtocolError
from mlos_core.ipc.framing import close_all
from mlos_core.ipc.messages import Serve
from mlos_core.worker.port import Port


class Channel(msgspec.Struct, frozen=True):
    """One channel; `pidfd` is the client's and belongs to the table."""

    name: str
    index: int
    pidfd: int
    client_pid: int
    client_uid: int


class Channels:
    """The table, by name. Used by the control thread alone."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._by_name: dict[str, Channel] = {}
        # One that was given back may be let go again while the first time is not over.
        self._releasing: set[Channel] = set()

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._by_name.values()))

    def attach(self, serve: Serve, fds: list[int]) -> None:
        """Serve a channel; owns `fds` from here on. One served already stays as it is.

        Raises:
            ChannelBroken: the segment is no channel.
            ProtocolError: descriptors are missing.
        """
        if len(fds) != 3 or serve.channel in self._by_name:
            close_all(fds)
            if len(fds) != 3:
                raise ProtocolError("a channel comes with three descriptors")
            return
        segment, eventfd, pidfd = fds
        try:
            index = self._port.attach(segment, eventfd, f"uid:{serve.client_uid}")
        except BaseException:
            os.close(pidfd)
            raise
        self._by_name[serve.channel] = Channel(
            serve.channel, index, pidfd, serve.client_pid, serve.client_uid
        )

    def detach(self, name: str) -> None:
        """Let a channel go. An unknown name is fine: both ends may do it at once."""
        ending = self._released_of(name)
        self._releasing.difference_update(ending)
        if (channel := self._by_name.pop(name, None)) is not None:
            ending.append(channel)
        for channel in ending:
            self._port.detach(channel.index)
            os.close(channel.pidfd)

    def release(self, name: str, gone: Callable[[Channel], None]) -> bool:
        """Others serve this channel: finish what is held of it, then let it go.

        `gone` is called by another thread with what to hand to `released`. False: it is
        not served.
        """
        channel = self._by_name.pop(name, None)
        if channel is None:
            return False
        self._releasing.add(channel)
        self._port.detach(channel.index, finish=True, gone=lambda: gone(channel))
        return True

    def released(self, channel: Channel) -> bool:
        """A release is done. False if the channel is served again by now, or held still."""
        if channel in self._releasing:
            self._releasing.remove(channel)
            os.close(channel.pidfd)
        return channel.name not in self._by_name and not self._released_of(channel.name)

    def _released_of(self, name: str) -> list[Channel]:
        return [channel for channel in self._releasing if channel.name == name]

    def recover(self, name: str, limit: int, alive: tuple[int, ...]) -> None:
        """Take over what dead workers left in a channel.

        Raises:
            NotFound: this worker does not serve it.
        """
        channel = self._by_name.get(name)
        if channel is None:
            raise NotFound(f"the channel {name} is not served here")
        self._port.recover(channel.index, limit, alive)

    def fds(self, channel: Channel) -> tuple[int, int, int]:
        """What a new daemon needs: segment, eventfd, the client's pidfd."""
        segment, eventfd = self._port.fds(channel.index)
        return segment, eventfd, channel.pidfd

    def name_of(self, index: int) -> str | None:
        """The channel at a place of the port; None if it went meanwhile."""
        return next((channel.name for channel in self if channel.index == index), None)

    def of_dead_clients(self) -> list[str]:
        """Names of the channels whose client has ended."""
        poller = select.poll()
        for channel in self:
            poller.register(channel.pidfd, select.POLLIN)
        dead = {fd for fd, _ in poller.poll(0)}
        return [channel.name for channel in self if channel.pidfd in dead]

    def close(self) -> None:
        """Close the clients' pidfds; the channels themselves go with the port."""
        for channel in (*self, *self._releasing):
            os.close(channel.pidfd)
        self._by_name.clear()
        self._releasing.clear()
