# SPDX-License-Identifier: BUSL-1.1
"""Workers that die, hang, drain and come back: real processes, really killed."""

import os
import signal
import threading

import numpy as np
import pytest

from mlos_core.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidInput,
    LoadFailed,
    MlosError,
    NotFound,
    PayloadTooLarge,
    PluginBroken,
    Quarantined,
    Unavailable,
)

X = {"x": np.arange(4, dtype=np.float32)}
ZERO = {"x": np.zeros(4, np.float32)}
ONES = {"x": np.ones(4, np.float32)}


def register(daemon, path, name="m", **options):
    return daemon.call("register", name=name, path=path, **options)


def worker_pid(daemon, name="m"):
    return daemon.call("model", name=name)["workers"][0]["pid"]


def test_a_registered_model_answers(daemon, echo_file):
    info = register(daemon, echo_file())
    assert info["state"] == "ready"
    assert info["plugin"] == "echo"
    with daemon.connect() as client:
        np.testing.assert_array_equal(client.model("m").infer(X)["x"], X["x"])


def test_registered_models_come_back_after_a_restart(daemon, echo_file):
    register(daemon, echo_file("sum"), options={"batched": False})
    daemon.stop()
    daemon.start()
    with daemon.connect() as client:
        assert client.model("m").infer(X)["sum"] == 6.0
        assert client.call("model", name="m")["options"] == {"batched": False}


def test_hundreds_of_kills_lose_nothing_and_never_reuse_an_owner(daemon, echo_file):
    register(daemon, echo_file())
    kills = 100
    with daemon.connect() as client:
        model = client.model("m")
        for round in range(1, kills + 1):
            pid = daemon.journal.wait("worker_ready", count=round)["pid"]
            os.kill(pid, signal.SIGKILL)
            value = {"x": np.full(3, round, np.float32)}
            np.testing.assert_array_equal(model.infer(value, timeout=20)["x"], value["x"])
    owners = [event["owner"] for event in daemon.journal.events("worker_ready")]
    assert len(set(owners)) == len(owners)
    assert owners == sorted(owners)


def test_a_request_that_keeps_killing_its_worker_is_quarantined(daemon, echo_file):
    register(daemon, echo_file("crash"), warmup=False)
    with daemon.connect() as client:
        model = client.model("m")
        model.infer(ZERO)
        with pytest.raises(Quarantined):
            model.infer({"x": np.ones(1, np.float32)}, timeout=20)
        np.testing.assert_array_equal(model.infer(ZERO)["x"], ZERO["x"])
        assert client.call("model", name="m")["restarts"] == 3


def test_several_instances_serve_and_one_may_die(daemon, echo_file):
    info = register(daemon, echo_file(), instances=3)
    daemon.journal.wait("worker_ready", count=3)
    assert info["instances"] == 3
    os.kill(worker_pid(daemon), signal.SIGKILL)
    daemon.journal.wait("worker_gone")
    with daemon.connect() as client:
        np.testing.assert_array_equal(client.model("m").infer(X)["x"], X["x"])
    daemon.journal.wait("worker_ready", count=4)
    workers = daemon.call("model", name="m")["workers"]
    assert [w["state"] for w in workers] == ["ready"] * 3


def test_a_model_that_cannot_be_loaded_is_not_registered(daemon, tmp_path):
    path = tmp_path / "bad.echo"
    path.write_text("mode = 'nonsense'")
    with pytest.raises(LoadFailed, match="description"):
        register(daemon, str(path))
    assert daemon.call("models") == []
    assert daemon.call("status")["workers"] == 0


def test_a_model_that_does_not_load_shows_why_when_nobody_waits(daemon, tmp_path):
    path = tmp_path / "bad.echo"
    path.write_text("mode = 'nonsense'")
    register(daemon, str(path), wait=False)
    daemon.journal.wait("model_failed")
    info = daemon.call("model", name="m")
    assert info["state"] == "failed"
    assert "description" in info["reason"]
    with daemon.connect() as client, pytest.raises(LoadFailed, match="description"):
        client.model("m").infer(X)


def test_a_gpu_that_is_not_there_is_an_error_and_never_a_silent_cpu(daemon, echo_file):
    with pytest.raises(MlosError, match="cuda:99"):
        register(daemon, echo_file(), device="cuda:99")
    assert daemon.call("models") == []


def test_a_worker_that_dies_at_every_start_fails_the_model(daemon, make_plugin):
    path = make_plugin("dying", load="os._exit(3)")
    with pytest.raises(LoadFailed, match=r"5 times.*exit code 3"):
        register(daemon, path)


def test_a_load_that_hangs_is_ended(daemons, make_plugin):
    daemon = daemons(MLOS_LOAD_TIMEOUT="1", MLOS_RESTART_LIMIT="1").start()
    path = make_plugin("hanging", load="time.sleep(60)")
    with pytest.raises(DeadlineExceeded, match="not loaded within 1 s"):
        register(daemon, path, timeout=30)


