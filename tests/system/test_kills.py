# SPDX-License-Identifier: BUSL-1.1
"""Whoever is killed, at whatever moment: every request is answered once, and right."""

import os
import signal
from pathlib import Path

import pytest

from tests import crash

from .kills import (
    SETTINGS,
    STREAM_WAYS,
    TENSOR_WAYS,
    Killer,
    descriptors,
    in_shared_memory,
    register,
    settle,
    until,
)
from .load import Client, Load

WAYS = {"m": TENSOR_WAYS, "s": STREAM_WAYS}


def workers(daemon, name):
    return daemon.call("model", name=name)["workers"]


def pids(daemon, name):
    return sorted(w["pid"] for w in workers(daemon, name))


def segments(pid):
    """How many shared segments a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text().count("/dev/shm/")


def same(counts):
    """The counts if all are equal: every worker has been given every channel."""
    return counts if len(set(counts)) == 1 else None


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = in_shared_memory()
    yield
    assert in_shared_memory() <= before


@pytest.mark.parametrize(("name", "instances", "kills"), [("m", 1, 40), ("m", 2, 40), ("s", 1, 40)])
def test_workers_die_at_every_moment_and_all_is_answered(
    crashing, crash_build, tmp_path, name, instances, kills
):
    daemon = crashing().start(**SETTINGS, MLOS_CRASH_AT=crash.plan(crash.WORKER_POINTS))
    register(daemon, tmp_path, name, instances)
    before = settle(daemon)
    with Load(daemon, crash_build, WAYS[name], model=name) as load:
        died = Killer(daemon, name, crash.WORKER_POINTS).run(kills)
        load.end()
    assert died[None] >= kills
    assert len(died) > 5
    settle(daemon, before)


@pytest.mark.parametrize("point", crash.WORKER_POINTS)
def test_a_worker_that_dies_there_is_succeeded(crashing, crash_build, tmp_path, point):
    """Every second worker dies at that point; the others leave something to take over."""
    others = {"ADOPT": "POPPED", "RECLAIM": "BEFORE_ANSWER"}
    points = (others.get(point.partition("_")[2], "AFTER_TAKE"), point)
    name = "s" if point in ("NOTED", "EMITTING", "EMITTED") else "m"
    daemon = crashing().start(**SETTINGS, MLOS_CRASH_AT=crash.plan(points, most=9))
    register(daemon, tmp_path, name)
    with Load(daemon, crash_build, WAYS[name][1:3], model=name) as load:
        Killer(daemon, name, points, pause=0.05).run(2, point)
        load.end()


@pytest.mark.parametrize("way", ["infer", "submit"])
def test_what_a_client_held_comes_back_wherever_it_dies(crashing, crash_build, tmp_path, way):
    daemon = crashing().start(**SETTINGS)
    register(daemon, tmp_path, "m")
    (pid,) = pids(daemon, "m")
    with Load(daemon, crash_build, ("infer", "infer_async"), model="m") as load:
        before = daemon.call("status")

        def held():
            return descriptors(pid), segments(pid), descriptors(daemon.pid)

        then = held()
        for seed, point in enumerate(crash.CLIENT_POINTS, 100):
            victim = Client(daemon, crash_build, seed, way, point=point, passes=30)
            assert victim.died() == -signal.SIGKILL
        until(lambda: daemon.call("status")["channels"] == before["channels"])
        assert daemon.call("status")["memory"]["channels"] == before["memory"]["channels"]
        # Less is possible: the channel of the daemon's own first ping may have been there.
        until(
            lambda: all(a <= b for a, b in zip(held(), then, strict=True)),
            show=lambda: f"{held()} instead of {then}",
        )
        load.wait_more()
        load.end()
    assert pids(daemon, "m") == [pid]


@pytest.mark.parametrize("name", ["m", "s"])
def test_clients_are_answered_while_the_daemon_is_dead_and_by_the_next(
    crashing, crash_build, tmp_path, name
):
    daemon = crashing().start(**SETTINGS)
    register(daemon, tmp_path, name, instances=2)
    before = pids(daemon, name)
    with Load(daemon, crash_build, WAYS[name], model=name) as load:
        held = until(lambda: same([descriptors(pid) for pid in before]))
        daemon.kill()
        load.wait_more()
        daemon.start(**SETTINGS)
        until(lambda: daemon.call("status")["ready"])
        assert pids(daemon, name) == before
        load.wait_more()
        until(lambda: [descriptors(pid) for pid in before] == held)
        os.kill(before[0], signal.SIGKILL)
        daemon.journal.wait("worker_gone", pid=before[0])
        load.wait_more()
        load.end()
    settle(daemon)


@pytest.mark.parametrize("name", ["m", "s"])
def test_clients_survive_the_death_of_the_daemon_and_of_every_worker(
    crashing, crash_build, tmp_path, name
):
    daemon = crashing().start(**SETTINGS)
    register(daemon, tmp_path, name)
    with Load(daemon, crash_build, WAYS[name], model=name) as load:
        for _ in range(2):
            (pid,) = pids(daemon, name)
            channels = daemon.call("status")["channels"]
            daemon.kill()
            os.kill(pid, signal.SIGKILL)
            daemon.start(**SETTINGS)
            load.wait_more()
            assert daemon.call("status")["channels"] == channels
        load.end()
    settle(daemon)
