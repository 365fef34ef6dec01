# SPDX-License-Identifier: BUSL-1.1
"""A worker's connection to the daemon, made anew whenever a new daemon is there."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time

import msgspec

from mlos_core.errors import MlosError, ProtocolError, Unavailable
from mlos_core.ipc.framing import Connection, Frame, close_all, decode
from mlos_core.ipc.messages import Start, WorkerHello, WorkerSpec
from mlos_core.worker.orphan import Backoff
from mlos_core.worker.samples import Inputs, read

log = logging.getLogger(__name__)


def dial(path: str) -> Connection:
    """A non-blocking connection to the control socket.

    Raises:
        OSError: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return Connection(sock)


def first_contact(spec: WorkerSpec) -> tuple[Connection, int, list[Inputs]]:
    """Introduce a new worker; the connection, and what came with `Start`: the doorbell, and
    inputs to warm with.

    Raises:
        Unavailable: no daemon answered within the spec's grace.
    """
    end = time.monotonic() + spec.orphan_grace
    backoff = Backoff()
    while True:
        try:
            return _introduce(spec, max(0.0, end - time.monotonic()))
        except (OSError, MlosError) as err:
            now = time.monotonic()
            if now >= end:
                raise Unavailable(f"no daemon answers at {spec.socket}: {err}") from err
            backoff.failed(now)
            time.sleep(min(backoff.wait_s(now), end - now))


def _introduce(spec: WorkerSpec, timeout: float) -> tuple[Connection, int, list[Inputs]]:
    connection = dial(spec.socket)
    fds: list[int] = []
    try:
        connection.send(WorkerHello(spec, os.getpid()))
        body, fds = connection.receive(timeout)
        decode(body, Start)
        if not 1 <= len(fds) <= 2:
            raise ProtocolError("Start comes with the doorbell's descriptor")
        samples = [inputs for fd in fds[1:] for inputs in read(fd)]
        close_all(fds[1:])
        del fds[1:]
    except BaseException:
        close_all(fds)
        connection.close()
        raise
    return connection, fds[0], samples


class Link:
    """The connection that may be lost. Used by the control thread alone.

    Args:
        path: the control socket.
        connection: an open, non-blocking connection.
    """

    def __init__(self, path: str, connection: Connection) -> None:
        self._path = path
        self._connection: Connection | None = connection
        self._backoff = Backoff()

    @property
    def connected(self) -> bool:
        """Whether a daemon is there, as far as is known."""
        return self._connection is not None

    @property
    def unsent(self) -> bool:
        """Whether something waits for the socket to take it."""
        return self._connection is not None and self._connection.unsent > 0

    def fileno(self) -> int:
        """For pollers; only while connected."""
        assert self._connection is not None
        return self._connection.fileno()

    def send(self, message: msgspec.Struct, fds: tuple[int, ...] = ()) -> None:
        """Send, or lose the connection. Without one the message is moot: a new daemon is
        told the whole state."""
        if self._connection is None:
            return
        try:
            self._connection.queue(message, fds)
            self._connection.flush()
        except (OSError, MlosError) as err:
            self._lose(str(err))

    def flush(self) -> None:
        """Go on sending what the socket did not take."""
        if self._connection is not None:
            try:
                self._connection.flush()
            except OSError as err:
                self._lose(str(err))

    def receive(self) -> list[Frame]:
        """The frames that have come; the caller owns their descriptors."""
        frames: list[Frame] = []
        if self._connection is None:
            return frames
        try:
            with contextlib.suppress(BlockingIOError):
                if not self._connection.feed():
                    self._lose("it closed the socket")
                    return frames
            while (frame := self._connection.pop()) is not None:
                frames.append(frame)
        except (OSError, ProtocolError) as err:
            self._lose(str(err))
        return frames

    def reject(self, why: str) -> None:
        """The daemon speaks nonsense: hang up."""
        self._lose(why)

    def _lose(self, why: str) -> None:
        if self._connection is not None:
            log.warning("lost the daemon: %s", why)
            self._connection.close()
            self._connection = None
            # Also after an accepted connection: a daemon that hangs up at once is no daemon.
            self._backoff.failed(time.monotonic())

    def wait_s(self, now_s: float) -> float:
        """How long until the next attempt to reconnect."""
        return self._backoff.wait_s(now_s)

    def reconnect(self, now_s: float) -> bool:
        """Try once, if it is time; true if a daemon accepted the connection."""
        if self._connection is not None or self._backoff.wait_s(now_s) > 0:
            return False
        try:
            self._connection = dial(self._path)
        except OSError:
            self._backoff.failed(now_s)
            return False
        return True

    def settled(self) -> None:
        """The daemon has answered: the next loss starts with short delays again."""
        self._backoff.reset()

    def close(self) -> None:
        """Give what is unsent a last moment, then hang up."""
        if self._connection is not None:
            self._connection.sock.settimeout(1.0)
            with contextlib.suppress(OSError):
                self._connection.flush()
            self._connection.close()
            self._connection = None
