# SPDX-License-Identifier: BUSL-1.1
"""The daemon's part in the tests of host and worker: real sockets, scripted answers."""

import os
import socket
import subprocess
import sys
import textwrap

from mlos_core.errors import Unavailable
from mlos_core.ipc import bell
from mlos_core.ipc.framing import Connection, decode
from mlos_core.ipc.messages import (
    AskStats,
    BatchPolicy,
    FromHost,
    FromWorker,
    Serve,
    Serving,
    Start,
    Stats,
    WorkerHello,
    WorkerReport,
    WorkerSpec,
)

from .peer import PATIENCE_S

DEFAULT = textwrap.dedent(
    """
    import os, time
    import numpy as np
    from mlos_core.errors import LoadFailed
    from mlos_core.smi import Plugin, TensorModel
    from mlos_core.types import Signature, TensorSpec

    class Model(TensorModel):
        def __init__(self, size, flag):
            dice = str(np.random.random())
            x = TensorSpec("x", "float32", (size, 2), description=dice)
            self.signature = Signature((x,), (x,), batched=size < 0)
            self.flag = flag

        def infer(self, batch, allocate):
            x = batch["x"]
            if x.size and x[0, 0] == 99:
                os._exit(9)
            if x.size and x[0, 0] == 88:
                open(self.flag, "w").close()
                time.sleep(float(x[0, 1]))
            out = allocate("x", "float32", x.shape)
            np.add(x, 1, out=out)
            return {"x": out}

    class Toy(Plugin):
        name = "toy"
        formats = (".toy",)
        framework = "toys 7"

        def load(self, package, device, options):
            if options.get("fail") == "kindly":
                raise LoadFailed("the toy is broken", hint="buy another")
            if options.get("fail"):
                raise RuntimeError("the toy exploded")
            if options.get("bad"):
                return object()
            return Model(options.get("size", -1), options.get("flag", os.devnull))
    """
)


def spec_of(daemon, owner=1, **changes):
    values = {
        "model": "m",
        "version": "1",
        "path": "/nowhere",
        "plugin": "toy",
        "owner": owner,
        "lane": owner,
        "socket": daemon.path,
        "batch": BatchPolicy(),
        "wait_mode": "block",
    }
    return WorkerSpec(**(values | changes))


BE_HOST = """
import os, socket, sys
from mlos_core.ipc.framing import Connection
from mlos_core.worker.host import serve
name, fd = sys.argv[1], int(sys.argv[2])
os.set_inheritable(fd, False)
sys.exit(serve(name, Connection(socket.socket(fileno=fd))))
"""


class HostProcess:
    """A plugin host, whose plugin is `code`."""

    def __init__(self, code, folder, name):
        (folder / "toy_plugin.py").write_text(code)
        info = folder / "toy_plugin-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.2.3\n")
        (info / "entry_points.txt").write_text("[mlos.plugins]\ntoy = toy_plugin:Toy\n")
        ours, theirs = socket.socketpair()
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", BE_HOST, name, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )
        self.connection = Connection(ours)
        self.fds = []

    def send(self, message):
        self.connection.send(message)

    def receive(self):
        """The next message; None if the host is gone. Descriptors come to lie in `fds`."""
        try:
            body, fds = self.connection.receive(PATIENCE_S)
        except Unavailable:
            return None
        self.fds += fds
        return decode(body, FromHost)

    def wait(self):
        return self.process.wait(PATIENCE_S)

    def close(self):
        self.connection.close()
        for fd in self.fds:
            os.close(fd)
        self.process.kill()
        self.process.wait()


class Daemon:
    """A control socket that workers connect to."""

    def __init__(self, path):
        self.path = str(path)
        self.workers = []
        self.listen()

    def listen(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen()
        self.socket.settimeout(PATIENCE_S)

    def accept(self):
        sock, _ = self.socket.accept()
        sock.settimeout(None)
        worker = WorkerPeer(Connection(sock))
        self.workers.append(worker)
        return worker

    def vanish(self):
        """As if killed: every socket closes at once."""
        self.socket.close()
        os.unlink(self.path)  # noqa: PTH108
        for worker in self.workers:
            worker.connection.close()

    def close(self):
        self.socket.close()
        for worker in self.workers:
            worker.connection.close()


class WorkerPeer:
    """One worker, as the daemon sees it."""

    def __init__(self, connection):
        self.connection = connection
        self.fds = []
        self.hello = self.receive()
        assert isinstance(self.hello, WorkerHello)

    def receive(self):
        body, fds = self.connection.receive(PATIENCE_S)
        self.fds = fds
        return decode(body, FromWorker)

    def expect(self, kind):
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def start(self):
        """Send `Start`; our own end of the doorbell."""
        fd = bell.create()
        self.connection.send(Start(), (fd,))
        return fd

    def until(self, state):
        """The report of `state`; those before it are skipped."""
        while True:
            message = self.expect(WorkerReport)
            if message.state == state:
                return message
            assert message.state != "failed", message

    def serve(self, client, name="c"):
        self.connection.send(Serve(name, os.getpid(), os.getuid()), client.fds())
        return self.expect(Serving)

    def stats(self):
        self.connection.send(AskStats(1))
        return self.expect(Stats).stats

    def gone(self):
        """Wait for the worker to end."""
        try:
            while True:
                self.receive()
        except Unavailable:
            pass
