# SPDX-License-Identifier: BUSL-1.1
"""Statistics of a running daemon: by version, over swaps, and of what waits."""

import os
import signal

import numpy as np
import pytest

from mlos_core.client import connect
from mlos_core.errors import ModelFailed

ONE = {"x": np.ones(1, np.float32)}
FREE = {"x": np.zeros(1, np.float32)}


@pytest.fixture
def client(daemon):
    with connect(daemon.socket) as made:
        yield made


def ask(model, times, inputs=ONE):
    for _ in range(times):
        model.infer(inputs)


def counted(row):
    """Requests, and how many times each histogram has counted."""
    return row["requests"], *(row["latency"][name]["count"] for name in row["latency"])


def test_each_version_counts_for_itself_and_all_for_the_model(client, echo_file):
    client.call("register", name="m", path=echo_file(), version="1")
    client.call("register", name="m", path=echo_file(), version="2", add=True)
    ask(client.model("m", version="1"), 3)
    ask(client.model("m", version="2"), 2)
    stats = client.call("stats")["m"]
    assert counted(stats["versions"]["1"]) == (3, 3, 3, 3)
    assert counted(stats["versions"]["2"]) == (2, 2, 2, 2)
    assert counted(stats) == (5, 5, 5, 5)
    latency = stats["latency"]["request"]
    assert 0 < latency["p50_us"] <= latency["p999_us"] <= latency["max_us"]
    known = client.call("model", name="m")
    assert {worker["version"] for worker in known["workers"]} == {"1", "2"}


def test_a_swap_loses_no_count(client, echo_file):
    client.call("register", name="m", path=echo_file(), version="1")
    model = client.model("m")
    ask(model, 4)
    client.call("swap_model", name="m", path=echo_file(), new_version="2")
    ask(model, 2)
    stats = client.call("stats")["m"]
    assert stats["requests"] == stats["latency"]["request"]["count"] == 6
    assert stats["versions"]["2"]["requests"] == 2


def test_errors_are_no_latencies(client, make_plugin):
    path = make_plugin("odd", infer="assert not batch['x'][0], 'odd'")
    client.call("register", name="m", path=path)
    model = client.model("m")
    ask(model, 1, FREE)
    for _ in range(2):
        with pytest.raises(ModelFailed, match="odd"):
            model.infer(ONE)
    stats = client.call("stats")["m"]
    assert (stats["requests"], stats["failures"]) == (3, 2)
    assert stats["failed_ns"] > 0
    assert stats["latency"]["request"]["count"] == 1


def test_what_waits_and_what_runs_is_told(client, gate):
    client.call("register", name="m", path=gate.model)
    model = client.model("m")
    futures = [model.submit(ONE), model.submit(FREE), model.submit(FREE)]
    with gate.hold():
        stats = client.call("stats")["m"]
        assert (stats["running"], stats["pending"]) == (1, 2)
        assert (stats["versions"][""]["running"], stats["versions"][""]["pending"]) == (1, 2)
    for future in futures:
        future.result()
    stats = client.call("stats")["m"]
    assert (stats["running"], stats["pending"]) == (0, 0)


def test_what_was_read_of_a_worker_stays_when_it_is_killed(daemon, client, echo_file):
    client.call("register", name="m", path=echo_file())
    model = client.model("m")
    ask(model, 3)
    assert client.call("stats")["m"]["requests"] == 3
    os.kill(client.call("model", name="m")["workers"][0]["pid"], signal.SIGKILL)
    daemon.journal.wait("worker_ready", count=2)
    ask(model, 1)
    stats = client.call("stats")["m"]
    assert stats["requests"] == stats["latency"]["request"]["count"] == 4
    assert stats["versions"][""]["restarts"] == 1


def test_histograms_come_to_who_asks(client, echo_file):
    client.call("register", name="m", path=echo_file())
    ask(client.model("m"), 5)
    plain = client.call("stats")["m"]["latency"]["queue"]
    full = client.call("stats", histograms=True)["m"]["latency"]["queue"]
    assert "counts" not in plain
    assert sum(full["counts"].values()) == 5
    assert full["sum_ns"] > 0


def test_calls_are_told_by_their_rows(client, make_plugin):
    path = make_plugin("plain")
    client.call("register", name="m", path=path)
    ask(client.model("m"), 3)
    (batch,) = client.call("stats")["m"]["batches"]
    assert (batch["rows"], batch["executions"]) == (1, 3)
    assert batch["infer_ns"] > 0
