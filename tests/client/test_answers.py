# SPDX-License-Identifier: BUSL-1.1
"""Results and how long they live, futures, prepared calls, errors."""

import gc
import threading

import numpy as np
import pytest
from channel_rig import step

from mlos_core.errors import (
    Cancelled,
    ChannelBroken,
    Closed,
    DeadlineExceeded,
    InvalidInput,
    MlosError,
    ModelFailed,
    Overloaded,
    PayloadTooLarge,
    Unavailable,
)
from mlos_core.ipc import channel
from mlos_core.ipc.messages import Problem

BIG = np.arange(1000, dtype=np.float64)  # its answer does not fit the slot


def ask(stepped, x=BIG, **options):
    model, port = stepped
    future = model.submit({"x": x}, **options)
    step(port)
    return future.result()


def error_of(act):
    """What `act` raises, for threads."""
    try:
        act()
    except MlosError as error:
        return error
    return None


# --- lifetimes ----------------------------------------------------------------------------


def test_a_small_answer_is_a_copy_of_its_own(stepped):
    result = ask(stepped, np.arange(4.0))
    assert result["y"].flags.owndata
    assert stepped[0].usage()["held"] == 0


def test_a_large_answer_is_a_view_that_ends_with_its_last_array(stepped):
    model, _ = stepped
    y = ask(stepped)["y"]
    assert not y.flags.owndata
    assert not y.flags.writeable
    assert model.usage()["held"] == 1
    part = y[10:20]
    del y
    gc.collect()
    assert model.usage()["held"] == 1
    assert np.array_equal(part, 2 * BIG[10:20] + 1)
    del part
    assert model.usage()["held"] == 0


def test_release_and_with_give_the_answer_back(stepped):
    model, _ = stepped
    result = ask(stepped)
    assert model.usage()["held"] == 1
    result.release()
    assert model.usage()["held"] == 0
    result.release()
    with ask(stepped) as result:
        assert np.array_equal(result["y"], 2 * BIG + 1)
        assert model.usage()["held"] == 1
    assert model.usage()["held"] == 0


def test_a_held_answer_is_never_overwritten(stepped):
    kept = [ask(stepped, BIG + number) for number in range(3)]
    for number in range(20):
        ask(stepped, BIG - number).release()
    for number, result in enumerate(kept):
        assert np.array_equal(result["y"], 2 * (BIG + number) + 1)


def test_beyond_half_of_the_slots_answers_are_copied(stepped):
    model, _ = stepped
    kept = [ask(stepped, BIG + number) for number in range(50)]
    assert model.usage()["held"] == 4  # of 8 slots
    for number, result in enumerate(kept):
        assert np.array_equal(result["y"], 2 * (BIG + number) + 1)


def test_copies_outlive_the_channel(stepped):
    model, _ = stepped
    view, copy = ask(stepped)["y"], ask(stepped).copy()["y"]
    model.close()
    assert np.array_equal(copy, 2 * BIG + 1)
    assert np.array_equal(view, 2 * BIG + 1)


def test_a_reply_arena_full_of_held_answers_is_overload(rig):
    fds = rig.channel(slots=8, reply_bytes=16384)
    stepped = rig.model(fds), rig.port(fds)
    first, second = ask(stepped), ask(stepped)
    with pytest.raises(Overloaded, match="reply arena"):
        ask(stepped)
    first.release()
    assert np.array_equal(ask(stepped)["y"], second["y"])


def test_an_answer_larger_than_the_reply_arena_is_too_large(rig):
    fds = rig.channel(reply_bytes=4096)
    with pytest.raises(PayloadTooLarge, match="reply arena"):
        ask((rig.model(fds), rig.port(fds)))


def test_a_long_reply_header_without_room_is_an_error_and_no_silence(rig):
    fds = rig.channel(reply_bytes=4096)
    model, port = rig.model(fds), rig.port(fds)
    future = model.submit({"x": np.zeros(1)})
    port.poll().answer({}, {"text": "x" * 9000})
    with pytest.raises(PayloadTooLarge):
        future.result()