def test_a_model_that_still_loads_goes_on_loading(daemon, make_plugin, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    path = make_plugin("slow", load=f"open({str(gate)!r}).read()")
    with pytest.raises(DeadlineExceeded, match="loading"), daemon.connect() as client:
        client.session().call("register", {"name": "m", "path": path, "timeout": 0.5}, 30)
    with gate.open("w"):
        pass
    daemon.journal.wait("worker_ready")
    assert daemon.call("model", name="m")["state"] == "ready"


def test_a_hanging_load_does_not_delay_the_end(daemon, make_plugin):
    path = make_plugin("hanging", load="time.sleep(60)")
    register(daemon, path, wait=False)
    daemon.journal.wait("host_ready", plugin="hanging")
    assert daemon.stop() == 0


def test_a_worker_that_gets_sigterm_finishes_and_is_replaced(daemon, echo_file):
    register(daemon, echo_file())
    os.kill(worker_pid(daemon), signal.SIGTERM)
    gone = daemon.journal.wait("worker_gone")
    assert gone["how"] == "exit code 0"
    daemon.journal.wait("worker_ready", count=2)
    with daemon.connect() as client:
        np.testing.assert_array_equal(client.model("m").infer(X)["x"], X["x"])


def test_the_host_may_die_while_its_worker_serves(daemon, echo_file):
    register(daemon, echo_file())
    host = daemon.journal.wait("host_ready", plugin="echo")["pid"]
    worker = worker_pid(daemon)
    os.kill(host, signal.SIGKILL)
    daemon.journal.wait("host_ended", pid=host)
    with daemon.connect() as client:
        model = client.model("m")
        np.testing.assert_array_equal(model.infer(X)["x"], X["x"])
        os.kill(worker, signal.SIGKILL)
        np.testing.assert_array_equal(model.infer(X, timeout=20)["x"], X["x"])
    assert len(daemon.journal.events("host_ready")) >= 2


def test_a_broken_plugin_is_listed_with_the_reason_and_hurts_nobody(daemon, make_plugin, echo_file):
    make_plugin("torn", top="import a_module_that_is_missing")
    make_plugin("bursting", top="os.abort()")
    statuses = {s["name"]: s for s in daemon.call("plugins")}
    assert statuses["torn"]["state"] == "broken"
    assert "a_module_that_is_missing" in statuses["torn"]["reason"]
    assert "Traceback" in statuses["torn"]["traceback"]
    assert statuses["bursting"]["state"] == "broken"
    assert "SIGABRT" in statuses["bursting"]["reason"]
    assert statuses["echo"]["state"] == "ready"
    register(daemon, echo_file())


def test_a_model_of_a_broken_plugin_fails_with_its_reason(daemon, make_plugin):
    path = make_plugin("torn", top="import a_module_that_is_missing")
    with pytest.raises(PluginBroken, match="a_module_that_is_missing"):
        register(daemon, path, plugin="torn")
    with pytest.raises(InvalidInput, match="no installed plugin loads"):
        register(daemon, path)


def test_two_plugins_of_one_name_are_refused_by_name(daemon, make_plugin):
    make_plugin("twin", distribution="first_twin")
    path = make_plugin("twin", distribution="second_twin")
    with pytest.raises(PluginBroken, match=r"first.twin and second.twin"):
        register(daemon, path, plugin="twin")
    (status,) = [s for s in daemon.call("plugins") if s["name"] == "twin"]
    assert status["state"] == "conflict"


def test_an_unknown_plugin_or_model_is_answered_with_the_nearest(daemon, echo_file):
    with pytest.raises(NotFound) as caught:
        register(daemon, echo_file(), plugin="ecko")
    assert "'echo'" in caught.value.hint
    register(daemon, echo_file(), name="magika")
    with daemon.connect() as client, pytest.raises(NotFound) as caught:
        client.model("majika").infer(X)
    assert "'magika'" in caught.value.hint


def test_a_name_is_not_taken_twice(daemon, echo_file):
    register(daemon, echo_file())
    register(daemon, echo_file())
    with pytest.raises(AlreadyExists):
        register(daemon, echo_file("sum"))


def test_a_model_is_replaced_while_its_clients_go_on(daemon, echo_file):
    register(daemon, echo_file("number"))
    stop, begun = threading.Event(), threading.Event()
    answers = []

    def ask(model):
        while not stop.is_set():
            answers.append({name: float(array[0]) for name, array in model.infer(X).items()})
            begun.set()

    with daemon.connect() as client:
        thread = threading.Thread(target=ask, args=(client.model("m"),))
        thread.start()
        assert begun.wait(30)
        register(daemon, echo_file("sum"), replace=True)
        daemon.journal.wait("worker_gone")
        before = len(answers)
        while len(answers) < before + 10 and thread.is_alive():
            pass
        stop.set()
        thread.join()
    assert {"number": 0.0} in answers
    assert answers[-1] == {"sum": 6.0}
    assert daemon.call("model", name="m")["restarts"] == 0


def test_a_replacement_that_does_not_load_leaves_the_old_model(daemon, echo_file, tmp_path):
    register(daemon, echo_file())
    bad = tmp_path / "bad.echo"
    bad.write_text("mode = 'nonsense'")
    with pytest.raises(LoadFailed):
        register(daemon, str(bad), replace=True)
    assert daemon.call("model", name="m")["path"] == echo_file()
    with daemon.connect() as client:
        np.testing.assert_array_equal(client.model("m").infer(X)["x"], X["x"])


def test_an_unregistered_model_is_gone_with_its_workers_and_its_host(daemon, echo_file):
    register(daemon, echo_file())
    with daemon.connect() as client:
        model = client.model("m")
        model.infer(X)
        client.call("unregister", name="m")
        with pytest.raises(NotFound):
            model.infer(X)
    daemon.journal.wait("host_ended")
    status = daemon.call("status")
    assert (status["models"], status["workers"], status["channels"]) == (0, 0, 0)
    daemon.stop()
    daemon.start()
    assert daemon.call("models") == []


def test_the_channel_of_a_client_that_leaves_is_freed(daemon, echo_file):
    register(daemon, echo_file())
    with daemon.connect() as other:
        with daemon.connect() as client:
            client.model("m").infer(X)
            assert other.call("status")["channels"] == 1
        daemon.journal.wait("channel_closed", count=2)
        assert other.call("status")["channels"] == 0
        assert other.call("status")["memory"]["channels"] == 0


def test_arenas_larger_than_allowed_are_refused(daemons, echo_file):
    daemon = daemons(MLOS_MAX_ARENA_BYTES=str(1 << 20), MLOS_MAX_SLOTS="8").start()
    register(daemon, echo_file())
    with daemon.connect() as client:
        with pytest.raises(PayloadTooLarge):
            client.model("m", slots=4, request_bytes=1 << 21).infer(X)
        with pytest.raises(InvalidInput):
            client.model("m", slots=9, request_bytes=1 << 16, reply_bytes=1 << 16).infer(X)


def test_counters_add_up_over_workers_past_and_present(daemon, echo_file):
    register(daemon, echo_file(), warmup=False)
    with daemon.connect() as client:
        model = client.model("m")
        before = client.call("stats", name="m")["m"]["requests"]
        for _ in range(5):
            model.infer(X)
        assert client.call("stats", name="m")["m"]["requests"] - before == 5
        os.kill(worker_pid(daemon), signal.SIGKILL)
        daemon.journal.wait("worker_ready", count=2)
        for _ in range(5):
            model.infer(X)
        stats = client.call("stats", name="m")["m"]
        assert stats["requests"] - before >= 10
        assert stats["restarts"] == 1


def test_a_killed_worker_is_replaced_and_no_request_is_lost(daemon, gate):
    register(daemon, gate.model)
    with daemon.connect() as client:
        future = client.model("m").submit(ONES)
        with gate.hold():
            os.kill(worker_pid(daemon), signal.SIGKILL)
            daemon.journal.wait("worker_gone")
        with gate.hold():
            pass
        np.testing.assert_array_equal(future.result(20)["y"], ONES["x"] * 2)
        assert client.call("model", name="m")["restarts"] == 1


def test_what_was_accepted_is_answered_before_the_daemon_ends(daemon, gate):
    register(daemon, gate.model)
    with daemon.connect() as client:
        future = client.model("m").submit(ONES)
        with gate.hold():
            daemon.signal(signal.SIGTERM)
            daemon.journal.wait("worker_drains")
            with pytest.raises(Unavailable):
                daemon.connect()
        np.testing.assert_array_equal(future.result(20)["y"], ONES["x"] * 2)
        assert daemon.process.wait(30) == 0
    assert daemon.journal.events("worker_gone", how="exit code 0")


def test_a_worker_that_does_not_drain_is_killed(daemons, gate):
    daemon = daemons(MLOS_DRAIN_TIMEOUT="0.3").start()
    register(daemon, gate.model)
    with daemon.connect() as client:
        future = client.model("m").submit(ONES)
        with gate.hold():
            assert daemon.stop() == 0
        with pytest.raises(Unavailable):
            future.result(20)
    assert daemon.journal.wait("worker_gone")["how"] == "SIGKILL"


def test_a_second_signal_ends_it_at_once(daemon, gate):
    register(daemon, gate.model)
    with daemon.connect() as client:
        future = client.model("m").submit(ONES)
        with gate.hold():
            daemon.signal(signal.SIGTERM)
            daemon.journal.wait("worker_drains")
            daemon.signal(signal.SIGTERM)
            assert daemon.process.wait(30) == 0
        with pytest.raises(Unavailable):
            future.result(20)
