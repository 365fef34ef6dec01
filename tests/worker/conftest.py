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

from mlos_core.errors import Overloaded
from mlos_core.ipc import bell
from mlos_core.ipc import header as wire
from mlos_core.ipc.worker import WorkerPort

from .daemon import Daemon, HostProcess
from .peer import ClientEnd

RING_EVENTS = 8


class FakeRequest:
    """A request in memory: `answered` holds outputs, or the error."""

    def __init__(
        self, port, inputs, kind, outputs, parameters, attempt, sent, deadline_ns, channel
    ):
        self.port = port
        self.kind, self.outputs, self.parameters = kind, outputs, parameters
        self.attempt, self.events_sent, self.deadline_ns = attempt, sent, deadline_ns
        self.inputs = inputs
        self.channel = channel
        self.checked = None
        self.submitted_ns = self.taken_ns = time.monotonic_ns()
        self.is_cancelled = False
        self.allocated = []
        self.ring = collections.deque()
        self.answered = None
        self.notes = []
        self.kept = ()
        self.owner, self.key = "uid:1", id(self)

    def journal(self):
        return self.kept

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
        self.port.ended.append(self)

    def again(self, outputs):
        return False

    def fail(self, error):
        assert self.answered is None, "answered twice"
        self.answered = error
        self.port.counted["answered"] += 1
        self.port.counted["failures"] += 1
        self.port.ended.append(self)

    def emit(self, data, note=None):
        if len(self.ring) >= RING_EVENTS:
            return False
        self.notes.append(note)
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
    """A port whose requests come from a list in order; `next` never waits."""

    def __init__(self):
        self.waiting = collections.deque()
        self.ended = []  # in the order of their answers
        self.counted = collections.Counter()

    def next(self, timeout=None):
        return self.poll()

    def receiver(self, timeout=None):
        return self.poll

    def poll(self):
        return self.waiting.popleft() if self.waiting else None

    def counters(self):
        return self.counted

    def times(self):
        return {}

    def pending(self):
        return len(self.waiting)


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
        channel=0,
    ):
        request = FakeRequest(
            self.port, inputs, kind, outputs, parameters or {}, attempt, sent, deadline_ns, channel
        )
        self.port.waiting.append(request)
        return request

    def idle(self):
        return not self.port.waiting

    def close(self):
        assert not self.port.waiting


class EagerPort:
    """The real port, but for its waiting: `next` and a receiver look once."""

    def __init__(self, port):
        self._port = port

    def next(self, timeout=None):
        return self._port.poll()

    def receiver(self, timeout=None):
        return self._port.poll

    def __getattr__(self, name):
        return getattr(self._port, name)


class RealRig:
    def __init__(self):
        bell_fd = bell.create()
        self.client = ClientEnd(bell_fd)
        self.real = WorkerPort(bell_fd, owner=1, lane=0)
        self.real.attach(*(os.dup(fd) for fd in self.client.fds()[:2]))
        self.port = EagerPort(self.real)
        self._submitted = 0

    def submit(self, inputs, **changes):
        self._submitted += 1
        return self.client.submit(inputs, **changes)

    def idle(self):
        return self.port.counters()["answered"] == self._submitted

    def close(self):
        self.real.close()
        self.client.close()


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


# --- processes ----------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path):
    """A control socket that workers connect to."""
    made = Daemon(tmp_path / "d.sock")
    yield made
    made.close()


@pytest.fixture
def start_host(tmp_path):
    """Start plugin hosts; `code` is the module of the plugin `toy`."""
    hosts = []

    def start(code, name="toy"):
        hosts.append(HostProcess(code, tmp_path, name))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()