def test_an_output_that_the_model_did_not_allocate_is_copied_and_counted(stepped):
    model, port = stepped
    for number in range(40):
        future = model.submit({"x": np.zeros(3)})
        port.poll().answer({"y": np.full(5, float(number)), "z": np.arange(600.0)[::-2]})
        with future.result() as result:
            assert (result["y"] == number).all()
            assert np.array_equal(result["z"], np.arange(600.0)[::-2])
    assert port.counters()["copied_bytes"] == 40 * (5 + 300) * 8


def test_an_output_in_foreign_byte_order_arrives_right(stepped):
    model, port = stepped
    future = model.submit({"x": np.zeros(3)})
    port.poll().answer({"y": np.arange(5.0).astype(">f8")})
    assert np.array_equal(future.result()["y"], np.arange(5.0))


def test_outputs_and_parameters_of_every_kind_arrive_together(stepped):
    model, port = stepped
    texts = np.array([b"one", b""], dtype=object)
    future = model.submit({"x": np.zeros(3)}, outputs=("big", "text"))
    request = port.poll()
    assert request.outputs == ("big", "text")
    request.answer({"big": BIG, "text": texts, "n": np.int64(3).reshape(())}, {"took": 1.5})
    result = future.result()
    assert np.array_equal(result["big"], BIG)
    assert list(result["text"]) == [b"one", b""]
    assert result["n"].shape == ()
    assert result.parameters == {"took": 1.5}


def test_an_answer_that_cannot_be_sent_is_the_models_fault(stepped):
    model, port = stepped
    future = model.submit({"x": np.zeros(3)})
    port.poll().answer({"y": BIG}, {"what": object()})
    with pytest.raises(ModelFailed, match="cannot be sent"):
        future.result()


def test_a_repeated_request_decodes_nothing_and_still_has_its_own_data(stepped):
    model, port = stepped
    seen = set()
    for number in range(30):
        future = model.submit({"x": np.full(3, float(number))})
        request = port.poll()
        seen.add(id(request))
        made = request.allocate("y", "float64", (3,))
        made[:] = request.inputs["x"] * 2
        request.answer({"y": made})
        assert (future.result()["y"] == 2 * number).all()
    assert len(seen) == 1


def test_the_answer_may_change_its_form_from_call_to_call(stepped):
    model, port = stepped
    for size in (3, 3, 5, 2000, 5, 0, 3, 2000):
        future = model.submit({"x": np.zeros(3)})
        request = port.poll()
        made = request.allocate("y", "float64", (size,))
        made[:] = size
        request.answer({"y": made})
        with future.result() as result:
            assert result["y"].shape == (size,)
            assert (result["y"] == size).all()


# --- errors -------------------------------------------------------------------------------


def test_an_error_keeps_its_class_its_message_and_its_hint(stepped):
    model, port = stepped
    future = model.submit({"x": np.zeros(1)})
    port.poll().fail(ModelFailed("the model raised", hint="look at the log"))
    with pytest.raises(ModelFailed) as caught:
        future.result()
    assert (caught.value.message, caught.value.hint) == ("the model raised", "look at the log")
    assert port.counters()["failures"] == 1


@pytest.mark.parametrize("text", ["é" * 5000, "x" * 100000, "\udcff broken", ""])
def test_any_text_of_an_error_arrives(stepped, text):
    model, port = stepped
    future = model.submit({"x": np.zeros(1)})
    port.poll().fail(ModelFailed(text, hint=text))
    with pytest.raises(ModelFailed) as caught:
        future.result()
    assert caught.value.message.startswith(text[:100].replace("\udcff", "?"))


def test_after_an_error_the_slot_serves_on(stepped):
    model, port = stepped
    for _ in range(30):
        future = model.submit({"x": np.zeros(2)})
        port.poll().fail(ModelFailed("no"))
        with pytest.raises(ModelFailed):
            future.result()
    assert np.array_equal(ask(stepped, np.zeros(2))["y"], np.ones(2))
    assert model.usage()["slots_free"] + model.usage()["resting"] == 8


def test_a_request_of_an_unknown_kind_is_refused_by_the_worker(stepped):
    model, port = stepped
    call = model._obtain({"x": np.zeros(1)}, 77)
    call.submit(10.0)
    assert port.poll() is None
    with pytest.raises(InvalidInput, match="kind 77"):
        call.result(call.poll())


# --- futures ------------------------------------------------------------------------------


