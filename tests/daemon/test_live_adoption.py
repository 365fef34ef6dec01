# SPDX-License-Identifier: BUSL-1.1
"""A daemon that is killed: its workers go on, and the next daemon takes them over."""

import os
import signal

import numpy as np

X = {"x": np.arange(4, dtype=np.float32)}


def asked(model, timeout=20):
    np.testing.assert_array_equal(model.infer(X, timeout=timeout)["x"], X["x"])


def workers(daemon, name="m"):
    return daemon.call("model", name=name)["workers"]


def test_clients_are_answered_without_a_daemon_and_by_the_next_one(daemon, echo_file):
    daemon.call("register", name="m", path=echo_file())
    (before,) = workers(daemon)
    with daemon.connect() as client:
        model = client.model("m")
        asked(model)
        daemon.kill()
        asked(model)
        daemon.start()
        daemon.journal.wait("worker_ready")
        (after,) = workers(daemon)
        assert (after["pid"], after["owner"]) == (before["pid"], before["owner"])
        assert daemon.call("status")["ready"]
        asked(model)


def test_an_adopted_worker_that_dies_is_replaced_and_its_channels_recovered(daemon, echo_file):
    daemon.call("register", name="m", path=echo_file())
    (before,) = workers(daemon)
    with daemon.connect() as client:
        model = client.model("m")
        asked(model)
        daemon.kill()
        daemon.start()
        os.kill(before["pid"], signal.SIGKILL)
        asked(model)
        (after,) = workers(daemon)
    assert after["owner"] > before["owner"]


def test_a_worker_that_dies_without_a_daemon_is_replaced_by_the_next(daemon, echo_file):
    daemon.call("register", name="m", path=echo_file())
    (before,) = workers(daemon)
    with daemon.connect() as client:
        model = client.model("m")
        asked(model)
        daemon.kill()
        os.kill(before["pid"], signal.SIGKILL)
        future = model.submit(X)
        daemon.start()
        np.testing.assert_array_equal(future.result(20)["x"], X["x"])


def test_a_worker_that_does_not_come_back_is_killed(daemons, echo_file):
    daemon = daemons(MLOS_ADOPT_GRACE="0.5").start()
    daemon.call("register", name="m", path=echo_file())
    (before,) = workers(daemon)
    daemon.kill()
    os.kill(before["pid"], signal.SIGSTOP)
    daemon.start()
    daemon.journal.wait("survivor_killed")
    daemon.journal.wait("worker_ready")
    (after,) = workers(daemon)
    assert after["pid"] != before["pid"]


def test_an_upgrade_can_leave_the_workers_running(daemons, echo_file):
    daemon = daemons(MLOS_KEEP_WORKERS="true").start()
    daemon.call("register", name="m", path=echo_file(), instances=2)
    daemon.journal.wait("worker_ready", count=2)
    before = [worker["pid"] for worker in workers(daemon)]
    with daemon.connect() as client:
        model = client.model("m")
        asked(model)
        assert daemon.stop() == 0
        asked(model)
        daemon.start(MLOS_KEEP_WORKERS="false")
        assert [worker["pid"] for worker in workers(daemon)] == before
        asked(model)


def test_the_channels_of_a_client_that_died_meanwhile_are_freed(daemon, echo_file):
    daemon.call("register", name="m", path=echo_file())
    pid = os.fork()
    if pid == 0:
        try:
            asked(daemon.connect().model("m"))
        finally:
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    daemon.kill()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    daemon.start()
    daemon.journal.wait("worker_adopted")
    daemon.journal.wait("worker_ready")
    status = daemon.call("status")
    assert status["channels"] == 0


def test_a_worker_of_a_model_that_nobody_registered_is_ended(daemon, echo_file):
    daemon.call("register", name="m", path=echo_file())
    daemon.kill()
    (daemon.folder / "state" / "registry.json").unlink()
    daemon.start()
    daemon.journal.wait("survivor_killed", model="m")
    assert daemon.call("models") == []


def test_owners_are_not_reused_even_if_the_state_folder_is_lost(daemon, echo_file):
    daemon.call("register", name="m", path=echo_file())
    (before,) = workers(daemon)
    daemon.kill()
    (daemon.folder / "state" / "owners.json").unlink()
    daemon.start()
    daemon.journal.wait("worker_ready")
    os.kill(before["pid"], signal.SIGKILL)
    daemon.journal.wait("worker_gone")
    daemon.journal.wait("worker_ready", count=2)
    (after,) = workers(daemon)
    assert after["owner"] > before["owner"]
