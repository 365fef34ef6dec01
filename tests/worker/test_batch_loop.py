# SPDX-License-Identifier: BUSL-1.1
import time

import numpy as np
import pytest

from mlos_core.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    MlosError,
    ModelFailed,
    Unsupported,
)
from mlos_core.ipc.messages import BatchPolicy
from mlos_core.smi import TensorModel
from mlos_core.types import Signature, TensorSpec
from mlos_core.worker.batch_loop import BatchLoop
from mlos_core.worker.tally import Tally

X = TensorSpec("x", "float32", (-1, 2))
Y = TensorSpec("y", "float32", (-1, 2))


class Negate(TensorModel):
    """y = -x; remembers the rows of each call."""

    signature = Signature((X,), (Y,), batched=True)

    def __init__(self):
        self.calls = []

    def infer(self, batch, allocate):
        x = batch["x"]
        self.calls.append(len(x))
        if (x == 13).any():
            raise ValueError("13 is unlucky")
        out = allocate("y", "float32", x.shape)
        np.negative(x, out=out)
        return {"y": out}


def answering(function, outputs=(Y,)):
    """A model whose `infer` is a function of x alone."""

    class Model(TensorModel):
        signature = Signature((X,), outputs, batched=True)

        def infer(self, batch, allocate):
            return function(batch["x"])

    return Model()


def serve(rig, model, **policy):
    tally = Tally()
    BatchLoop(rig.port, model, BatchPolicy(**policy), tally, rig.idle).run()
    return tally


def rows(*values):
    return {"x": np.array([[v, v] for v in values], np.float32)}


def test_a_request_is_answered(rig):
    ticket = rig.submit(rows(1, 2))
    serve(rig, Negate())
    assert ticket.reply()["y"].tolist() == [[-1, -1], [-2, -2]]


def test_an_output_in_allocated_memory_is_not_copied(rig):
    rig.submit(rows(1))
    serve(rig, Negate())
    assert rig.port.counters()["copied_bytes"] == 0


def test_an_output_in_other_memory_is_copied_and_counted(rig):
    ticket = rig.submit(rows(1))
    serve(rig, answering(lambda x: {"y": x + 1}))
    assert ticket.reply()["y"].tolist() == [[2, 2]]
    assert rig.port.counters()["copied_bytes"] == 8


def test_without_a_policy_nothing_is_merged(rig):
    model = Negate()
    for value in range(3):
        rig.submit(rows(value))
    tally = serve(rig, model)
    assert model.calls == [1, 1, 1]
    assert tally.executions == 3


def test_waiting_requests_of_equal_shape_are_merged(rig):
    model = Negate()
    tickets = [rig.submit(rows(value, value)) for value in range(5)]
    tally = serve(rig, model, max_batch_size=6)
    assert model.calls == [6, 4]
    assert (tally.executions, tally.rows, tally.copied_bytes) == (2, 10, 160)
    for value, ticket in enumerate(tickets):
        assert ticket.reply()["y"].tolist() == [[-value, -value]] * 2


def test_a_lone_request_takes_the_short_way(rig):
    model = Negate()
    ticket = rig.submit(rows(4))
    serve(rig, model, max_batch_size=8)
    assert ticket.reply()["y"].tolist() == [[-4, -4]]
    assert rig.port.counters()["copied_bytes"] == 0


def test_a_delay_does_not_keep_anyone_for_ever(rig):
    ticket = rig.submit(rows(4))
    serve(rig, Negate(), max_batch_size=8, max_queue_delay_us=500)
    assert ticket.reply()["y"].tolist() == [[-4, -4]]


def test_requests_that_differ_in_parameters_are_not_merged(rig):
    model = Negate()
    rig.submit(rows(1), parameters={"a": 1})
    rig.submit(rows(1), parameters={"a": 2})
    rig.submit(rows(1), parameters={"a": 1})
    serve(rig, model, max_batch_size=8)
    assert model.calls == [2, 1]


def test_a_bad_request_does_not_fail_its_neighbours(rig):
    tickets = [rig.submit(rows(value)) for value in (1, 13, 2)]
    serve(rig, Negate(), max_batch_size=8)
    assert tickets[0].reply()["y"].tolist() == [[-1, -1]]
    assert tickets[2].reply()["y"].tolist() == [[-2, -2]]
    with pytest.raises(ModelFailed, match="ValueError: 13 is unlucky"):
        tickets[1].reply()


def test_a_model_that_does_not_really_batch_still_answers(rig):
    tickets = [rig.submit(rows(value)) for value in (1, 2)]
    serve(rig, answering(lambda x: {"y": x[:1] * 3}), max_batch_size=8)
    assert [t.reply()["y"].tolist() for t in tickets] == [[[3, 3]], [[6, 6]]]


def test_a_model_that_is_not_batched_is_never_given_a_batch(rig):
    model = Negate()
    model.signature = Signature((X,), (Y,))
    for value in range(3):
        rig.submit(rows(value))
    serve(rig, model, max_batch_size=8)
    assert model.calls == [1, 1, 1]