def test_a_future_tells_when_it_is_done(stepped):
    model, port = stepped
    future = model.submit({"x": np.zeros(2)})
    assert not future.done()
    step(port)
    assert future.done()
    assert np.array_equal(future.result()["y"], np.ones(2))
    for again in (future.result, future.done, future.cancel):
        with pytest.raises(Closed):
            again()


def test_a_future_may_be_asked_again_after_its_own_timeout(stepped):
    model, port = stepped
    future = model.submit({"x": np.zeros(2)})
    for _ in range(3):
        with pytest.raises(DeadlineExceeded, match="no answer yet"):
            future.result(timeout=0.001)
    step(port)
    assert np.array_equal(future.result(timeout=0.001)["y"], np.ones(2))


def test_a_cancelled_future_is_not_run(stepped):
    model, port = stepped
    future = model.submit({"x": np.zeros(2)})
    future.cancel()
    assert step(port) == 0
    with pytest.raises(Cancelled):
        future.result()
    assert port.counters()["cancelled"] == 1


def test_a_running_request_sees_that_it_is_cancelled(stepped):
    model, port = stepped
    future = model.submit({"x": np.zeros(2)})
    request = port.poll()
    assert not request.cancelled()
    future.cancel()
    assert request.cancelled()
    request.fail(Cancelled("stopped"))
    with pytest.raises(Cancelled):
        future.result()


def test_a_dropped_future_is_cancelled_and_its_slot_comes_back(stepped):
    model, port = stepped
    for _ in range(8):
        model.submit({"x": np.zeros(2)})  # dropped at once
    assert model.usage()["abandoned"] == 8
    with pytest.raises(Overloaded):
        model.submit({"x": np.zeros(2)})
    assert step(port) == 0
    assert np.array_equal(ask(stepped, np.zeros(2))["y"], np.ones(2))
    assert model.usage()["abandoned"] == 0


def test_futures_are_answered_in_any_order(stepped):
    model, port = stepped
    futures = [model.submit({"x": np.full(2, float(n))}) for n in range(8)]
    requests = [port.poll() for _ in range(8)]
    for request in reversed(requests):
        request.answer({"y": request.inputs["x"] * 10})
    for number, future in reversed(list(enumerate(futures))):
        assert (future.result()["y"] == 10 * number).all()


def test_two_threads_cannot_both_take_a_result(stepped):
    model, port = stepped
    for _ in range(20):
        future = model.submit({"x": np.zeros(2)})
        outcomes = []

        def take(future=future, outcomes=outcomes):
            try:
                outcomes.append(future.result()["y"].sum())
            except Closed:
                outcomes.append(None)

        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        step(port)
        for thread in threads:
            thread.join()
        assert sorted(outcomes, key=str) in ([2.0, None], [None, 2.0])
        resting = model._link.idle
        assert all(len(set(map(id, f))) == len(f) for f in resting.values())


# --- deadlines ----------------------------------------------------------------------------


def test_a_late_answer_is_dropped_and_its_slot_comes_back(stepped):
    model, port = stepped
    with pytest.raises(DeadlineExceeded):
        model.infer({"x": BIG}, timeout=0.002)
    assert model.usage()["abandoned"] == 1
    assert step(port) == 0  # expired: it is not run any more
    for _ in range(8):
        assert np.array_equal(ask(stepped, np.zeros(2))["y"], np.ones(2))
    futures = [model.submit({"x": np.zeros(3)}) for _ in range(8)]
    assert model.usage()["abandoned"] == 0
    step(port)
    for future in futures:
        assert np.array_equal(future.result()["y"], np.ones(3))


def test_a_deadline_that_passes_while_it_runs_is_seen(stepped):
    model, port = stepped
    future = model.submit({"x": np.zeros(2)}, timeout=0.002)
    request = port.poll()
    with pytest.raises(DeadlineExceeded):
        future.result()
    assert request.cancelled()
    request.answer({"y": np.zeros(2)})  # nobody hears it
    assert np.array_equal(ask(stepped, np.zeros(2))["y"], np.ones(2))


def test_all_slots_in_use_is_overload_with_a_hint(stepped):
    model, _ = stepped
    futures = [model.submit({"x": np.zeros(2)}) for _ in range(8)]
    with pytest.raises(Overloaded, match="slots") as caught:
        model.infer({"x": np.zeros(2)})
    assert "wait=True" in caught.value.hint
    assert len(futures) == 8


