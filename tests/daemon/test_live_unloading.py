# SPDX-License-Identifier: BUSL-1.1
"""Models that are not in memory: who is loaded again, by what, and who is left alone."""

import os
import signal
import threading

import numpy as np
import pytest

from mlos_core.errors import NotFound

ONES = {"x": np.ones(4, np.float32)}


def register(daemon, path, name="m", **options):
    return daemon.call("register", name=name, path=path, **options)


def states(daemon, name="m"):
    return {v["version"]: v["state"] for v in daemon.call("model", name=name)["versions"]}


def test_a_request_that_outlives_its_worker_in_an_unload_loads_the_model(daemons, gate):
    daemon = daemons(MLOS_DRAIN_TIMEOUT="0.3").start()
    register(daemon, gate.model)
    with daemon.connect() as client:
        future = client.model("m").submit(ONES)
        with gate.hold():
            daemon.call("unload_model", name="m")
        assert daemon.journal.events("worker_gone", how="SIGKILL")
        with gate.hold():
            pass
        np.testing.assert_array_equal(future.result(20)["y"], ONES["x"] * 2)


def test_idle_models_are_unloaded_also_after_an_unloaded_one_was_unregistered(daemon, echo_file):
    register(daemon, echo_file(), name="a")
    with daemon.connect() as client:
        model = client.model("a")
        model.infer(ONES, timeout=20)
        client.call("unload_model", name="a")
        client.call("unregister", name="a")
    for name in ("b", "c"):
        register(daemon, echo_file(), name=name, keep_alive=0.01)
        daemon.journal.wait("model_unloaded", model=name)
    assert not [line for line in daemon.journal.lines if line.get("level") == "error"]


def test_a_request_to_what_was_unregistered_while_unloaded_is_told_so(daemon, echo_file):
    register(daemon, echo_file(), name="a")
    with daemon.connect() as client:
        model = client.model("a")
        client.call("unload_model", name="a")
        client.call("unregister", name="a")
        with pytest.raises(NotFound):
            model.infer(ONES, timeout=20)
    assert not [line for line in daemon.journal.lines if line.get("level") == "error"]


def test_a_version_nobody_asks_stays_unloaded_whatever_becomes_of_the_others(daemon, echo_file):
    register(daemon, echo_file(), version="1")
    register(daemon, echo_file(), version="2", add=True)
    with daemon.connect() as client:
        old, new = client.model("m", version="1"), client.model("m")
        old.ping()
        client.call("unload_model", name="m", version="1")
        (worker,) = client.call("model", name="m")["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        daemon.journal.wait("worker_ready", count=3)
        new.infer(ONES, timeout=20)
        assert states(daemon) == {"1": "unloaded", "2": "ready"}
        old.infer(ONES, timeout=20)
        assert states(daemon) == {"1": "ready", "2": "ready"}


def test_a_version_that_fails_leaves_its_requests_to_the_route(daemon, make_plugin, tmp_path):
    broken = tmp_path / "broken"
    register(daemon, make_plugin("good"), version="1")
    load = f"if os.path.exists({str(broken)!r}): raise LoadFailed('it is broken')"
    register(daemon, make_plugin("bad", load=load), version="2", add=True)
    with daemon.connect() as client:
        model = client.model("m")
        model.ping()
        (worker,) = (w for w in client.call("model", name="m")["workers"] if w["version"] == "2")
        os.kill(worker["pid"], signal.SIGSTOP)
        future = model.submit(ONES)
        broken.touch()
        os.kill(worker["pid"], signal.SIGKILL)
        np.testing.assert_array_equal(future.result(20)["y"], ONES["x"] * 2)
        assert states(daemon) == {"1": "ready", "2": "failed"}


def test_a_plugin_is_swapped_beside_a_model_that_is_being_unloaded(daemons, gate):
    daemon = daemons(MLOS_DRAIN_TIMEOUT="2").start()
    register(daemon, gate.model)
    with daemon.connect() as client, daemon.connect() as other:
        future = client.model("m").submit(ONES)
        with gate.hold():
            unload = threading.Thread(
                target=other.call, args=("unload_model",), kwargs={"name": "m"}
            )
            unload.start()
            daemon.journal.wait("worker_drains")
            assert client.call("swap_plugin", name="gated")["models"] == []
        unload.join(30)
        future.result(20)
        assert states(daemon) == {"": "unloaded"}
