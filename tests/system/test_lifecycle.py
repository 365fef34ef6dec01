# SPDX-License-Identifier: BUSL-1.1
"""Versions, routes, loading and unloading; and whoever dies in the middle of a swap."""

import concurrent.futures
import os
import signal
import time

import httpx
import numpy as np
import pytest
import traces
from mlos_plugin_echo.engine import number_at

from mlos_core.errors import AlreadyExists, MlosError, NotFound, OutOfMemory

from . import stage as stages
from .kills import in_shared_memory, until

LOAD = (
    {"client": "sync", "turns": [("t", "infer"), ("t", "prepare"), ("t", "submit")]},
    {"client": "async", "turns": [("t", "infer"), ("s", "stream")]},
)
X = {"x": np.ones((1, 8))}


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = in_shared_memory()
    yield
    assert in_shared_memory() <= before


@pytest.fixture
def make_stage(daemons, plugin_path):
    """`make_stage(models)` is a daemon that serves them."""
    made = []

    def make(models=("t", "s"), **settings):
        stage = stages.Stage(daemons(), plugin_path, models)
        made.append(stage)
        return stage.start(**settings)

    yield make
    for stage in made:
        stage.close()


class Gate:
    """What waits at it goes on when it is opened; whoever comes later finds it open."""

    def __init__(self, folder):
        self.path = folder / "gate"
        os.mkfifo(self.path)

    def open(self):
        """Let everybody through."""
        fd = os.open(self.path, os.O_RDWR)
        self.path.rename(self.path.with_name("opened"))
        self.path.write_bytes(b"")
        os.close(fd)


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


class Background:
    """A call to the daemon that takes its time, on a connection of its own."""

    def __init__(self, daemon, method, **params):
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._future = self._pool.submit(self._call, daemon, method, params)

    def _call(self, daemon, method, params):
        with daemon.connect() as client:
            return client.call(method, **params)

    def result(self):
        try:
            return self._future.result(60)
        finally:
            self._pool.shutdown()

    def error(self):
        """What it was refused with, or None."""
        try:
            self.result()
        except MlosError as error:
            return error
        return None


def states(stage, model, version=None):
    """Version by version: its state and its candidate's."""
    return {
        v["version"]: (v["state"], v["candidate"])
        for v in stage.call("model", name=model)["versions"]
        if version in (None, v["version"])
    }


def candidate(stage, model, state="loading"):
    """Wait until a new version is in that state; the pids of its workers."""
    served = {w["pid"] for w in stage.call("model", name=model)["workers"]}
    until(lambda: any(c == state for _, c in states(stage, model).values()))
    new = traces.processes(stage.folder / "run")
    return {p for p in new if traces.name_of(p) == f"mlos:{model}"} - served or served


def who(model):
    """Which plugin and which model file answers."""
    with model.infer(X) as result:
        return tuple(int(value) for value in result["who"][0, :2])


# --- routes -----------------------------------------------------------------------------------


@pytest.fixture
def versions(make_stage):
    """The model `v` in versions 1.9 and 1.10 (file 19 and 110)."""
    stage = make_stage(())
    for version, number in (("1.9", 19), ("1.10", 110)):
        path = stage.plugin.model(number)
        stage.call("register", name="v", path=path, version=version, add=True)
    return stage


def answers(stage, count):
    """How many of `count` new channels, and of as many HTTP requests, got which file."""
    with stage.daemon.connect() as client:
        found = []
        models = [client.model("v", slots=1, request_bytes=1 << 16) for _ in range(count)]
        for model in models:
            found.append(who(model)[1])
        for model in models:
            model.close()
    body = {"inputs": {"x": X["x"].tolist()}}
    with httpx.Client(base_url=stage.http, trust_env=False, timeout=60) as http:
        over_http = []
        for _ in range(count):
            response = http.post("/api/v1/models/v/infer", json=body)
            assert response.status_code == 200, response.text
            over_http.append(response.json()["outputs"]["who"][0][1])
    return found, over_http


