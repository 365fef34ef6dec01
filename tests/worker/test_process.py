# SPDX-License-Identifier: BUSL-1.1
"""The worker as a real process, forked by a real host, with the test as daemon and client."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mlos_core.errors import ModelFailed, Quarantined
from mlos_core.ipc.header import PING
from mlos_core.ipc.messages import (
    Adopted,
    Drain,
    Exited,
    Fork,
    Held,
    HeldAll,
    Recover,
    Serve,
    Serving,
    Start,
    Stats,
    Unserve,
    Unserved,
    WorkerReport,
)

from .daemon import DEFAULT, spec_of
from .peer import ClientEnd


def rows(*values):
    return {"x": np.array([[v, v] for v in values], np.float32)}


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


@pytest.fixture
def host(start_host):
    made = start_host(DEFAULT)
    made.receive()
    return made


@pytest.fixture
def fork(host, daemon):
    """Start a worker; gives the daemon's view of it. Killed at the end if it still lives."""
    pids = []

    def fork(owner=1, **changes):
        host.send(Fork(spec_of(daemon, owner, **changes)))
        pids.append((host.receive().pid, host.fds.pop()))
        return daemon.accept()

    yield fork
    for _, pidfd in pids:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


@pytest.fixture
def client_of():
    """A client's channel for a worker's doorbell, not yet served."""
    clients = []

    def make(bell_fd, pid=None):
        clients.append(ClientEnd(bell_fd, pid))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def ready(fork, client_of):
    """A worker that is ready and serves one channel."""

    bells = []

    def ready(owner=1, **changes):
        worker = fork(owner, **changes)
        worker.bell_fd = worker.start()
        bells.append(worker.bell_fd)
        worker.until("ready")
        client = client_of(worker.bell_fd)
        assert worker.serve(client).problem is None
        return worker, client

    yield ready
    for bell_fd in bells:
        os.close(bell_fd)


def test_a_worker_loads_warms_up_serves_and_answers(fork, client_of):
    worker = fork()
    assert worker.hello.state == "loading"
    bell_fd = worker.start()
    assert worker.expect(WorkerReport).state == "warming"
    report = worker.expect(WorkerReport)
    assert report.state == "ready"
    assert report.signature.inputs[0].name == "x"
    client = client_of(bell_fd)
    os.close(bell_fd)
    assert worker.serve(client) == Serving("c")
    assert client.submit(rows(1, 2)).wait()["x"].tolist() == [[2, 2], [3, 3]]


def test_a_channel_may_come_before_the_model_is_ready(fork, client_of):
    worker = fork()
    bell_fd = worker.start()
    client = client_of(bell_fd)
    os.close(bell_fd)
    ticket = client.submit(rows(1))
    worker.connection.send(Serve("c", os.getpid(), os.getuid()), client.fds())
    while not isinstance(worker.receive(), Serving):
        pass
    assert ticket.wait()["x"].tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"fail": "kindly"}, "the toy is broken"),
        ({"fail": "badly"}, "RuntimeError: the toy exploded"),
        ({"bad": True}, "returned object, which is no model"),
    ],
)
def test_a_model_that_does_not_load_is_reported_and_ends_the_worker(fork, host, options, word):
    worker = fork(options=options)
    os.close(worker.start())
    report = worker.expect(WorkerReport)
    assert report.state == "failed"
    assert report.problem.code == "load_failed"
    assert word in report.problem.message
    assert host.receive() == Exited(1, worker.hello.pid, 65)


def test_requests_that_waited_are_merged_under_a_batch_policy(fork, client_of):
    worker = fork(batch={"max_batch_size": 8, "max_queue_delay_us": 0})
    bell_fd = worker.start()
    client = client_of(bell_fd)
    os.close(bell_fd)
    tickets = [client.submit(rows(value)) for value in range(8)]
    worker.until("ready")
    worker.serve(client)
    assert [t.wait()["x"][0, 0] for t in tickets] == [1, 2, 3, 4, 5, 6, 7, 8]
    stats = worker.stats()
    assert (stats.requests, stats.rows, stats.channels) == (8, 8, 1)
    assert stats.executions == 1


