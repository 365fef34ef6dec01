# SPDX-License-Identifier: BUSL-1.1
"""The client's connection to the daemon: hello, attach, resume, and calls to its service."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from typing import Any, Final

from mlos_core.errors import DeadlineExceeded, MlosError, ProtocolError, Unavailable, from_wire
from mlos_core.ipc import framing
from mlos_core.ipc.messages import (
    PROTOCOL,
    Answer,
    Attach,
    Attached,
    Call,
    Detach,
    Hello,
    Problem,
    Resume,
    ToClient,
    Welcome,
)

_MARGIN: Final = 5.0  # seconds beyond what the daemon was given, for the answer to come back


def raise_problem(problem: Problem) -> None:
    """Raise the error that `problem` describes."""
    raise from_wire(problem.code, problem.message, problem.hint)


def unreachable(path: str, why: object) -> Unavailable:
    """The error for a daemon that does not answer at `path`."""
    return Unavailable(
        f"no mlosd answers at {path}: {why}",
        hint="start one with `mlosd`, or name its socket with --socket or MLOS_SOCKET",
    )


def greet(message: Any, path: str) -> None:
    """Check a daemon's answer to `Hello`."""
    if isinstance(message, Answer) and message.problem is not None:
        raise_problem(message.problem)
    if not isinstance(message, Welcome):
        raise ProtocolError(f"what answers at {path} is no mlosd")
    if message.protocol != PROTOCOL:
        raise ProtocolError(
            f"mlosd {message.version} speaks control protocol {message.protocol}, "
            f"this client {PROTOCOL}",
            hint="install the same version on both sides",
        )


class Session:
    """A connection to the daemon, one request at a time. Thread-safe.

    Args:
        path: the daemon's control socket.
        timeout: seconds for connecting and for each answer.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self._timeout = timeout
        self._lock = threading.Lock()
        # Apart from the other, which is held while an answer is awaited: a channel must be
        # given up without waiting for that, above all from an event loop.
        self._sending = threading.Lock()
        self.generation = 0
        self._ids = itertools.count(1)
        self._connection: framing.Connection | None = None
        self.connect()

    def connect(self) -> None:
        """Connect, or connect again.

        Raises:
            Unavailable: no daemon answers.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self._timeout)
        try:
            sock.connect(self.path)
        except OSError as err:
            sock.close()
            raise unreachable(self.path, err.strerror or err) from err
        sock.settimeout(None)
        connection = framing.Connection(sock)
        try:
            connection.send(Hello(pid=os.getpid()))
            body, fds = connection.receive(self._timeout)
            framing.close_all(fds)
            greet(framing.decode(body, ToClient), self.path)
        except MlosError:
            connection.close()
            raise
        self.close()
        self._connection = connection
        self.generation += 1

    def close(self) -> None:
        """Close the connection; the daemon then lets go of all that belongs to it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def alive(self) -> bool:
        """Whether the daemon still holds its end. Makes one system call, never blocks."""
        if self._connection is None:
            return False
        try:
            return bool(self._connection.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def call(self, method: str, params: dict[str, Any], timeout: float | None) -> Any:
        """Call a method of the daemon's service; `None` waits as long as it takes."""
        message = Call(id=next(self._ids), method=method, params=params)
        answer, fds = self._ask(message, timeout)
        framing.close_all(fds)
        return answer.result if isinstance(answer, Answer) else None

    def attach(
        self, model: str, slots: int, request_bytes: int, reply_bytes: int, timeout: float
    ) -> tuple[Attached, list[int]]:
        """Ask for a channel: its description and its segment, doorbell and eventfd."""
        return self._channel(
            Attach(
                id=next(self._ids),
                model=model,
                slots=slots,
                request_bytes=request_bytes,
                reply_bytes=reply_bytes,
                timeout=timeout,
            ),
            timeout + _MARGIN,
        )

    def resume(self, model: str, channel: str, fds: tuple[int, int]) -> tuple[Attached, list[int]]:
        """Hand a channel to a daemon that was restarted."""
        message = Resume(id=next(self._ids), model=model, channel=channel)
        return self._channel(message, self._timeout + _MARGIN, fds)

    def _channel(
        self, message: Attach | Resume, timeout: float, fds: tuple[int, ...] = ()
    ) -> tuple[Attached, list[int]]:
        answer, received = self._ask(message, timeout, fds)
        if isinstance(answer, Attached) and len(received) == 3:
            return answer, received
        framing.close_all(received)
        raise ProtocolError("the daemon's answer to an attach is no channel")

    def detach(self, channel: str) -> None:
        """Give a channel up. Nothing is awaited; a daemon that is gone needs no telling."""
        with self._sending:
            connection = self._connection
            if connection is not None and self.alive():
                connection.send(Detach(channel=channel))

    def _ask(
        self, message: Any, timeout: float | None, fds: tuple[int, ...] = ()
    ) -> tuple[Attached | Answer, list[int]]:
        with self._lock:
            if not self.alive():
                self.connect()
            connection = self._connection
            if connection is None:
                raise unreachable(self.path, "the connection was closed")
            try:
                with self._sending:
                    connection.send(message, fds)
                while True:
                    body, received = connection.receive(timeout)
                    answer = framing.decode(body, ToClient)
                    if getattr(answer, "id", None) == message.id:
                        break
                    framing.close_all(received)  # an answer nobody waits for any more
            except DeadlineExceeded:
                raise  # the connection is sound, and an answer that comes late has its id
            except BaseException:
                self.close()
                raise
        if isinstance(answer, Answer) and answer.problem is not None:
            framing.close_all(received)
            raise_problem(answer.problem)
        return answer, received
