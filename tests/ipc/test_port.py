# SPDX-License-Identifier: BUSL-1.1
"""A worker's end: channels that come and go, orphans, and numbers."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from channel_layout import FILLED, TAKEN, Segment
from channel_rig import step

from mlos_core.errors import (
    ChannelBroken,
    Closed,
    DeadlineExceeded,
    InvalidInput,
    MlosError,
    ModelFailed,
    Quarantined,
)
from mlos_core.ipc.request import notes_in
from mlos_core.ipc.worker import WorkerPort

X = {"x": np.zeros(2)}


def die_holding(rig, fds, count, owner, act=lambda request: None):
    """A worker process claims `count` requests and is gone."""
    pid = os.fork()
    if pid == 0:
        try:
            port = rig.port(fds, owner=owner)
            for _ in range(count):
                while (request := port.poll()) is None:
                    pass
                act(request)
            os.kill(os.getpid(), 9)
        finally:
            os._exit(1)
    rig.pids.append(pid)
    assert rig.wait(pid) == 9


# --- channels come and go -----------------------------------------------------------------


def test_a_request_that_is_held_survives_its_channels_end(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    future = model.submit(X)
    request = port.poll()
    port.detach(0)
    assert port.poll() is None
    assert request.cancelled()
    assert request.submitted_ns <= request.taken_ns
    assert port.channels() == [0]
    request.answer({"y": request.inputs["x"] + 1})
    assert port.poll() is None
    assert port.channels() == []
    assert (future.result()["y"] == 1).all()


def test_a_late_answer_never_reaches_another_client(rig):
    first, second = rig.channel(), rig.channel()
    victim, port = rig.model(second), rig.port(first)
    owner = rig.model(first)
    asked = owner.submit(X)
    stale = port.poll()
    port.detach(0)
    index = port.attach(os.dup(second[0]), os.dup(second[1]))
    assert index != 0  # the place is taken while the old request is held
    future = victim.submit({"x": np.full(2, 7.0)})
    request = port.poll()
    stale.answer({"y": np.zeros(2)})
    stale.fail(ModelFailed("stale"))
    assert not future.done()
    request.answer({"y": request.inputs["x"]})
    assert (future.result()["y"] == 7).all()
    assert asked.done()


def test_a_place_is_used_again_once_it_is_free(rig):
    fds = rig.channel()
    port = rig.port()
    for _ in range(10):
        assert port.attach(os.dup(fds[0]), os.dup(fds[1])) == 0
        assert port.poll() is None
        port.detach(0)
        assert port.poll() is None


def test_detaching_twice_is_of_no_consequence(rig):
    fds = rig.channel()
    port = rig.port(fds)
    for _ in range(3):
        port.detach(0)
    port.detach(99)
    assert port.poll() is None
    assert port.channels() == []


def test_channels_come_and_go_under_load(rig):
    steady = rig.channel(slots=4)
    rig_model = rig.model(steady)
    port = rig.port(steady)
    stop, done = threading.Event(), threading.Event()

    def come_and_go():
        while not stop.is_set():
            fds = rig.channel(slots=2, request_bytes=4096, reply_bytes=4096)
            index = port.attach(os.dup(fds[0]), os.dup(fds[1]))
            model = rig.model(fds)
            futures = [model.submit(X) for _ in range(2)]
            assert (futures[0].result(timeout=20)["y"] == 1).all()
            port.detach(index)
            del futures
            model.close()

    def serve():
        while not done.is_set():
            step(port)

    threads = [threading.Thread(target=serve), threading.Thread(target=come_and_go)]
    for thread in threads:
        thread.start()
    try:
        for number in range(500):
            y = rig_model.infer({"x": np.full(3, float(number))}, timeout=20)["y"]
            assert (y == 2 * number + 1).all()
    finally:
        stop.set()
        threads[1].join()
        done.set()
        threads[0].join()
    step(port)
    assert port.channels() == [0]


def test_inputs_stay_readable_after_the_channel_is_gone(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    future = model.submit({"x": np.arange(500.0)})
    request = port.poll()
    x = request.inputs["x"]
    request.fail(ModelFailed("no"))
    port.detach(0)
    assert port.poll() is None
    del request
    assert np.array_equal(x, np.arange(500.0))
    assert future.done()


def test_what_is_no_channel_is_refused(rig):
    port = rig.port()
    with Path("/dev/null").open("rb") as null, pytest.raises(ChannelBroken):
        port.attach(null.fileno())
    fd = os.memfd_create("empty")
    os.ftruncate(fd, 1 << 20)
    with pytest.raises(ChannelBroken):
        port.attach(fd)
    os.close(fd)


def test_a_doorbell_that_could_be_cut_short_is_refused():
    fd = os.memfd_create("bell", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    with pytest.raises(ChannelBroken, match="sealed"):
        WorkerPort(fd, 1, 0)
    os.close(fd)


@pytest.mark.parametrize(("owner", "lane"), [(0, 0), (1 << 24, 0), (1, 32)])
def test_impossible_owners_and_lanes_are_refused(rig, owner, lane):
    fd = os.dup(rig.bell_fd)
    with pytest.raises(InvalidInput):
        WorkerPort(fd, owner, lane)
    os.close(fd)


def test_a_port_may_be_dropped_without_closing_it(rig):
    for _ in range(20):
        fds = rig.channel(slots=2, request_bytes=4096, reply_bytes=4096)
        port = WorkerPort(os.dup(rig.bell_fd), 1, 0)
        rig.fds += [port.bell_fd, *(own := (os.dup(fds[0]), os.dup(fds[1])))]
        port.attach(*own)
        model = rig.model(fds)
        future = model.submit(X)
        request = port.poll()
        assert request is not None
        del port, request, future


def test_a_truncated_channel_is_reported_once_and_the_others_go_on(rig):
    bad, good = rig.channel(), rig.channel()
    model, port = rig.model(good), rig.port(bad, good)
    victim = Segment(bad[0])
    victim.submit(0, b"\x94\x00\x90\x90\x80")
    request = port.poll()
    os.ftruncate(bad[0], 0)
    request.answer({"y": np.ones(2000)})
    future = model.submit(X)
    step(port)
    assert (future.result()["y"] == 1).all()
    assert [index for index, _ in port.broken()] == [0]
    assert port.broken() == []
    port.detach(0)
    step(port)
    assert port.channels() == [1]
    assert port.broken() == []
    victim.close()


def test_a_second_answer_changes_nothing(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    for size in (2, 900):
        future = model.submit({"x": np.zeros(size)})
        request = port.poll()
        request.answer({"y": np.full(size, 3.0)})
        request.answer({"y": np.full(size, -1.0)})
        request.fail(ModelFailed("no"))
        assert (future.result()["y"] == 3).all()
    assert port.counters()["answered"] == 2


# --- waiting ------------------------------------------------------------------------------


def test_next_ends_at_its_timeout_and_at_an_interrupt(rig):
    port = rig.port()
    assert port.next(0.002) is None
    port.interrupt()
    assert port.next(20.0) is None
    thread = threading.Timer(0.005, port.interrupt)
    thread.start()
    assert port.next(20.0) is None
    thread.join()


def test_a_port_that_stops_claims_nothing_more_but_answers(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    futures = [model.submit(X) for _ in range(2)]
    request = port.poll()
    for _ in range(3):
        port.stop_claiming()
    assert port.next(20.0) is None
    assert port.poll() is None
    request.answer({"y": np.ones(2)})
    assert (futures[0].result()["y"] == 1).all()
    assert not futures[1].done()
    port.detach(0)
    assert port.next(20.0) is None
    assert port.channels() == []


def test_a_worker_that_is_given_a_channel_back_is_rung_for_it(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds, lane=3)
    future = model.submit(X)
    held = port.poll()
    port.detach(0, finish=True)
    assert port.poll() is None
    segment = Segment(fds[0])
    assert segment.get("lanes") == 0
    port.attach(os.dup(fds[0]), os.dup(fds[1]))
    for _ in range(3):  # it is reminded of the end of the first time, for a request is held
        assert port.poll() is None
        assert segment.get("lanes") == 1 << 3
    held.answer({"y": np.zeros(2)})
    assert port.poll() is None
    assert port.channels() == [1]
    assert segment.get("lanes") == 1 << 3
    future.result()
    segment.close()


def test_what_was_taken_over_is_run_before_its_channel_is_let_go(rig):
    fds = rig.channel()
    model = rig.model(fds)
    futures = [model.submit(X) for _ in range(3)]
    die_holding(rig, fds, 2, owner=1)
    gone = []
    port = rig.port(fds, owner=2)
    port.recover(0, 2, ())
    port.detach(0, finish=True, gone=lambda: gone.append(True))
    assert step(port) == 2
    assert gone
    successor = rig.port(fds, owner=3)
    assert step(successor) == 1
    for future in futures:
        assert (future.result()["y"] == 1).all()


# --- recovery -----------------------------------------------------------------------------


def test_what_a_dead_worker_held_is_run_again_with_its_attempt_counted(rig):
    fds = rig.channel()
    model = rig.model(fds)
    futures = [model.submit({"x": np.full(2, float(n))}) for n in range(5)]
    die_holding(rig, fds, 3, owner=1)
    port = rig.port(fds, owner=2)
    port.recover(0, 2, ())
    attempts = []
    while (request := port.poll()) is not None:
        attempts.append(request.attempt)
        request.answer({"y": request.inputs["x"] * 2})
    assert attempts == [1, 1, 1, 0, 0]
    for number, future in enumerate(futures):
        assert (future.result()["y"] == 2 * number).all()
    assert port.counters()["recovered"] == 3


def test_a_successor_reads_what_was_noted_and_notes_on(rig):
    fds = rig.channel()
    stream = rig.model(fds).stream(X)

    def work(request):
        for number in range(300):  # more than a byte counts
            request.emit(number, b"note %d" % number if number else b"")

    die_holding(rig, fds, 1, 1, work)
    port = rig.port(fds, owner=2)
    port.recover(0, 2, ())
    request = port.poll()
    assert request.events_sent == 300
    notes = (b"", *(b"note %d" % number for number in range(1, 300)))
    assert request.journal() == notes
    request.emit(300, b"last")
    assert request.journal() == notes  # of what was sent before, no more
    request.answer({})
    assert list(stream) == list(range(301))


@pytest.mark.parametrize(
    ("raw", "notes"),
    [
        (b"", []),
        (b"\0\1a\1\0\2\2bc", [b"a", b"", b"bc"]),
        (b"\0\1a\0\1b\1\1c", [b"b", b"c"]),  # noted twice: the event was sent once
        (b"\0\1a\2\1c", [b"a"]),  # an event without a note
        (b"\5\1a", []),
        (b"\0\5ab", []),
        (b"\0", []),
    ],
)
def test_a_journal_is_read_as_far_as_it_has_no_gap(raw, notes):
    assert notes_in(raw) == notes


def test_a_requests_key_is_its_own_and_the_same_at_every_attempt(rig):
    fds, other = rig.channel(), rig.channel()
    model, elsewhere = rig.model(fds), rig.model(other)
    futures = [model.submit(X), model.submit(X), elsewhere.submit(X)]
    keys = []
    die = rig.port(fds, other, owner=1)
    while (request := die.poll()) is not None:
        keys.append(request.key)
    successor = rig.port(fds, other, owner=2)
    successor.recover(0, 2, ())
    successor.recover(1, 2, ())
    again = []
    while (request := successor.poll()) is not None:
        again.append(request.key)
        request.answer({})
    assert sorted(keys) == sorted(again)
    assert len(set(keys)) == 3
    for future in futures:
        future.result()


def test_the_living_keep_their_requests(rig):
    fds = rig.channel()
    model = rig.model(fds)
    futures = [model.submit(X) for _ in range(2)]
    living = rig.port(fds, owner=1)
    held = living.poll()
    die_holding(rig, fds, 1, owner=2)
    port = rig.port(fds, owner=3)
    port.recover(0, 3, (1,))
    assert step(port) == 1
    held.answer({"y": np.full(2, 5.0)})
    assert sorted(f.result()["y"][0] for f in futures) == [1.0, 5.0]


def test_a_worker_that_wakes_up_late_changes_nothing(rig):
    fds = rig.channel()
    model, stale = rig.model(fds), rig.port(fds, owner=1)
    future = model.submit({"x": np.full(2, 1.0)})
    request = stale.poll()
    successor = rig.port(fds, owner=2)
    successor.recover(0, 2, ())
    assert step(successor) == 1
    request.answer({}, {"too": "late"})
    assert stale.counters()["lost"] == 1
    assert (future.result()["y"] == 3).all()
    later = model.submit({"x": np.full(2, 2.0)})
    request.answer({}, {"too": "late"})
    assert step(successor) == 1
    assert (later.result()["y"] == 5).all()


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_request_that_ends_its_workers_is_quarantined(rig, max_attempts):
    fds = rig.channel()
    model = rig.model(fds)
    future = model.submit(X)
    die_holding(rig, fds, 1, owner=1)
    for owner in range(2, max_attempts + 1):
        port = rig.port(fds, owner=owner, max_attempts=max_attempts)
        port.recover(0, owner, ())
        request = port.poll()
        assert request.attempt == owner - 1
        port.close()
        rig.ports.remove(port)
    port = rig.port(fds, owner=20, max_attempts=max_attempts)
    port.recover(0, 20, ())
    assert port.poll() is None
    with pytest.raises(Quarantined, match=f"ended {max_attempts} workers"):
        future.result()
    again = model.submit(X)
    assert step(port) == 1
    assert (again.result()["y"] == 1).all()


def test_recovery_may_be_asked_for_again_and_again(rig):
    fds = rig.channel()
    model = rig.model(fds)
    future = model.submit(X)
    die_holding(rig, fds, 1, owner=1)
    port = rig.port(fds, owner=2)
    for _ in range(5):
        port.recover(0, 9, ())
    assert step(port) == 1
    assert (future.result()["y"] == 1).all()
    assert port.counters()["recovered"] == 1


def test_an_orphan_that_was_cancelled_or_is_late_is_not_run_again(rig):
    fds = rig.channel()
    model = rig.model(fds)
    cancelled, late = model.submit(X), model.submit(X, timeout=0.5)
    die_holding(rig, fds, 2, owner=1)
    cancelled.cancel()
    segment = Segment(fds[0])
    segment.set("deadline_ns", 1, late._call.slot)
    port = rig.port(fds, owner=2)
    port.recover(0, 2, ())
    assert step(port) == 0
    for future in (cancelled, late):
        with pytest.raises(MlosError) as caught:
            future.result()
        assert caught.value.code in ("cancelled", DeadlineExceeded.code)
    segment.close()


def test_the_reply_memory_of_a_dead_worker_comes_back(rig):
    fds = rig.channel(reply_bytes=16384)
    model = rig.model(fds)
    future = model.submit({"x": np.zeros(2)})
    die_holding(rig, fds, 1, 1, lambda request: request.allocate("y", "uint8", (16384,)))
    port = rig.port(fds, owner=2)
    port.recover(0, 2, ())
    request = port.poll()
    made = request.allocate("y", "uint8", (16384,))
    made[:] = 8
    request.answer({"y": made})
    assert (future.result()["y"] == 8).all()


def test_a_dead_client_is_no_concern_of_the_others(rig):
    mine, theirs = rig.channel(), rig.channel()
    pid = os.fork()
    if pid == 0:
        try:
            model = rig.model(theirs)
            futures = [model.submit(X) for _ in range(3)]
            os.kill(os.getpid(), 9 if futures else 0)
        finally:
            os._exit(1)
    rig.pids.append(pid)
    assert rig.wait(pid) == 9
    port = rig.port(mine, theirs)
    future = rig.model(mine).submit(X)
    assert step(port) == 4
    assert (future.result()["y"] == 1).all()
    segment = Segment(theirs[0])
    assert all(segment.state(slot) not in (FILLED, TAKEN) for slot in range(8))
    segment.close()


def test_times_and_deadlines_are_told(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    future = model.submit(X, timeout=30.0)
    request = port.poll()
    assert 0 < request.submitted_ns <= request.taken_ns
    assert 29e9 < request.deadline_ns - request.submitted_ns <= 30e9
    assert (request.attempt, request.events_sent, request.channel) == (0, 0, 0)
    request.answer({"y": np.ones(2)}, None, request.taken_ns + 5, request.taken_ns + 15)
    assert port.counters()["infer_ns"] == 10
    assert port.counters()["input_ns"] == 5
    assert future.done()


def test_closing_a_client_twice_and_a_port_that_holds_requests(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    future = model.submit(X)
    request = port.poll()
    rig.ports.remove(port)
    port.close()
    request.answer({"y": np.ones(2)})  # nobody is there any more
    model.close()
    with pytest.raises(Closed):
        future.result()
