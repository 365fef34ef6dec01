# SPDX-License-Identifier: BUSL-1.1
"""Waiting for requests on behalf of workers that are not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from mlos_core.ipc.bell import map_bell
from mlos_core.ipc.channel import Mapping
from mlos_core.ipc.native import failure, ffi, lib, nanoseconds

_NOBODY: Final = 1
"""An owner's number is needed and never used: a sentry claims nothing."""
_SLICE_S: Final = 1.0
"""Longest sleep before it looks around: a client that scribbles on the doorbell, or on the
lanes of its own channel, must not keep others' requests from being seen."""


class Sentry:
    """Sleeps on a model's doorbell until one of some channels has a request; claims nothing.

    It stands when no worker is left. What the last ones claimed and did not answer waits for
    a successor just as what nobody claimed.

    Args:
        bell_fd: the doorbell; stays the caller's.
        lane: a bit in the doorbell that no living worker has.
        segments: the channels' segments; stay the caller's, and open while this lives.

    Raises:
        ChannelBroken: one of them is no channel.
    """

    def __init__(self, bell_fd: int, lane: int, segments: Sequence[int]) -> None:
        self._bell = map_bell(bell_fd)
        pointer = lib.mlos_port_new(self._bell, _NOBODY, lane, lib.MLOS_WAIT_BLOCK, 0, 1)
        if pointer == ffi.NULL:
            raise failure(lib.MLOS_E_ARGUMENT)
        self._port: Any = ffi.gc(pointer, lib.mlos_port_free)
        self._own: list[int] = []
        self._mappings: list[Mapping] = []
        for index, segment in enumerate(segments):
            # A descriptor of our own: the daemon may drop the channel while we look at it.
            fd = os.dup(segment)
            self._own.append(fd)
            mapping = Mapping(fd, guarded=True)
            self._mappings.append(mapping)
            lib.mlos_port_add(self._port, index, mapping.pointer)
        self._stopped = False

    def wait(self) -> bool:
        """Block until a channel has a request (true), or `stop` was called (false)."""
        if any(lib.mlos_channel_unanswered(mapping.pointer) for mapping in self._mappings):
            return True
        while not self._stopped:
            if lib.mlos_port_watch(self._port, nanoseconds(_SLICE_S)) == 0:
                return True
        return False

    def stop(self) -> None:
        """Let `wait` return, from any thread."""
        self._stopped = True
        lib.mlos_port_interrupt(self._port)

    def close(self) -> None:
        """Let the channels go; `wait` must have returned."""
        for index in range(len(self._mappings)):
            lib.mlos_port_remove(self._port, index, lib.MLOS_REMOVE_NOW)
        ffi.release(self._port)
        self._mappings.clear()
        for fd in self._own:
            os.close(fd)
