# SPDX-License-Identifier: BUSL-1.1
"""Two rigs, one interface: loops are driven over a port in memory and over the real one.

A rig's `submit` gives a ticket, `run(loop)` lets the loop work until nothing waits, and the
ticket then tells what the client got. Neither rig sleeps.
"""

import collections
import os
import time

import msgspec
import numpy as np
import pytest

from mlos_core.errors import Overloaded, from_wire
from mlos_core.ipc import bell, channel
from mlos_core.ipc import header as wire
from mlos_core.ipc.native import AGAIN, CLOSED, ffi, lib
from mlos_core.ipc.worker import WorkerPort
from mlos_core.types import dtype_name

RING_EVENTS = 8


class FakeRequest:
    """A request in memory: `answered` holds outputs, or the error."""

    def __init__(self, port, inputs, kind, outputs, parameters, attempt, sent, deadline_ns):
        self.port = port
        self.kind, self.outputs, self.parameters = kind, outputs, parameters
        self.attempt, self.events_sent, self.deadline_ns = attempt, sent, deadline_ns
        self.inputs = inputs
        self.channel = 0
        self.checked = None
        self.submitted_ns = self.taken_ns = time.monotonic_ns()
        self.is_cancelled = False
        self.allocated = []
        self.ring = collections.deque()
        self.answered = None

    def cancelled(self):
        return self.is_cancelled or 0 < self.deadline_ns <= time.monotonic_ns()

    def allocate(self, name, dtype, shape):
        if np.prod(shape) > 1 << 20:
            raise Overloaded("the reply arena is full")
        self.allocated.append(np.empty(shape, dtype))
        return self.allocated[-1]

    def answer(self, outputs, parameters=None, started_ns=0, ended_ns=0):
        assert self.answered is None, "answered twice"
        self.answered = {name: np.array(array) for name, array in outputs.items()}
        for array in outputs.values():
            if not any(array is made for made in self.allocated):
                self.port.counted["copied_bytes"] += array.nbytes
        self.port.counted["answered"] += 1

    def fail(self, error):
        assert self.answered is None, "answered twice"
        self.answered = error
        self.port.counted["answered"] += 1
        self.port.counted["failures"] += 1

    def emit(self, data):
        if len(self.ring) >= RING_EVENTS:
            return False
        self.ring.append(msgspec.msgpack.decode(msgspec.msgpack.encode(data)))
        return True

    # --- the client's side ---

    def cancel(self):
        self.is_cancelled = True

    def read_events(self):
        events = list(self.ring)
        self.ring.clear()
        return events

    def reply(self):
        if isinstance(self.answered, Exception):
            raise self.answered
        return self.answered


class FakePort:
    """A port whose requests come from a list; `next` never waits."""

    def __init__(self):
        self.waiting = collections.deque()
        self.counted = collections.Counter()

    def next(self, timeout=None):
        return self.poll()

    def poll(self):
        return self.waiting.popleft() if self.waiting else None

    def counters(self):
        return self.counted


class FakeRig:
    def __init__(self):
        self.port = FakePort()

    def submit(
        self,
        inputs,
        kind=wire.INFER,
        outputs=(),
        parameters=None,
        attempt=0,
        sent=0,
        deadline_ns=0,
    ):
        request = FakeRequest(
            self.port, inputs, kind, outputs, parameters or {}, attempt, sent, deadline_ns
        )
        self.port.waiting.append(request)
        return request

    def idle(self):
        return not self.port.waiting

    def close(self):
        assert not self.port.waiting


class EagerPort:
    """The real port, but for its waiting: `next` looks once."""

    def __init__(self, port):
        self._port = port

    def next(self, timeout=None):
        return self._port.poll()

    def __getattr__(self, name):
        return getattr(self._port, name)


class Ticket:
    """The client's side of a request over the real channel, on the C interface."""

    def __init__(self, rig, inputs, kind, outputs, parameters, deadline_ns):
        self.rig, self.slot = rig, lib.mlos_slot_acquire(rig.client.pointer)
        self.room = ffi.new("char[]", 1 << 14)
        refs = [self._place(name, array) for name, array in inputs.items()]
        head = wire.RequestHeader(kind, tuple(refs), tuple(outputs), parameters)
        raw = wire.encode(head)
        at = lib.mlos_slot_request_off(rig.client.pointer, self.slot)
        rig.client.segment[at : at + len(raw)] = raw
        left = deadline_ns - time.monotonic_ns() if deadline_ns else -1
        status = lib.mlos_submit(rig.client.pointer, rig.bell, self.slot, at, len(raw), left)
        assert status >= 0

    def _place(self, name, array):
        at = lib.mlos_arena_alloc(self.rig.client.pointer, max(array.nbytes, 1))
        self.rig.client.segment[at : at + array.nbytes] = array.tobytes()
        return wire.TensorRef(name, dtype_name(array), array.shape, at, array.nbytes)

    def cancel(self):
        lib.mlos_cancel(self.rig.client.pointer, self.slot)

    def read_events(self):
        events = []
        while True:
            size = lib.mlos_next_event(
                self.rig.client.pointer, self.slot, self.room, len(self.room), 0
            )
            if size < 0 or size == 0:
                assert size in (AGAIN, CLOSED, 0)
                return events
            events.append(msgspec.msgpack.decode(ffi.buffer(self.room, size)[:]))

    def reply(self):
        if lib.mlos_poll(self.rig.client.pointer, self.slot) < 0:
            return None
        length = ffi.new("uint32_t *")
        where = lib.mlos_reply(self.rig.client.pointer, self.slot, length)
        head = wire.decode_reply(ffi.buffer(where, length[0])[:])
        if head.code:
            raise from_wire(head.code, head.message, head.hint)
        segment = self.rig.client.segment
        return {ref.name: wire.view(segment, ref).copy() for ref in head.outputs}


class RealRig:
    def __init__(self):
        bell_fd, segment = bell.create(), channel.create(64, 1 << 20, 4 << 20, event_bytes=256)
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.segment_fd = segment
        self.bell = bell.map_bell(bell_fd)
        self.client = channel.Mapping(segment, self.eventfd, guarded=False)
        self.real = WorkerPort(bell_fd, owner=1, lane=0)
        self.real.attach(os.dup(segment), os.dup(self.eventfd))
        self.port = EagerPort(self.real)
        self._tickets = 0

    def submit(self, inputs, kind=wire.INFER, outputs=(), parameters=None, deadline_ns=0):
        self._tickets += 1
        return Ticket(self, inputs, kind, outputs, parameters or {}, deadline_ns)

    def idle(self):
        return self.port.counters()["answered"] == self._tickets

    def close(self):
        self.real.close()
        os.close(self.segment_fd)
        os.close(self.eventfd)


@pytest.fixture(params=[FakeRig, RealRig], ids=["fake", "real"])
def rig(request):
    """Requests in, answers out: over a port in memory, and over shared memory."""
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def fake():
    """The rig in memory alone, for what the real one cannot stage."""
    made = FakeRig()
    yield made
    made.close()


@pytest.fixture
def real():
    """The rig over shared memory alone."""
    made = RealRig()
    yield made
    made.close()
