# SPDX-License-Identifier: BUSL-1.1
"""One handle in many threads, and in forked children."""

import os
import random
import threading

import numpy as np
import pytest
from channel_rig import step

from mlos_core.errors import Forked, MlosError, Overloaded, Unavailable


def in_child(rig, act):
    """Run `act` in a forked child; it returns what went wrong, or nothing."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, repr(act()).encode())
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    rig.pids.append(pid)
    assert rig.wait(pid) == 0
    with os.fdopen(read) as told:
        return told.read()


def error_of(act):
    try:
        return act()
    except MlosError as error:
        return error.code


def test_a_child_cannot_use_what_it_inherited(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    call = model.prepare({"x": np.zeros(2)})
    future = model.submit({"x": np.zeros(2)})
    stream = model.stream({"x": np.zeros(2)})
    told = in_child(
        rig,
        lambda: [
            error_of(act)
            for act in (
                call,
                future.done,
                future.result,
                lambda: next(stream),
                lambda: model.infer({"x": np.zeros(2)}),
                lambda: model.alloc(2),
            )
        ],
    )
    # A handle would attach anew, were there a daemon; a request belongs to the parent.
    assert told == repr([Forked.code] * 4 + [Unavailable.code] * 2)
    step(port)
    assert (future.result()["y"] == 1).all()
    assert list(stream) == [{"number": n} for n in range(3)]


def test_nothing_that_a_child_drops_is_given_back_in_the_parent(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    x = model.alloc(1000, "float64")
    x[:] = 3
    future = model.submit({"x": x})
    step(port)
    result = model.submit({"x": x})
    step(port)
    kept = result.result()
    used = model.usage()

    def drop():
        nonlocal x, future, kept, model
        x = future = kept = None
        model.close()
        return "done"

    assert in_child(rig, drop) == "'done'"
    assert model.usage() == used
    assert (kept["y"] == 7).all()
    assert (future.result()["y"] == 7).all()


def test_a_child_reads_answers_it_inherited(rig):
    fds = rig.channel()
    model, port = rig.model(fds), rig.port(fds)
    future = model.submit({"x": np.arange(1000.0)})
    step(port)
    result = future.result()
    assert in_child(rig, lambda: float(result["y"].sum())) == repr(float(result["y"].sum()))


def test_a_child_may_be_forked_while_other_threads_work(rig):
    fds = rig.channel()
    rig.serve([fds])
    model = rig.model(fds)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            assert (model.infer({"x": np.zeros(600)}, wait=True)["y"] == 1).all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            told = in_child(rig, lambda: error_of(lambda: model.infer({"x": np.zeros(2)})))
            assert told == repr(Unavailable.code)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("slots", [2, 16])
def test_many_threads_on_one_handle_each_get_their_own_answers(rig, slots):
    fds = rig.channel(slots=slots)
    rig.serve([fds])
    model = rig.model(fds)
    wrong = []

    def work(seed):
        rng = random.Random(seed)
        for number in range(150):
            x = np.full(rng.choice([1, 2, 3, 130, 700]), seed * 1000.0 + number)
            kind = rng.randrange(4)
            try:
                if kind == 0:
                    y = model.submit({"x": x}, wait=True).result()["y"]
                elif kind == 1:
                    y = model.infer({"x": x}, wait=True, parameters={"n": number % 3})["y"]
                elif kind == 2:
                    lying = model.alloc(len(x), "float64")
                    lying[:] = x
                    y = model.infer({"x": lying}, wait=True)["y"]
                else:
                    y = model.infer({"x": x}, wait=True)["y"]
            except MlosError as error:
                wrong.append(error)
                return
            if not np.array_equal(y, 2 * x + 1):
                wrong.append((x, y))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    model._link.reap()
    usage = model.usage()
    assert usage["slots_free"] + usage["resting"] == slots  # none was lost
    assert usage["held"] == 0
    while model._link._evict():
        pass
    assert model.usage()["request_bytes_used"] == 0
    assert all(family.members == 0 for family in model._link.idle.values())


def test_several_workers_may_serve_one_channel(rig):
    fds = rig.channel(slots=16)
    for owner in (1, 2, 3):
        rig.serve([fds], owner=owner, lane=owner)
    model = rig.model(fds)
    for round_ in range(40):
        futures = [model.submit({"x": np.full(3, 100.0 * round_ + n)}) for n in range(8)]
        for number, future in enumerate(futures):
            assert (future.result()["y"] == 200 * round_ + 2 * number + 1).all()


def test_one_worker_serves_many_channels_fairly(rig):
    channels = [rig.channel(slots=4) for _ in range(20)]
    port = rig.port(*channels)
    models = [rig.model(fds) for fds in channels]
    futures = [[model.submit({"x": np.zeros(1)}) for _ in range(4)] for model in models]
    order = []
    while (request := port.poll()) is not None:
        order.append(request.channel)
        request.answer({"y": np.ones(1)})
    assert len(order) == 80
    for turn in range(4):  # each round every channel has its turn
        assert len(set(order[20 * turn : 20 * turn + 20])) == 20
    assert all((f.result()["y"] == 1).all() for row in futures for f in row)


@pytest.mark.parametrize("mode", ["adaptive", "spin", "block"])
def test_every_wait_mode_answers(rig, mode):
    fds = rig.channel()
    rig.serve([fds], wait_mode=mode)
    model = rig.model(fds, wait_mode=mode)
    call = model.prepare({"x": np.zeros(3)})
    for number in range(50):
        call.inputs["x"][:] = number
        assert (call()["y"] == 2 * number + 1).all()
        assert (model.infer({"x": np.zeros(2)})["y"] == 1).all()


def test_a_thread_that_waits_for_a_slot_does_not_block_the_others(rig):
    fds = rig.channel(slots=2)
    model, port = rig.model(fds), rig.port(fds)
    held = model.submit({"x": np.zeros(1)})
    other = model.submit({"x": np.zeros(1)})
    with pytest.raises(Overloaded):
        model.submit({"x": np.zeros(1)})
    step(port)
    assert held.done()
    assert (other.result()["y"] == 1).all()
    assert (held.result()["y"] == 1).all()
