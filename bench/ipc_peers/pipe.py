# SPDX-License-Identifier: BUSL-1.1
"""The connection that `multiprocessing.Pipe` gives: two ends of a Unix socket pair.

`Pipe` hands its ends to a forked child; the processes here are no relatives, so the same
`Connection` objects are made with `Listener` and `Client` on a Unix socket.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from multiprocessing.connection import Client, Listener

from ipc_peers.peer import Bytes, Peer


class Pipe(Peer):
    """`send_bytes` out of the array, `recv_bytes_into` a buffer that is used again."""

    @property
    def address(self) -> str:
        return str(self.setting.folder / "pipe")

    def serve(self, ready: Callable[[], None]) -> None:
        with Listener(self.address, "AF_UNIX") as listener:
            ready()
            connection = listener.accept()
        self.connection = connection
        receive, send = connection.recv_bytes_into, connection.send_bytes
        read, write = struct.Struct("d").unpack_from, struct.Struct("d").pack
        buffer = bytearray(self.setting.nbytes)
        with contextlib.suppress(EOFError):  # the client is done
            while True:
                receive(buffer)
                send(write(*read(buffer)))

    def connect(self) -> None:
        self.connection = Client(self.address, "AF_UNIX")

    def caller(self, payload: Bytes) -> Callable[[], float]:
        send, receive = self.connection.send_bytes, self.connection.recv_bytes_into
        view, buffer = memoryview(payload), bytearray(8)
        read = struct.Struct("d").unpack_from

        def call() -> float:
            send(view)
            receive(buffer)
            return read(buffer)[0]

        return call

    def close(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()
