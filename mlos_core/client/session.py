# SPDX-License-Identifier: BUSL-1.1
"""The client's connection to the daemon: hello, attach, resume, and calls to its service."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
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

_Received = tuple[Attached | Answer, list[int]]
_LONGEST_WAIT: Final = 3600.0  # at a stretch
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
    """A connection to the daemon. Thread-safe: who waits long, as for a model that is being
    loaded, keeps nobody else waiting.

    One of the threads that wait reads, and hands every answer to whom it is for.

    Args:
        path: the daemon's control socket.
        timeout: seconds for connecting and for each answer.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self._timeout = timeout
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._answers: dict[int, _Received | None] = {}
        self._reading = False
        # Apart from the other, which is held while connecting: a channel must be given up
        # without waiting for that, above all from an event loop.
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
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)  # wakes who reads, and then closes
        if not self._reading:
            self._release(connection)

    def disown(self) -> None:
        """Close this process's end alone: a parent that forked goes on with its own."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _release(self, connection: framing.Connection) -> None:
        with self._sending:
            connection.close()

    def alive(self) -> bool:
        """Whether the daemon still holds its end. Makes one system call, never blocks."""
        connection = self._connection
        if connection is None:
            return False
        try:
            return bool(connection.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
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
        self,
        model: str,
        slots: int,
        request_bytes: int,
        reply_bytes: int,
        timeout: float,
        version: str = "",
        worker: int = 0,
    ) -> tuple[Attached, list[int]]:
        """Ask for a channel: its description and its segment, doorbell and eventfd.

        Raises:
            DeadlineExceeded: the model was not ready within `timeout` seconds.
        """
        message = Attach(
            id=next(self._ids),
            model=model,
            slots=slots,
            request_bytes=request_bytes,
            reply_bytes=reply_bytes,
            timeout=timeout,
            version=version,
            worker=worker,
        )
        try:
            return self._channel(message, timeout + _MARGIN)
        except DeadlineExceeded as error:
            error.hint = (
                f"attaching waited {timeout:g} s; a model that loads goes on loading: ask again, "
                "or allow more: client.model(..., timeout=SECONDS), or --timeout"
            )
            raise

    def resume(
        self, model: str, channel: str, fds: tuple[int, int], version: str = ""
    ) -> tuple[Attached, list[int]]:
        """Hand a channel to a daemon that was restarted."""
        message = Resume(id=next(self._ids), model=model, channel=channel, version=version)
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

    # --- questions and answers ------------------------------------------------------------

    def _ask(self, message: Any, timeout: float | None, fds: tuple[int, ...] = ()) -> _Received:
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            if not self.alive():
                self.connect()
            connection = self._connection
            if connection is None:
                raise unreachable(self.path, "the connection was closed")
            self._answers[message.id] = None
            try:
                with self._sending:
                    connection.send(message, fds)
                answer, received = self._await(message.id, connection, end)
            except BaseException:
                self._discard(connection, self._answers[message.id])
                raise
            finally:
                del self._answers[message.id]
        if isinstance(answer, Answer) and answer.problem is not None:
            framing.close_all(received)
            raise_problem(answer.problem)
        return answer, received

    def _await(self, id: int, connection: framing.Connection, end: float | None) -> _Received:
        """The answer to `id`. The lock is held, but not while nothing comes."""
        while (found := self._answers[id]) is None:
            if self._connection is not connection:
                raise Unavailable("the control socket was closed", hint="ask again")
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise DeadlineExceeded("no answer on the control socket in time")
            left = _LONGEST_WAIT if left is None else min(left, _LONGEST_WAIT)
            if self._reading:
                self._news.wait(left)
            else:
                self._read(connection, left)
        return found

    def _read(self, connection: framing.Connection, left: float) -> None:
        """Wait for one message without the lock, and hand it to whom it is for."""
        self._reading = True
        self._lock.release()
        got: _Received | None = None
        try:
            got = _receive(connection, left)
        except BaseException:
            if self._connection is connection:
                self.close()
            raise
        finally:
            self._lock.acquire()
            self._reading = False
            self._news.notify_all()
            if self._connection is not connection:
                self._release(connection)
        if got is None:
            return
        id = getattr(got[0], "id", None)
        if id in self._answers:
            self._answers[id] = got
        else:
            self._discard(connection, got)

    def _discard(self, connection: framing.Connection, got: _Received | None) -> None:
        """An answer that nobody waits for any more; a channel is given back."""
        if got is None:
            return
        answer, fds = got
        framing.close_all(fds)
        if isinstance(answer, Attached):
            with self._sending, contextlib.suppress(Unavailable):
                connection.send(Detach(channel=answer.channel))


def _receive(connection: framing.Connection, timeout: float) -> _Received | None:
    """One message; `None` when none came in time, after which the connection is still sound.

    Raises:
        Unavailable, ProtocolError: the connection is of no more use.
    """
    try:
        body, fds = connection.receive(timeout)
    except DeadlineExceeded:
        return None
    except OSError as err:
        raise Unavailable(f"the control socket is gone: {err}") from err
    try:
        answer: Attached | Answer = framing.decode(body, ToClient)
    except MlosError:
        framing.close_all(fds)
        raise
    return answer, fds