def test_the_route_decides_where_requests_without_a_version_go(versions):
    assert set(map(frozenset, answers(versions, 3))) == {frozenset({110})}
    versions.call("route_model", name="v", version="1.9")
    assert set(map(frozenset, answers(versions, 3))) == {frozenset({19})}
    versions.call("route_model", name="v", weights={"1.9": 3, "1.10": 1})
    for found in answers(versions, 40):
        assert found.count(19) + found.count(110) == 40
        assert 20 <= found.count(19) < 40, found
    versions.call("route_model", name="v", weights={"1.9": 0, "1.10": 1})
    assert set(map(frozenset, answers(versions, 3))) == {frozenset({110})}
    versions.call("route_model", name="v")
    assert versions.call("model", name="v")["route"]["kind"] == "latest"


def test_a_channel_follows_the_route_while_it_is_used(versions):
    with versions.daemon.connect() as client:
        model = client.model("v")
        pinned = client.model("v", version="1.9")
        by_name = client.model("v@1.9")
        assert [who(m)[1] for m in (model, pinned, by_name)] == [110, 19, 19]
        versions.call("route_model", name="v", version="1.9")
        until(lambda: who(model)[1] == 19)
        versions.call("route_model", name="v")
        until(lambda: who(model)[1] == 110)
        assert [who(m)[1] for m in (pinned, by_name)] == [19, 19]


def test_a_version_that_goes_leaves_its_channels_to_the_route(versions):
    with versions.daemon.connect() as client:
        model = client.model("v")
        pinned = client.model("v", version="1.10")
        assert [who(model)[1], who(pinned)[1]] == [110, 110]
        versions.call("unregister", name="v", version="1.10")
        assert who(model)[1] == 19
        with pytest.raises(NotFound):
            who(pinned)
        with pytest.raises(NotFound):
            client.model("v", version="1.10").link()


def test_versions_and_routes_survive_the_daemon(versions):
    versions.call("route_model", name="v", weights={"1.9": 1, "1.10": 3})
    before = versions.call("model", name="v")
    for end in (versions.daemon.stop, versions.daemon.kill):
        end()
        versions.daemon.start(**stages.SETTINGS)
        versions.reconnect()
        both = {"1.9": ("ready", ""), "1.10": ("ready", "")}
        until(lambda both=both: states(versions, "v") == both)
        assert versions.call("model", name="v")["route"] == before["route"]


# --- loading and unloading --------------------------------------------------------------------


def test_the_first_request_loads_and_silence_unloads(make_stage):
    stage = make_stage(())
    path = stage.plugin.model(1)
    stage.call("register", name="d", path=path, load="demand", keep_alive=0.3)
    assert stage.call("model", name="d")["state"] == "registered"
    assert stage.pids("d") == set()
    with stage.daemon.connect() as client:
        model = client.model("d")
        assert who(model) == (1, 1)
        for _ in range(3):
            until(lambda: stage.call("model", name="d")["state"] == "unloaded")
            assert stage.pids("d") == set()
            assert who(model) == (1, 1)
        until(lambda: stage.call("model", name="d")["state"] == "unloaded")
        stage.call("load_model", name="d")
        assert stage.call("model", name="d")["state"] == "ready"
        stage.call("unload_model", name="d")
        assert stage.pids("d") == set()
        results = [model.submit(X) for _ in range(4)]
        for future in results:
            with future.result() as result:
                assert result["y"].shape == (1, 8)


def test_a_model_that_cannot_be_loaded_on_demand_says_why(make_stage):
    stage = make_stage(())
    stage.call("register", name="d", path=stage.plugin.model(1, load="raise"), load="demand")
    with stage.daemon.connect() as client, pytest.raises(MlosError, match="this version is broken"):
        who(client.model("d"))


def test_memory_for_a_model_is_taken_from_who_was_asked_longest_ago(make_stage):
    stage = make_stage((), MLOS_MEMORY_BUDGET=str(100 << 20))
    for name in "abc":
        path = stage.plugin.model(ord(name), ballast=32 << 20)
        stage.call("register", name=name, path=path, load="demand", memory=40 << 20)
    with stage.daemon.connect() as client:
        models = {name: client.model(name) for name in "abc"}

        def loaded():
            return {m["name"] for m in stage.call("models") if m["state"] == "ready"}

        for name, left in (("a", "a"), ("b", "ab"), ("c", "bc"), ("a", "ac"), ("c", "ac")):
            assert who(models[name]) == (1, ord(name))
            assert loaded() == set(left)
        stage.call("register", name="e", path=stage.plugin.model(9), memory=1, load="demand")
        assert who(client.model("e")) == (1, 9)
    with pytest.raises(OutOfMemory) as caught:
        stage.call("register", name="big", path=stage.plugin.model(8), memory=200 << 20)
    assert "200" in str(caught.value)
    assert "100" in str(caught.value)
    with pytest.raises(NotFound):
        stage.call("model", name="big")