def test_who_waits_gets_the_slot_that_another_gives_back(stepped):
    model, port = stepped
    futures = [model.submit({"x": np.zeros(2)}) for _ in range(8)]
    got = []

    def ask_and_wait():
        got.append(model.infer({"x": np.zeros(2)}, wait=True, timeout=30.0)["y"].sum())

    thread = threading.Thread(target=ask_and_wait)
    thread.start()
    while not model._link.waiting:
        assert thread.is_alive()
    step(port)
    for future in futures:
        future.result()
    while thread.is_alive():
        step(port)
    assert got == [2.0]


def test_waiting_for_a_slot_ends_at_the_timeout(stepped):
    model, _ = stepped
    futures = [model.submit({"x": np.zeros(2)}) for _ in range(8)]
    with pytest.raises(Overloaded):
        model.submit({"x": np.zeros(2)}, wait=True, timeout=0.01)
    assert len(futures) == 8


# --- prepared calls -----------------------------------------------------------------------


def prepared_and_step(stepped, call, **options):
    """Run a prepared call while another thread steps the worker."""
    _, port = stepped
    done = threading.Event()

    def work():
        while not done.is_set():
            step(port)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        return call(**options)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("size", [3, 1000])
def test_a_prepared_call_sends_what_lies_in_its_inputs(stepped, size):
    model, _ = stepped
    call = model.prepare({"x": np.zeros(size)})
    for number in range(5):
        call.inputs["x"][:] = number
        result = prepared_and_step(stepped, call)
        assert (result["y"] == 2 * number + 1).all()
    call.close()
    assert model.usage()["slots_free"] == 8
    assert model.usage()["request_bytes_used"] == 0


def test_a_prepared_call_fills_allocated_arrays_in_place(stepped):
    model, _ = stepped
    x = model.alloc(1000, "float64")
    call = model.prepare({"x": x})
    x[:] = 4
    before = model.usage()["copied_bytes"]
    assert (prepared_and_step(stepped, call)["y"] == 9).all()
    assert model.usage()["copied_bytes"] == before


def test_a_prepared_call_after_a_timeout_waits_for_the_old_answer_first(stepped):
    model, port = stepped
    call = model.prepare({"x": np.zeros(2)})
    with pytest.raises(DeadlineExceeded):
        call(timeout=0.002)
    request = port.poll()
    assert request is None  # expired: answered inside
    call.inputs["x"][:] = 5
    assert (prepared_and_step(stepped, call)["y"] == 11).all()
    with pytest.raises(DeadlineExceeded):
        call(timeout=0.002)
    with pytest.raises(DeadlineExceeded):  # nothing was answered meanwhile
        call(timeout=0.002)
    assert (prepared_and_step(stepped, call)["y"] == 11).all()


def test_closing_a_prepared_call_that_the_worker_holds_gives_it_back_later(stepped):
    model, port = stepped
    call = model.prepare({"x": np.zeros(1000)})
    with pytest.raises(DeadlineExceeded):
        call(timeout=0.002)
    call.close()
    call.close()
    assert model.usage()["abandoned"] == 1
    assert model.usage()["request_bytes_used"] > 0  # the worker may read it still
    step(port)
    model._link.reap()
    assert model.usage()["slots_free"] == 8
    assert model.usage()["request_bytes_used"] == 0
    with pytest.raises(Closed):
        call()


def test_a_dropped_prepared_call_gives_its_slot_back(stepped):
    model, _ = stepped
    for _ in range(20):
        model.prepare({"x": np.zeros(1000)})
    assert model.usage()["slots_free"] == 8


def test_the_answer_of_a_dropped_prepared_call_stays_whole(stepped):
    model, _ = stepped
    y = prepared_and_step(stepped, model.prepare({"x": BIG}))["y"]
    for number in range(20):
        ask(stepped, BIG + number).release()
    assert np.array_equal(y, 2 * BIG + 1)
    del y
    assert model.usage()["slots_free"] + model.usage()["resting"] == 8


def test_two_threads_on_one_prepared_call_get_an_error_and_no_foreign_answer(stepped):
    model, port = stepped
    call = model.prepare({"x": np.zeros(2)})
    first = threading.Thread(target=lambda: outcomes.append(call(timeout=30.0)["y"].sum()))
    outcomes = []
    first.start()
    while (request := port.poll()) is None:
        assert first.is_alive()
    with pytest.raises(InvalidInput, match="another thread"):
        call(timeout=30.0)
    request.answer({"y": np.ones(2)})
    first.join()
    assert outcomes == [2.0]


