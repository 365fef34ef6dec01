# SPDX-License-Identifier: BUSL-1.1
"""One peer of the daemon on the event loop: frames in, frames out, nothing ever blocks.

asyncio's streams cannot pass file descriptors, so the loop only says when the socket is
ready. A peer that breaks the protocol, or does not read what it is sent, is dropped with a
log line; it can never take the daemon down.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from mlos_core.daemon.logs import Log
from mlos_core.errors import MlosError
from mlos_core.ipc.framing import Connection

_FRAMES_PER_TURN: Final = 64
_log = Log("peer")

OnFrame = Callable[[bytes, list[int]], None]
OnClose = Callable[[str], None]


class Peer:
    """A non-blocking `Connection` with callbacks.

    Args:
        on_frame: gets each frame; owns its descriptors, and may raise `MlosError` to have
            the peer dropped.
        on_close: called once, with the reason (empty: the other end closed).
    """

    def __init__(
        self, connection: Connection, name: str, on_frame: OnFrame, on_close: OnClose
    ) -> None:
        self.connection = connection
        self.name = name
        self.on_frame = on_frame
        self.on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._fd = connection.fileno()
        self._writing = False
        self.closed = False

    def start(self) -> None:
        """Begin to listen."""
        self._loop.add_reader(self._fd, self._readable)

    def send(self, message: msgspec.Struct, fds: Iterable[int] = ()) -> bool:
        """Send soon; the descriptors are duplicated at once. False: the peer is gone."""
        if self.closed:
            return False
        try:
            self.connection.queue(message, fds)
            self._flush()
        except (MlosError, OSError) as err:
            # Closing runs callbacks that may be in the middle of using this peer.
            self._loop.call_soon(self.close, str(err))
            return False
        return True

    def _flush(self) -> None:
        done = self.connection.flush()
        if done and self._writing:
            self._loop.remove_writer(self._fd)
        elif not done and not self._writing:
            self._loop.add_writer(self._fd, self._writable)
        self._writing = not done

    def _writable(self) -> None:
        try:
            self._flush()
        except (MlosError, OSError) as err:
            self.close(str(err))

    def _readable(self) -> None:
        try:
            alive = self._read()
        except BlockingIOError:
            return
        except (MlosError, OSError) as err:
            self.close(str(err))
        except Exception as err:
            _log.error("peer_failed", exc=err, peer=self.name)
            self.close("an internal error")
        else:
            if not alive:
                self.close("")

    def _read(self) -> bool:
        alive = self.connection.feed()
        self._deliver()
        return alive

    def _deliver(self) -> None:
        for _ in range(_FRAMES_PER_TURN):
            if self.closed or (frame := self.connection.pop()) is None:
                return
            self.on_frame(*frame)
        # Others get their turn before the rest of a long burst.
        self._loop.call_soon(self._readable_rest)

    def _readable_rest(self) -> None:
        if self.closed:
            return
        try:
            self._deliver()
        except MlosError as err:
            self.close(str(err))
        except Exception as err:
            _log.error("peer_failed", exc=err, peer=self.name)
            self.close("an internal error")

    def finish(self) -> None:
        """Take in what a dead peer said last; it may be closed afterwards."""
        with contextlib.suppress(BlockingIOError, MlosError, OSError):
            while not self.closed and self._read():
                pass

    def close(self, reason: str = "") -> None:
        """Hang up. May be called twice."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._fd)
        if self._writing:
            self._loop.remove_writer(self._fd)
        else:
            with contextlib.suppress(OSError, MlosError):
                self.connection.flush()
        self.connection.close()
        if reason:
            _log.warning("peer_dropped", peer=self.name, reason=reason)
        self.on_close(reason)