def test_a_request_that_was_cancelled_while_it_waited_is_not_run(fake):
    model = Negate()
    kept, dropped = fake.submit(rows(1)), fake.submit(rows(2))
    dropped.cancel()
    tally = serve(fake, model, max_batch_size=8)
    assert model.calls == [1]
    assert kept.reply()["y"].tolist() == [[-1, -1]]
    assert tally.cancelled == 1
    with pytest.raises(Cancelled):
        dropped.reply()


def test_a_request_past_its_deadline_is_told_so(fake):
    fake.submit(rows(1))
    late = fake.submit(rows(2), deadline_ns=1)
    serve(fake, Negate(), max_batch_size=8)
    with pytest.raises(DeadlineExceeded):
        late.reply()


@pytest.mark.parametrize("policy", [{}, {"max_batch_size": 8}])
@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        ({"x": np.zeros((1, 3), np.float32)}, "shape"),
        ({"x": np.zeros((1, 2), np.float64)}, "dtype"),
        ({"z": np.zeros((1, 2), np.float32)}, "unknown input 'z'"),
        ({}, "missing input 'x'"),
    ],
)
def test_inputs_that_do_not_fit_are_told_what_would(rig, policy, inputs, word):
    before, bad, after = rig.submit(rows(1)), rig.submit(inputs), rig.submit(rows(2))
    serve(rig, Negate(), **policy)
    with pytest.raises(InvalidInput, match=word):
        bad.reply()
    assert before.reply()["y"].tolist() == [[-1, -1]]
    assert after.reply()["y"].tolist() == [[-2, -2]]


@pytest.mark.parametrize("policy", [{}, {"max_batch_size": 8}])
def test_only_the_wanted_outputs_are_sent(rig, policy):
    outputs = (Y, TensorSpec("z", "float32", (-1, 2)))
    model = answering(lambda x: {"y": x, "z": x * 2}, outputs)
    some, every = rig.submit(rows(1), outputs=("z",)), rig.submit(rows(1))
    unknown = rig.submit(rows(1), outputs=("w",))
    serve(rig, model, **policy)
    assert some.reply().keys() == {"z"}
    assert every.reply().keys() == {"y", "z"}
    with pytest.raises(InvalidInput, match="no output 'w'"):
        unknown.reply()


@pytest.mark.parametrize(
    ("outputs", "word"),
    [
        (None, "NoneType"),
        ({}, "did not return the output 'y'"),
        ({"y": [1.0]}, "list, not a NumPy array"),
        ({"y": np.zeros((1, 2))}, "dtype float64, not float32"),
        ({"y": np.zeros((1, 2), complex)}, "complex128"),
        ({"y": np.zeros((1, 2), np.float32), "q": np.zeros(1)}, "unknown output 'q'"),
    ],
)
def test_a_model_is_held_to_its_signature(rig, outputs, word):
    ticket = rig.submit(rows(1))
    serve(rig, answering(lambda _: outputs))
    with pytest.raises(ModelFailed, match=word):
        ticket.reply()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (KeyError("lost"), ModelFailed, "KeyError: 'lost'"),
        (RuntimeError(), ModelFailed, "RuntimeError"),
        (SystemExit(3), ModelFailed, "SystemExit: 3"),
        (MemoryError("all of it"), ModelFailed, "MemoryError: all of it"),
        (Unsupported("not that", hint="do this"), Unsupported, "not that"),
    ],
)
def test_an_exception_of_the_plugin_is_the_answer_and_the_loop_goes_on(rig, error, kind, text):
    def misbehave(x):
        if x[0, 0]:
            raise error
        return {"y": x}

    bad, good = rig.submit(rows(1)), rig.submit(rows(0))
    serve(rig, answering(misbehave))
    with pytest.raises(MlosError) as caught:
        bad.reply()
    assert type(caught.value) is kind
    assert caught.value.message == text
    assert "Traceback" not in str(caught.value)
    assert good.reply()["y"].tolist() == [[0, 0]]


def test_the_inputs_of_a_lone_request_are_read_only(rig):
    def write(x):
        x[:] = 1
        return {"y": x}

    ticket = rig.submit(rows(0))
    if type(rig).__name__ == "FakeRig":
        ticket.inputs["x"].flags.writeable = False
    serve(rig, answering(write))
    with pytest.raises(ModelFailed, match="read-only"):
        ticket.reply()


def test_time_is_split_into_queue_input_infer_and_output(real):
    def slow(x):
        time.sleep(0.002)
        return {"y": x}

    real.submit(rows(1))
    stats = serve(real, answering(slow)).statistics(real.port, 1)
    assert (stats.requests, stats.executions, stats.rows, stats.failures) == (1, 1, 1, 0)
    assert stats.infer_ns >= 2_000_000
    assert min(stats.queue_ns, stats.input_ns, stats.output_ns) > 0