def test_statistics_tell_what_was_done(ready):
    worker, client = ready()
    client.submit(rows(1)).wait()
    stats = worker.stats()
    assert (stats.requests, stats.failures, stats.copied_bytes) == (1, 0, 0)
    assert stats.infer_ns > 0


def test_a_worker_that_ends_tells_its_last_figures(ready):
    worker, client = ready()
    client.submit(rows(1)).wait()
    worker.connection.send(Drain())
    message = worker.receive()
    while not isinstance(message, Stats):
        message = worker.receive()
    assert (message.id, message.stats.requests, message.stats.executions) == (0, 1, 1)
    assert sum(message.stats.times["request"].counts.values()) == 1


def test_a_channel_let_go_leaves_no_descriptor(ready, client_of):
    worker, _ = ready()
    pid = worker.hello.pid
    before = descriptors(pid)
    client = client_of(worker.bell_fd)
    worker.serve(client, "d")
    assert client.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]
    worker.connection.send(Unserve("d"))
    assert worker.receive() == Unserved("d")
    while descriptors(pid) != before:  # the claiming thread lets go of the mapping
        time.sleep(0.01)
    worker.connection.send(Unserve("d"))
    assert worker.receive() == Unserved("d")
    assert worker.stats().channels == 1


def test_a_segment_that_is_no_channel_is_refused_and_others_go_on(ready, client_of):
    worker, good = ready()
    bad = client_of(worker.bell_fd)
    os.ftruncate(bad.segment_fd, 0)
    refused = worker.serve(bad, "d")
    assert refused.problem.code == "channel_broken"
    assert good.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]


def test_a_channel_that_breaks_is_let_go_with_a_problem_and_others_go_on(ready, client_of):
    worker, good = ready()
    bad = client_of(worker.bell_fd)
    worker.serve(bad, "d")
    assert bad.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]
    os.ftruncate(bad.segment_fd, 0)
    assert good.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]
    unserved = worker.expect(Unserved)
    assert (unserved.channel, unserved.problem.code) == ("d", "channel_broken")
    assert good.submit(rows(2)).wait()["x"].tolist() == [[3, 3]]


@pytest.mark.parametrize("how", ["drain", "SIGTERM"])
def test_a_drained_worker_finishes_what_it_holds_and_ends_with_0(ready, host, how, tmp_path):
    flag = tmp_path / "computing"
    worker, client = ready(options={"flag": str(flag)})
    busy = client.submit({"x": np.array([[88, 0.3]], np.float32)})
    waiting = client.submit(rows(1))
    while not flag.exists():
        time.sleep(0.001)
    if how == "drain":
        worker.connection.send(Drain())
    else:
        os.kill(worker.hello.pid, signal.SIGTERM)
    assert worker.expect(WorkerReport).state == "draining"
    assert host.receive() == Exited(1, worker.hello.pid, 0)
    assert busy.wait()["x"].tolist() == [[89, np.float32(0.3) + 1]]
    assert waiting.reply() is None


def test_ctrl_c_is_none_of_a_workers_business(ready):
    worker, client = ready()
    os.kill(worker.hello.pid, signal.SIGINT)
    assert client.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]


def test_what_a_dead_worker_held_is_taken_over(ready, fork, host):
    first, client = ready(1)
    deadly = client.submit(rows(99))
    assert host.receive() == Exited(1, first.hello.pid, 9)
    waiting = client.submit(rows(1))
    second = fork(2, max_attempts=1)
    second.connection.send(Start(), (first.bell_fd,))
    second.until("ready")
    second.serve(client)
    assert waiting.wait()["x"].tolist() == [[2, 2]]
    assert deadly.reply() is None
    second.connection.send(Recover("c", 2, ()))
    with pytest.raises(Quarantined):
        deadly.wait()
    assert second.stats().recovered == 1


