# SPDX-License-Identifier: BUSL-1.1
"""Streams: order, back-pressure, the ring's end, early ends, and what a successor resumes."""

import os
import threading

import numpy as np
import pytest
from channel_rig import step

from mlos_core.errors import Cancelled, DeadlineExceeded, InvalidInput, ModelFailed, PayloadTooLarge
from mlos_core.ipc import header as wire

X = {"x": np.zeros(2)}


def start(stepped, **options):
    """A stream and the request behind it."""
    model, port = stepped
    stream = model.stream(X, **options)
    request = port.poll()
    assert request.kind == wire.STREAM
    return stream, request


def test_events_come_in_order_each_once_and_then_the_result(stepped):
    stream, request = start(stepped, parameters={"p": 1})
    assert request.parameters == {"p": 1}
    events = [{"token": n, "text": "é" * n, "list": [n, None, b"raw"]} for n in range(20)]
    for event in events:
        assert request.emit(event)
    request.answer({"y": np.ones(3)}, {"reason": "stop"})
    with pytest.raises(InvalidInput, match="has not ended"):
        _ = stream.result
    assert list(stream) == events
    assert list(stream) == []
    assert (stream.result["y"] == 1).all()
    assert stream.result.parameters == {"reason": "stop"}
    assert stepped[0].usage()["held"] == 0


def test_reading_and_writing_may_alternate(stepped):
    stream, request = start(stepped)
    for number in range(300):
        assert request.emit(number)
        assert next(stream) == number
    request.answer({})
    assert list(stream) == []


@pytest.mark.parametrize("size", [1, 13, 100, 126])
def test_the_ring_wraps_at_every_place(rig, size):
    fds = rig.channel(event_bytes=256)
    stream, request = start((rig.model(fds), rig.port(fds)))
    for number in range(600):
        event = bytes([number % 256]) * size
        assert request.emit(event)
        assert next(stream) == event
    request.answer({})
    assert list(stream) == []


def test_a_full_ring_holds_the_model_back_and_loses_nothing(rig):
    fds = rig.channel(event_bytes=256)
    stream, request = start((rig.model(fds), rig.port(fds)))
    sent = 0
    while request.emit(sent):
        sent += 1
    assert 10 < sent < 256
    assert not request.emit("late")
    assert next(stream) == 0
    assert request.emit(sent)
    request.answer({})
    assert list(stream) == list(range(1, sent + 1))


def test_an_event_larger_than_half_the_ring_is_refused(rig):
    fds = rig.channel(event_bytes=256)
    stream, request = start((rig.model(fds), rig.port(fds)))
    with pytest.raises(PayloadTooLarge):
        request.emit("x" * 200)
    assert request.emit("x" * 100)
    request.answer({})
    assert list(stream) == ["x" * 100]


def test_an_error_comes_after_the_events_before_it(stepped):
    stream, request = start(stepped)
    request.emit(1)
    request.fail(ModelFailed("out of ideas"))
    assert next(stream) == 1
    with pytest.raises(ModelFailed, match="out of ideas"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize("how", ["close", "with", "drop"])
def test_an_early_end_cancels_the_request(stepped, how):
    model, port = stepped
    stream, request = start(stepped)
    request.emit(1)
    assert next(stream) == 1
    if how == "close":
        stream.close()
    elif how == "with":
        with stream:
            pass
    else:
        del stream
    assert request.cancelled()
    assert request.emit(2) in (True, False)
    request.fail(Cancelled("stopped"))
    futures = [model.submit(X) for _ in range(8)]  # its slot came back
    step(port)
    assert all((future.result()["y"] == 1).all() for future in futures)


def test_a_stream_read_after_its_deadline_ends(stepped):
    stream, request = start(stepped, timeout=0.005)
    request.emit("in time")
    while not request.cancelled():
        pass
    assert next(stream) == "in time"
    with pytest.raises(DeadlineExceeded):
        next(stream)
    assert list(stream) == []


def test_a_reader_that_waits_is_woken_by_each_event(stepped):
    stream, request = start(stepped)
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(stream))
    reader.start()
    for number in range(200):
        while not request.emit(number):
            assert reader.is_alive()
    request.answer({})
    reader.join()
    assert seen == list(range(200))


def test_streams_and_plain_requests_share_a_channel(served):
    streams = [served.stream(X, parameters={"events": n}) for n in range(5)]
    for number, stream in enumerate(streams):
        assert (served.infer(X)["y"] == 1).all()
        assert list(stream) == [{"number": n} for n in range(number)]


def test_a_successor_goes_on_where_the_dead_worker_stopped(rig):
    fds = rig.channel()
    model = rig.model(fds)
    stream = model.stream(X, parameters={"events": 6})
    pid = os.fork()
    if pid == 0:
        try:
            request = rig.port(fds, owner=1).poll()
            for number in range(4):
                request.emit({"number": number})
        finally:
            os._exit(0)
    rig.pids.append(pid)
    assert rig.wait(pid) == 0
    port = rig.port(fds, owner=2)
    port.recover(0, 2, ())
    assert step(port) == 1
    assert list(stream) == [{"number": number} for number in range(6)]
