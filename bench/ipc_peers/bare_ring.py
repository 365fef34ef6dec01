# SPDX-License-Identifier: BUSL-1.1
"""The floor: the least possible Python client and server on our own C ring.

No header, no validation, no plugin, no signature: both sides know that the payload lies in
one agreed place, the server reads a number there and answers with eight bytes. What a real
call costs beyond this is the price of being a call.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from ipc_peers.peer import CONNECT_S, Bytes, Peer
from mlos_core.ipc import bell, channel
from mlos_core.ipc.channel import Mapping
from mlos_core.ipc.native import WAIT_MODES, check, ffi, lib

CALL_NS = 10_000_000_000
POLL_MAX_NS = 2_000_000


class BareRing(Peer):
    """Polling on both sides."""

    mode: ClassVar[str] = "spin"

    @property
    def address(self) -> str:
        return str(self.setting.folder / "ring")

    def serve(self, ready: Callable[[], None]) -> None:
        self.fd = channel.create(1, self.setting.nbytes, 4096)
        bell_fd = bell.create()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(1)
            ready()
            connection, _ = listener.accept()
            with connection:
                socket.send_fds(connection, [b"!"], [self.fd, bell_fd])
        mapping, ring = Mapping(self.fd, guarded=True), bell.map_bell(bell_fd)
        os.close(bell_fd)
        port = lib.mlos_port_new(ring, 1, 0, WAIT_MODES[self.mode], POLL_MAX_NS, 1)
        check(lib.mlos_port_add(port, 0, mapping.pointer))
        claim, answer = lib.mlos_port_next, lib.mlos_answer
        read, write = struct.Struct("d").unpack_from, struct.Struct("d").pack
        place, offset = mapping.segment, mapping.size - 4096 - _pages(self.setting.nbytes)
        while True:
            if claim(port, -1) >= 0:
                answer(port, 0, 0, write(*read(place, offset)), 8, 0, 0)

    def connect(self) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(CONNECT_S)
            sock.connect(self.address)
            _, (self.fd, bell_fd), _, _ = socket.recv_fds(sock, 1, 2)
        self.mapping = Mapping(self.fd, guarded=False)
        self.bell = bell.map_bell(bell_fd)
        os.close(bell_fd)
        lib.mlos_client_wait_mode(self.mapping.pointer, WAIT_MODES[self.mode], POLL_MAX_NS)
        self.slot = check(lib.mlos_slot_acquire(self.mapping.pointer))
        self.place = check(lib.mlos_arena_alloc(self.mapping.pointer, self.setting.nbytes))

    def payload(self) -> Bytes:
        if self.setting.in_place:
            return np.frombuffer(self.mapping.segment, np.uint8, self.setting.nbytes, self.place)
        return super().payload()

    def caller(self, payload: Bytes) -> Callable[[], float]:
        pointer, ring, slot, nothing = self.mapping.pointer, self.bell, self.slot, ffi.NULL
        send, segment, place = lib.mlos_call, self.mapping.segment, self.place
        read, view = struct.Struct("d").unpack_from, memoryview(payload)
        target = segment[place : place + self.setting.nbytes]
        answer = lib.mlos_slot_request_off(pointer, slot) + channel.HEADER_BYTES

        def call() -> float:
            target[:] = view
            if send(pointer, ring, slot, place, 0, CALL_NS, nothing, 0) != 8:
                raise TimeoutError
            return read(segment, answer)[0]

        def call_in_place() -> float:
            if send(pointer, ring, slot, place, 0, CALL_NS, nothing, 0) != 8:
                raise TimeoutError
            return read(segment, answer)[0]

        return call_in_place if self.setting.in_place else call

    def close(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class BareRingBlock(BareRing):
    """Sleeping in a futex on both sides."""

    mode = "block"


def _pages(nbytes: int) -> int:
    return (nbytes + 4095) // 4096 * 4096
