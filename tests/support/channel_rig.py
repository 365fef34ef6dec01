# SPDX-License-Identifier: BUSL-1.1
"""A channel without a daemon: a client's end, a worker's end, and what lies between.

The worker is stepped by hand in the test's own thread, or served by a forked process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time

import numpy as np

from mlos_core.client.aio import AsyncModel
from mlos_core.client.link import Link
from mlos_core.client.model import Model
from mlos_core.client.settings import Settings
from mlos_core.errors import MlosError, ModelFailed, Unavailable
from mlos_core.ipc import bell, channel
from mlos_core.ipc import header as wire
from mlos_core.ipc.messages import Attached
from mlos_core.ipc.worker import WorkerPort
from mlos_core.types import Signature, TensorSpec

PATIENCE = 30.0
ECHO = Signature(
    (
        TensorSpec("x", "float64", (-1,), optional=True),
        TensorSpec("b", "bytes", (-1,), optional=True),
    ),
    (TensorSpec("y", "float64", (-1,)),),
)


class NoDaemon:
    """A client whose daemon is gone: a channel that ends is not replaced."""

    def forget(self, model):
        """It keeps no list of handles."""

    def session(self):
        raise Unavailable("there is no daemon in this test")

    def in_thread(self, function, *arguments):
        return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


class Rig:
    """One model's doorbell, its channels and its ports."""

    def __init__(self, signature=ECHO):
        self.signature = signature
        self.bell_fd = bell.create()
        self.ports = []
        self.links = []
        self.fds = [self.bell_fd]
        self.pids = []

    def channel(self, slots=8, request_bytes=1 << 20, reply_bytes=1 << 20, **options):
        """A segment and its eventfd; the rig owns them."""
        fds = (
            channel.create(slots, request_bytes, reply_bytes, **options),
            os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),
        )
        self.fds += fds
        return fds

    def port(self, *channels, owner=1, lane=0, **options):
        port = WorkerPort(os.dup(self.bell_fd), owner, lane, **options)
        self.ports.append(port)
        for fd, event_fd in channels:
            port.attach(os.dup(fd), os.dup(event_fd))
        return port

    def link(self, fds, wait_mode="adaptive", signature=None):
        attached = Attached(1, "channel", "model", "1", signature or self.signature)
        given = [os.dup(fds[0]), os.dup(self.bell_fd), os.dup(fds[1])]
        link = Link(None, attached, given, wait_mode)
        self.links.append(link)
        return link

    def model(self, fds, **settings):
        """A synchronous handle on the channel."""
        signature = settings.pop("signature", None)
        model = Model(NoDaemon(), "model", Settings(**settings))
        model._link = self.link(fds, settings.get("wait_mode", "adaptive"), signature)
        return model

    async def async_model(self, fds, **settings):
        """An asyncio handle on the channel; call inside the loop."""
        model = AsyncModel(NoDaemon(), "model", Settings(**settings))
        link = self.link(fds)
        model._open = lambda *_: link
        await model.attach()
        del model._open
        return model

    def serve(self, channels, answer=None, **options):
        """Fork a worker that serves until it is killed; its pid."""
        answer = answer or echo
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                port = self.port(*channels, **options)
                while True:
                    serve_one(port.next(1.0), answer)
            finally:
                os._exit(status)
        self.pids.append(pid)
        return pid

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)
        return self.wait(pid)

    def wait(self, pid):
        """The status of a process that ends by itself, killed at the end of patience."""
        end = time.monotonic() + PATIENCE
        pidfd = os.pidfd_open(pid)
        try:
            if not select.select([pidfd], [], [], max(0.0, end - time.monotonic()))[0]:
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(pidfd)
        self.pids.remove(pid)
        return os.waitpid(pid, 0)[1]

    def close(self):
        for pid in list(self.pids):
            with contextlib.suppress(ProcessLookupError):
                self.kill(pid)
        for link in self.links:
            link.close()
        for port in self.ports:
            port.close()
        for fd in self.fds:
            os.close(fd)


def echo(request):
    """What the test's worker computes: y = 2 x + 1, or a copy; before it, a stream of events."""
    if request.kind == wire.STREAM:
        for number in range(request.events_sent, int(request.parameters.get("events", 3))):
            while not request.emit({"number": number}, b"%d" % number):
                if request.cancelled():
                    request.fail(ModelFailed("nobody reads"))
                    return
                time.sleep(0)
    request.answer(outputs_of(request))


def outputs_of(request):
    """The outputs of `echo`: `y` for a float64 `x`, byte strings reversed, all else as it is."""
    outputs = {}
    for name, array in request.inputs.items():
        if array.dtype == object:
            turned = np.empty(array.size, dtype=object)
            turned[:] = [item[::-1] for item in array.reshape(-1)]
            outputs[name] = turned.reshape(array.shape)
        elif array.dtype == np.float64 and name == "x":
            made = request.allocate("y", "float64", array.shape)
            with np.errstate(all="ignore"):  # forged inputs may hold any bits
                np.multiply(array, 2, out=made)
                made += 1
            outputs["y"] = made
        else:
            made = request.allocate(name, array.dtype.name, array.shape)
            made[...] = array
            outputs[name] = made
    return outputs


def serve_one(request, answer=echo):
    """Answer a claimed request, an error included; true if there was one."""
    if request is None:
        return False
    try:
        answer(request)
    except MlosError as error:
        request.fail(error)
    return True


def step(port, answer=echo, patience=20):
    """Let the worker work until nothing is left; the number of requests it ran."""
    count = idle = 0
    while idle < patience:  # what is refused inside `poll` comes out as None too
        if serve_one(port.poll(), answer):
            count += 1
            idle = 0
        else:
            idle += 1
    return count