def test_recovering_a_channel_that_is_not_served_harms_nothing(ready):
    worker, client = ready()
    worker.connection.send(Recover("unknown", 9, ()))
    assert worker.stats().recovered == 0
    assert client.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]


# --- without a daemon ---------------------------------------------------------------------


def test_clients_are_served_while_there_is_no_daemon_and_a_new_one_is_told_all(ready, daemon):
    worker, client = ready()
    daemon.vanish()
    assert client.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]
    daemon.listen()
    again = daemon.accept()
    hello = again.hello
    assert (hello.adopted, hello.state, hello.pid) == (True, "ready", worker.hello.pid)
    assert hello.spec.owner == 1
    assert hello.signature.inputs[0].name == "x"
    (bell_fd,) = again.fds
    held = again.expect(Held)
    assert (held.channel, held.client_pid) == ("c", os.getpid())
    segment, eventfd, pidfd = again.fds
    assert os.path.samestat(os.fstat(segment), os.fstat(client.segment_fd))
    for fd in (bell_fd, segment, eventfd, pidfd):
        os.close(fd)
    again.expect(HeldAll)
    again.connection.send(Adopted())
    assert again.stats().requests == 1
    assert client.submit(rows(2)).wait()["x"].tolist() == [[3, 3]]


def test_a_daemon_that_hangs_up_at_once_is_knocked_at_again(ready, daemon):
    _, client = ready()
    daemon.vanish()
    daemon.listen()
    for _ in range(3):
        peer = daemon.accept()
        for fd in peer.fds:
            os.close(fd)
        peer.connection.close()
    assert client.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]


def test_a_worker_that_nobody_needs_ends_itself(ready, host, daemon, client_of):
    mayfly = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    worker, _ = ready(orphan_grace=0.2)
    pid = worker.hello.pid
    other = client_of(worker.bell_fd, mayfly.pid)
    worker.serve(other, "d")
    worker.connection.send(Unserve("c"))
    worker.expect(Unserved)
    daemon.vanish()
    assert other.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]
    mayfly.communicate(b"\n")
    assert host.receive() == Exited(1, pid, 0)


def test_a_worker_keeps_going_for_its_clients_beyond_the_grace(ready, daemon):
    _, client = ready(orphan_grace=0.05)
    daemon.vanish()
    time.sleep(0.3)
    assert client.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]


def test_a_worker_that_finds_no_daemon_gives_up(host, daemon):
    spec = spec_of(daemon, orphan_grace=0.1)
    daemon.vanish()
    host.send(Fork(spec))
    pid = host.receive().pid
    assert host.receive() == Exited(1, pid, 69)


# --- errors and idleness ------------------------------------------------------------------


def test_a_ping_is_answered_without_the_model(ready):
    _, client = ready()
    assert client.submit({}, kind=PING).wait() == {}


def test_a_bad_request_gets_its_reason_and_the_worker_goes_on(ready):
    worker, client = ready()
    with pytest.raises(Exception, match="unknown input 'z'"):
        client.submit({"z": np.zeros(1, np.float32)}).wait()
    with pytest.raises(ModelFailed, match="ValueError"):
        client.submit({"x": np.array([[88, -1]], np.float32)}).wait()
    assert client.submit(rows(1)).wait()["x"].tolist() == [[2, 2]]
    assert worker.stats().failures == 2


def test_an_idle_worker_costs_no_cpu(ready):
    worker, client = ready(wait_mode="adaptive")
    client.submit(rows(1)).wait()

    def ticks():
        with open(f"/proc/{worker.hello.pid}/stat") as stat:  # noqa: PTH123
            return sum(int(field) for field in stat.read().rsplit(")", 1)[1].split()[11:13])

    time.sleep(0.5)
    before = ticks()
    time.sleep(2)
    assert ticks() - before <= 1