def test_a_prepared_call_raises_the_models_error_and_goes_on(stepped):
    model, port = stepped
    call = model.prepare({"x": np.zeros(2)})
    failing = threading.Thread(target=lambda: outcomes.append(error_of(call)))
    outcomes = []
    failing.start()
    while (request := port.poll()) is None:
        assert failing.is_alive()
    request.fail(ModelFailed("no"))
    failing.join()
    assert isinstance(outcomes[0], ModelFailed)
    assert (prepared_and_step(stepped, call)["y"] == 1).all()


# --- the end of the channel ---------------------------------------------------------------


def test_a_closed_channel_raises_with_the_daemons_reason(rig):
    fds = rig.channel()
    model = rig.model(fds)
    future = model.submit({"x": np.zeros(1)})
    channel.close(fds[0], Problem("unavailable", "the model was unregistered", "register it"))
    with pytest.raises(Unavailable, match="unregistered") as caught:
        future.result()
    assert caught.value.hint == "register it"
    with pytest.raises(Unavailable, match="no daemon"):  # it would be replaced
        model.infer({"x": np.zeros(1)})


def test_a_waiting_thread_wakes_when_the_channel_is_closed(rig):
    fds = rig.channel()
    model = rig.model(fds)
    outcomes = []
    thread = threading.Thread(
        target=lambda: outcomes.append(
            error_of(lambda: model.infer({"x": np.zeros(1)}, timeout=30.0))
        )
    )
    thread.start()
    port = rig.port(fds)
    while port.poll() is None:
        assert thread.is_alive()
    channel.close(fds[0], Problem("unavailable", "gone"))
    thread.join()
    assert isinstance(outcomes[0], Unavailable)
    assert "gone" in str(outcomes[0])


def test_a_handle_that_was_closed_says_so(stepped):
    model, _ = stepped
    call = model.prepare({"x": np.zeros(1)})
    future = model.submit({"x": np.zeros(1)})
    model.close()
    model.close()
    for refused in (lambda: model.infer({"x": np.zeros(1)}), lambda: model.alloc(3), call):
        with pytest.raises(Closed):
            refused()
    with pytest.raises(Closed):
        future.result()


def test_a_reply_of_nonsense_is_a_broken_channel_for_that_request_alone(rig):
    from channel_layout import Segment

    fds = rig.channel()
    stepped = model, port = rig.model(fds), rig.port(fds)
    future = model.submit({"x": np.zeros(1)})
    slot = future._call.slot
    step(port)
    segment = Segment(fds[0])
    segment.write(segment.where("reply", slot)[0], b"\xc1" * 8)
    segment.close()
    with pytest.raises(ChannelBroken):
        future.result()
    assert (ask(stepped, np.zeros(2))["y"] == 1).all()


def test_usage_counts_what_is_in_use(stepped):
    model, port = stepped
    empty = model.usage()
    assert (empty["slots"], empty["slots_free"], empty["resting"]) == (8, 8, 0)
    future = model.submit({"x": BIG})
    busy = model.usage()
    assert busy["slots_free"] == 7
    assert busy["request_bytes_used"] >= BIG.nbytes
    assert busy["copied_bytes"] == BIG.nbytes
    step(port)
    future.result().release()
    assert model.usage()["resting"] == 1
    counters = port.counters()
    assert counters["answered"] == 1
    assert counters["recovered"] == counters["lost"] == counters["failures"] == 0
    assert all(counters[f"{part}_ns"] >= 0 for part in ("queue", "input", "infer", "output"))


def test_forms_beyond_the_slots_push_each_other_out(stepped):
    model, _ = stepped
    for size in [*range(1, 30), *range(1, 30)]:
        assert (ask(stepped, np.zeros(size))["y"] == 1).all()
    usage = model.usage()
    assert usage["slots_free"] + usage["resting"] == 8
    assert len(model._link.idle) <= 9  # forms without calls are forgotten


def test_a_ping_comes_back_without_the_model(served):
    assert served.ping() > 0
    usage = served.usage()
    assert usage["slots_free"] == 8
