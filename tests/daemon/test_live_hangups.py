# SPDX-License-Identifier: BUSL-1.1
"""Clients that hang up in the middle of what they asked for, and what goes on behind them."""

import os
import socket

import numpy as np
import pytest

from mlos_core.errors import NotFound
from mlos_core.ipc import framing
from mlos_core.ipc.messages import Call, Hello

ONES = {"x": np.ones(4, np.float32)}


class Caller:
    """A client that does not wait for its answer."""

    def __init__(self, daemon, method, **params):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(30)
        self._socket.connect(str(daemon.socket))
        connection = framing.Connection(self._socket)
        connection.send(Hello(os.getpid()))
        connection.receive(30)
        connection.send(Call(1, method, params))

    def hang_up(self, daemon):
        """Leave; returns once the daemon has noticed."""
        self._socket.close()
        daemon.call("status")  # whoever connects later is heard later


def register(daemon, path, name="m", **options):
    return daemon.call("register", name=name, path=path, **options)


def test_an_unload_goes_on_without_who_asked_for_it(daemon, gate):
    register(daemon, gate.model)
    with daemon.connect() as client:
        model = client.model("m")
        first = model.submit(ONES)
        with gate.hold():
            caller = Caller(daemon, "unload_model", name="m")
            daemon.journal.wait("worker_drains")
            caller.hang_up(daemon)
        first.result(20)
        daemon.journal.wait("model_unloaded")
        second = model.submit(ONES)
        with gate.hold():
            pass
        second.result(20)


def test_an_unregistration_goes_on_without_who_asked_for_it(daemon, gate):
    register(daemon, gate.model)
    with daemon.connect() as client:
        model = client.model("m")
        first = model.submit(ONES)
        with gate.hold():
            caller = Caller(daemon, "unregister", name="m")
            daemon.journal.wait("worker_drains")
            caller.hang_up(daemon)
        first.result(20)
        with pytest.raises(NotFound):
            model.infer(ONES, timeout=20)
    assert daemon.call("models") == []


def test_a_version_goes_without_who_asked_for_it(daemon, gate):
    register(daemon, gate.model, version="1")
    register(daemon, gate.model, version="2", add=True)
    with daemon.connect() as client:
        first = client.model("m").submit(ONES)
        with gate.hold():
            caller = Caller(daemon, "unregister", name="m", version="2")
            daemon.journal.wait("worker_state", to="ready")
            caller.hang_up(daemon)
        first.result(20)
        daemon.journal.wait("worker_gone")
    (version,) = daemon.call("model", name="m")["versions"]
    assert (version["version"], version["workers"]) == ("1", 1)


def test_a_plugin_that_nobody_waits_for_any_more_is_not_imported(daemon, make_plugin, tmp_path):
    fifo, again = tmp_path / "fifo", tmp_path / "again"
    os.mkfifo(fifo)
    top = f"if os.path.exists({str(again)!r}): open({str(fifo)!r}, 'rb').read()"
    register(daemon, make_plugin("slow", top=top))
    again.touch()
    caller = Caller(daemon, "swap_plugin", name="slow")
    with fifo.open("wb"):
        caller.hang_up(daemon)
        daemon.journal.wait("host_ended")
    assert daemon.call("plugins")
    assert daemon.call("model", name="m")["state"] == "ready"
