# SPDX-License-Identifier: BUSL-1.1
"""What a contestant implements.

The work is the same for all: the client has a NumPy array of bytes, the server gets them,
reads the first eight as a float64 and sends that number back. The number changes with
every call and is checked, so nobody can answer early, late or from a cache.

The server process calls `serve`, the client process `connect`, `payload` and `caller`.
Both end with `close`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
CONNECT_S = 20.0
"""How long a client may try to reach its server, in seconds."""


@dataclass(frozen=True)
class Setting:
    """The case: payload size in bytes, whether it already lies in shared memory, and a
    folder of this pair alone for sockets and files."""

    nbytes: int
    in_place: bool
    folder: Path


class Stop(BaseException):
    """Raised in the server's main thread when the run is over (by SIGTERM).

    An exception costs a polling server nothing, unlike a flag it would have to look at.
    """


class Peer:
    """One contestant, seen from both of its processes."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def serve(self, ready: Callable[[], None]) -> None:
        """Server: call `ready` once reachable, then answer until `Stop` is raised."""
        raise NotImplementedError

    def connect(self) -> None:
        """Client: reach the server, which is ready."""
        raise NotImplementedError

    def payload(self) -> Bytes:
        """Client: the array that is sent, of `setting.nbytes` bytes."""
        return np.zeros(self.setting.nbytes, np.uint8)

    def caller(self, payload: Bytes) -> Callable[[], Any]:
        """Client: a function that sends `payload` as it is by then and returns the number."""
        raise NotImplementedError

    def close(self) -> None:
        """Either process: let go of everything."""


class AsyncPeer(Peer):
    """A contestant whose client lives in an event loop."""

    async def connect_async(self) -> None:
        """Client: reach the server, which is ready."""
        raise NotImplementedError

    def caller(self, payload: Bytes) -> Callable[[], Awaitable[float]]:
        """Client: a coroutine function that does what `Peer.caller` says."""
        raise NotImplementedError

    async def close_async(self) -> None:
        """Client: let go of what belongs to the loop."""