def test_a_swap_needs_memory_for_both(make_stage):
    stage = make_stage((), MLOS_MEMORY_BUDGET=str(100 << 20))
    for name in "ab":
        path = stage.plugin.model(ord(name), ballast=32 << 20)
        stage.call("register", name=name, path=path, memory=40 << 20, keep_alive=3600.0)
    path = stage.plugin.model(3, ballast=32 << 20)
    stage.call("swap_model", name="a", path=path)  # for which b makes room
    assert {m["name"]: m["state"] for m in stage.call("models")} == {"a": "ready", "b": "unloaded"}
    path = stage.plugin.model(4, ballast=32 << 20)
    stage.call("register", name="c", path=path, memory=80 << 20)
    with pytest.raises(OutOfMemory, match="being swapped"):
        stage.call("swap_model", name="c", path=stage.plugin.model(5))
    with stage.daemon.connect() as client:
        assert who(client.model("c")) == (1, 4)


# --- who dies in the middle of a swap ---------------------------------------------------------


def sound(stage, clients):
    """Nobody has noticed anything, every model is served by one worker, no candidate is left."""
    clients.wait_more()
    assert stages.faults_of(clients.end(), stage.history) == []
    for model in stage.models:
        until(lambda model=model: set(states(stage, model).values()) == {("ready", "")})

    def workers():
        pids = traces.processes(stage.folder / "run")
        return {p for p in pids if traces.name_of(p).startswith("mlos:")}

    until(lambda: workers() == stage.pids(), show=lambda: f"{workers()} and {stage.pids()}")


@pytest.mark.parametrize("kind", ["model", "plugin"])
def test_a_daemon_killed_in_a_swap_is_followed_by_one_that_serves(make_stage, gate, kind):
    stage = make_stage()
    with stages.Clients(stage, LOAD) as clients:
        if kind == "model":
            path = stage.plugin.model(50, load=str(gate.path))
            swap = Background(stage.daemon, "swap_model", name="t", path=path)
        else:
            stage.plugin.install(2, load=str(gate.path))
            swap = Background(stage.daemon, "swap_plugin", name="storm")
        candidate(stage, "t")
        stage.daemon.kill()
        assert swap.error() is not None
        clients.wait_more()
        stage.plugin.install(1)
        stage.daemon.start(**stages.SETTINGS)
        gate.open()
        stage.reconnect()
        until(lambda: stage.call("status")["ready"])
        clients.wait_more()
        stage.swap_model("t")
        stage.swap_plugin()
        sound(stage, clients)


def test_a_candidate_that_is_killed_takes_nothing_along(make_stage, gate):
    stage = make_stage()
    with stages.Clients(stage, LOAD) as clients:
        path = stage.plugin.model(50, load=str(gate.path))
        before = stage.pids()
        swap = Background(stage.daemon, "swap_model", name="t", path=path)
        for pid in candidate(stage, "t") - before:
            os.kill(pid, signal.SIGKILL)
        began = time.monotonic_ns()
        gate.open()
        if swap.error() is None:  # it was started again, and did better
            stage.serves("t", 50, began)
        else:
            assert stage.pids() == before
        sound(stage, clients)


def test_a_host_that_is_killed_while_it_imports_is_a_swap_that_did_not_happen(make_stage, gate):
    stage = make_stage()
    with stages.Clients(stage, LOAD) as clients:
        before = stage.pids()

        def hosts():
            pids = traces.processes(stage.folder / "run")
            return {p for p in pids if traces.name_of(p) == "mlos-host:storm"}

        old = hosts()
        stage.plugin.install(2, **{"import": str(gate.path)})
        swap = Background(stage.daemon, "swap_plugin", name="storm")
        until(lambda: hosts() - old)
        for pid in hosts() - old:
            os.kill(pid, signal.SIGKILL)
        assert swap.error() is not None
        assert stage.pids() == before
        gate.open()
        stage.plugin.install(1)
        stage.swap_plugin()
        sound(stage, clients)


