# SPDX-License-Identifier: BUSL-1.1
"""A client's end of a channel, on the C interface: what a worker is tested against."""

import os
import time

import msgspec

from mlos_core.errors import from_wire
from mlos_core.ipc import bell, channel
from mlos_core.ipc import header as wire
from mlos_core.ipc.native import AGAIN, CLOSED, TICK, TIMEOUT, ffi, lib
from mlos_core.types import dtype_name

PATIENCE_S = 30.0


class ClientEnd:
    """One client with one channel."""

    def __init__(self, bell_fd, pid=None):
        """A channel of the process `pid` (None: this one); `bell_fd` stays the caller's."""
        self.segment_fd = channel.create(64, 1 << 20, 4 << 20, event_bytes=256)
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.mapping = channel.Mapping(self.segment_fd, self.eventfd, guarded=False)
        self.pointer, self.segment = self.mapping.pointer, self.mapping.segment
        self.bell = bell.map_bell(bell_fd)
        self.pidfd = os.pidfd_open(pid or os.getpid())

    def submit(self, inputs, kind=wire.INFER, outputs=(), parameters=None, deadline_ns=0):
        return Ticket(self, inputs, kind, outputs, parameters or {}, deadline_ns)

    def fds(self):
        return self.segment_fd, self.eventfd, self.pidfd

    def close(self):
        for fd in self.fds():
            os.close(fd)


class Ticket:
    """The client's side of a request over the real channel, on the C interface."""

    def __init__(self, client, inputs, kind, outputs, parameters, deadline_ns):
        self.client, self.slot = client, lib.mlos_slot_acquire(client.pointer)
        self.room = ffi.new("char[]", 1 << 14)
        refs = [self._place(name, array) for name, array in inputs.items()]
        head = wire.RequestHeader(kind, tuple(refs), tuple(outputs), parameters)
        raw = wire.encode(head)
        at = lib.mlos_slot_request_off(client.pointer, self.slot)
        client.segment[at : at + len(raw)] = raw
        left = deadline_ns - time.monotonic_ns() if deadline_ns else -1
        status = lib.mlos_submit(client.pointer, client.bell, self.slot, at, len(raw), left)
        assert status >= 0

    def _place(self, name, array):
        at = lib.mlos_arena_alloc(self.client.pointer, max(array.nbytes, 1))
        self.client.segment[at : at + array.nbytes] = array.tobytes()
        return wire.TensorRef(name, dtype_name(array), array.shape, at, array.nbytes)

    def cancel(self):
        lib.mlos_cancel(self.client.pointer, self.slot)

    def read_events(self):
        events = []
        while True:
            size = lib.mlos_next_event(self.client.pointer, self.slot, self.room, len(self.room), 0)
            if size < 0 or size == 0:
                assert size in (AGAIN, CLOSED, 0)
                return events
            events.append(msgspec.msgpack.decode(ffi.buffer(self.room, size)[:]))

    def wait(self):
        """The reply, however long it takes within the test's patience."""
        end = time.monotonic() + PATIENCE_S
        while (status := lib.mlos_wait(self.client.pointer, self.slot, 10**9)) < 0:
            assert status in (TICK, TIMEOUT), status
            assert time.monotonic() < end
        return self.reply()

    def reply(self):
        """What came so far: outputs, or None; an error is raised."""
        if lib.mlos_poll(self.client.pointer, self.slot) < 0:
            return None
        length = ffi.new("uint32_t *")
        where = lib.mlos_reply(self.client.pointer, self.slot, length)
        head = wire.decode_reply(ffi.buffer(where, length[0])[:])
        if head.code:
            raise from_wire(head.code, head.message, head.hint)
        segment = self.client.segment
        return {ref.name: wire.view(segment, ref).copy() for ref in head.outputs}
