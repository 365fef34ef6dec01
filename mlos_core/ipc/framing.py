# SPDX-License-Identifier: BUSL-1.1
"""Frames of the control socket: a length, a msgpack message, and file descriptors.

    u32 length | u8 number of descriptors | message

Descriptors travel by SCM_RIGHTS with the first byte of their frame. Both ends bound what
they accept (`MAX_FRAME`, `MAX_FDS`), and received descriptors that nobody takes are closed.
`Connection` is used blocking by clients and workers, non-blocking by the daemon.
"""

from __future__ import annotations

import array
import collections
import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from mlos_core.errors import DeadlineExceeded, ProtocolError, Unavailable

MAX_FRAME: Final = 4 << 20
MAX_FDS: Final = 8
MAX_UNSENT: Final = 16 << 20
_PREFIX: Final = struct.Struct("<IB")

Frame = tuple[bytes, list[int]]


class Connection:
    """One end of a control socket. Not thread-safe.

    Args:
        sock: a connected Unix stream socket; its blocking mode is left as it is.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._in = bytearray()
        self._in_fds: collections.deque[int] = collections.deque()
        self._out: collections.deque[tuple[memoryview, tuple[int, ...]]] = collections.deque()
        self._unsent = 0

    def fileno(self) -> int:
        """The socket's descriptor, for selectors and event loops."""
        return self.sock.fileno()

    def peer(self) -> tuple[int, int, int]:
        """`(pid, uid, gid)` of the other end, as the kernel recorded it."""
        raw = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, gid = struct.unpack("iII", raw)
        return pid, uid, gid

    def close(self) -> None:
        """Close the socket and every descriptor that was received but not taken."""
        self.sock.close()
        while self._in_fds:
            os.close(self._in_fds.popleft())
        self._drop_unsent()

    def _drop_unsent(self) -> None:
        for _, fds in self._out:
            for fd in fds:
                os.close(fd)
        self._out.clear()
        self._unsent = 0

    # --- sending --------------------------------------------------------------------

    def queue(self, message: msgspec.Struct, fds: Iterable[int] = ()) -> None:
        """Put a frame in line; `flush` sends. `fds` are duplicated, the caller keeps its own.

        Raises:
            ProtocolError: the frame is too large.
            Unavailable: the peer does not read and the line is full.
        """
        body = msgspec.msgpack.encode(message)
        given = tuple(fds)
        if len(body) > MAX_FRAME or len(given) > MAX_FDS:
            raise ProtocolError(f"a control frame of {len(body)} bytes is too large to send")
        if self._unsent + len(body) > MAX_UNSENT:
            raise Unavailable("the peer of a control socket does not read")
        frame = memoryview(_PREFIX.pack(len(body), len(given)) + body)
        self._out.append((frame, tuple(os.dup(fd) for fd in given)))
        self._unsent += len(frame)

    @property
    def unsent(self) -> int:
        """Bytes that wait in line."""
        return self._unsent

    def flush(self) -> bool:
        """Send what the socket takes; true when nothing is left.

        Raises:
            OSError: the peer is gone.
        """
        while self._out:
            frame, fds = self._out[0]
            try:
                sent = self._send_some(frame, fds)
            except BlockingIOError:
                return False
            for fd in fds:
                os.close(fd)
            self._unsent -= sent
            if sent < len(frame):
                self._out[0] = (frame[sent:], ())
            else:
                self._out.popleft()
        return True

    def _send_some(self, frame: memoryview, fds: tuple[int, ...]) -> int:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        return self.sock.sendmsg([frame], rights, socket.MSG_NOSIGNAL)

    def send(self, message: msgspec.Struct, fds: Iterable[int] = ()) -> None:
        """Queue and flush, for blocking sockets.

        Raises:
            Unavailable: the peer is gone.
        """
        self.queue(message, fds)
        try:
            self.flush()
        except OSError as err:
            raise Unavailable(f"the control socket is gone: {err}") from err

    # --- receiving ------------------------------------------------------------------

    def feed(self) -> bool:
        """Read once from the socket; false at the end of the stream.

        Raises:
            BlockingIOError: nothing to read on a non-blocking socket.
            ProtocolError: more descriptors than allowed.
        """
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(
                1 << 16, socket.CMSG_SPACE(4 * MAX_FDS), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return False
        for level, kind, raw in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
                self._in_fds.extend(fds)
        if flags & socket.MSG_CTRUNC or len(self._in_fds) > 8 * MAX_FDS:
            raise ProtocolError("too many file descriptors in a control frame")
        self._in += data
        return bool(data)

    def pop(self) -> Frame | None:
        """The next whole frame that was read: its message bytes and its descriptors.

        The caller owns the descriptors.

        Raises:
            ProtocolError: the frame is larger than allowed or lacks descriptors.
        """
        if len(self._in) < _PREFIX.size:
            return None
        size, count = _PREFIX.unpack_from(self._in)
        if size > MAX_FRAME or count > MAX_FDS:
            raise ProtocolError(f"a control frame of {size} bytes is larger than allowed")
        if len(self._in) < _PREFIX.size + size:
            return None
        if len(self._in_fds) < count:
            raise ProtocolError("a control frame announces descriptors that did not come")
        body = bytes(self._in[_PREFIX.size : _PREFIX.size + size])
        del self._in[: _PREFIX.size + size]
        return body, [self._in_fds.popleft() for _ in range(count)]

    def receive(self, timeout: float | None) -> Frame:
        """The next frame, waiting up to `timeout` seconds (`None`: for ever).

        Raises:
            DeadlineExceeded: none came in time.
            Unavailable: the peer closed the connection.
        """
        end = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        while (frame := self.pop()) is None:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not poll.poll(None if left is None else left * 1000):
                raise DeadlineExceeded("no answer on the control socket in time")
            with contextlib.suppress(BlockingIOError):
                if not self.feed():
                    raise Unavailable("the control socket was closed by the other side")
        return frame


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that nobody takes."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def decode(body: bytes, kind: Any) -> Any:
    """Decode a message as `kind` (a Struct or a union of tagged ones).

    Raises:
        ProtocolError: the bytes are no such message.
    """
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, ValueError) as err:
        raise ProtocolError(f"a control message cannot be decoded: {err}") from err