def test_a_new_worker_that_is_killed_is_succeeded_by_its_own_version(make_stage):
    stage = make_stage()
    with stages.Clients(stage, LOAD) as clients:
        for _ in range(3):
            stage.swap_plugin()
            began = stage.operations[-1][1]
            for pid in stage.pids("t"):
                os.kill(pid, signal.SIGKILL)
            clients.wait_more()
            # A successor is loaded later, and is as good.
            stage.serves("t", stage.numbers["t"], began)
        sound(stage, clients)


@pytest.mark.parametrize(("patience", "ends_on"), [("30", 1), ("0.1", 2)])
def test_a_stream_ends_on_its_worker_or_goes_on_in_the_next(make_stage, patience, ends_on):
    stage = make_stage(("s",), MLOS_DRAIN_TIMEOUT=patience)
    count, prompt = 700, b"a long story"
    with stage.daemon.connect() as client:
        stream = client.model("s").stream({"prompt": [prompt]}, parameters={"count": count})
        events = [next(stream) for _ in range(20)]
        stage.swap_model("s")
        events += list(stream)
        assert events == [number_at(prompt, 0, at) for at in range(count)]
        with stream.result as result:
            assert result["numbers"].tolist() == events
            assert result["who"][:2].tolist() == [1, ends_on]


def test_two_swaps_of_one_model_do_not_meet(make_stage, gate):
    stage = make_stage()
    with stages.Clients(stage, LOAD) as clients:
        path = stage.plugin.model(50, load=str(gate.path))
        began = time.monotonic_ns()
        first = Background(stage.daemon, "swap_model", name="t", path=path)
        candidate(stage, "t")
        other = stage.plugin.model(51)
        assert isinstance(stage.refused("swap_model", name="t", path=other), AlreadyExists)
        assert isinstance(stage.refused("swap_plugin", name="storm"), AlreadyExists)
        gate.open()
        first.result()
        stage.serves("t", 50, began)
        stage.swap_plugin()
        sound(stage, clients)


def test_a_model_that_is_unregistered_in_a_swap_is_gone(make_stage, gate):
    stage = make_stage()
    path = stage.plugin.model(50, load=str(gate.path))
    swap = Background(stage.daemon, "swap_model", name="t", path=path)
    candidate(stage, "t")
    stage.call("unregister", name="t")
    gate.open()
    assert swap.error() is not None
    assert [m["name"] for m in stage.call("models")] == ["s"]
    run = stage.folder / "run"
    until(lambda: {traces.name_of(p) for p in traces.processes(run)}.isdisjoint({"mlos:t"}))
    stage.call("register", name="t", path=stage.plugin.model(1))
    with stage.daemon.connect() as client:
        assert who(client.model("t")) == (1, 1)


def failed(model):
    """Whether the broken version was asked, and failed as it does after some good answers."""
    try:
        assert who(model) in ((1, 1), (1, 50))
    except MlosError as error:
        if "this version is broken" not in str(error):
            raise
        return True
    return False


# --- the trial --------------------------------------------------------------------------------


def test_a_version_that_fails_its_trial_is_taken_back(make_stage):
    stage = make_stage()
    path = stage.plugin.model(50, serve="raise")
    with stage.daemon.connect() as client:
        model = client.model("t")
        swap = Background(stage.daemon, "swap_model", name="t", path=path, canary=30.0)
        failures = 0
        while stage.call("model", name="t")["versions"][0]["candidate"] or not failures:
            failures += failed(model)
        assert "failed" in str(swap.error())
        for _ in range(50):
            assert who(model) == (1, 1)


def test_a_version_that_stands_its_trial_takes_over(make_stage):
    stage = make_stage()
    with stages.Clients(stage, LOAD) as clients:
        stage.swap_model("t", canary=0.5)
        stage.swap_plugin(canary=0.5)
        sound(stage, clients)


def test_a_swap_is_taken_back_to_what_was_served_before(make_stage):
    stage = make_stage()
    with stages.Clients(stage, LOAD) as clients:
        stage.swap_model("t")
        stage.rollback("t")
        assert stage.history.maker("t") == (1, 1)
        clients.wait_more()
        sound(stage, clients)
    with stage.daemon.connect() as client:
        assert who(client.model("t")) == (1, 1)
