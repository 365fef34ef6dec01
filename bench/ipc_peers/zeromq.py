# SPDX-License-Identifier: BUSL-1.1
"""pyzmq over `ipc://`, REQ and REP.

PAIR and DEALER sockets were no faster beyond the noise. Big payloads are sent without a
copy and received into a buffer that is used again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import zmq

from ipc_peers.peer import CONNECT_S, Bytes, Peer

COPY_BELOW = 65536
"""From here on sending without a copy pays for the bookkeeping of it, in bytes."""


class ReqRep(Peer):
    """One socket on either side; libzmq's I/O threads do the rest."""

    def open(self, kind: int) -> zmq.Socket[bytes]:
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.linger = 0
        self.address = f"ipc://{self.setting.folder}/zmq"
        return self.socket

    def serve(self, ready: Callable[[], None]) -> None:
        socket = self.open(zmq.REP)
        socket.bind(self.address)
        receive, send = socket.recv_into, socket.send
        read, write = struct.Struct("d").unpack_from, struct.Struct("d").pack
        buffer = bytearray(self.setting.nbytes)
        ready()
        while True:
            receive(buffer)
            send(write(*read(buffer)))

    def connect(self) -> None:
        socket = self.open(zmq.REQ)
        socket.rcvtimeo = int(CONNECT_S * 1000)
        socket.connect(self.address)

    def caller(self, payload: Bytes) -> Callable[[], float]:
        send, receive = self.socket.send, self.socket.recv
        read = struct.Struct("d").unpack
        view = memoryview(payload)
        copy = self.setting.nbytes < COPY_BELOW

        def call() -> float:
            send(view, copy=copy)
            return read(receive())[0]

        return call

    def close(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()
            self.context.term()
