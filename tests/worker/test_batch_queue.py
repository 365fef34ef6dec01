# SPDX-License-Identifier: BUSL-1.1
"""The loop of a model with a batch policy: what waits, in which order it runs, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlos_core.errors import DeadlineExceeded, InvalidInput, MlosError, ModelFailed, Overloaded
from mlos_core.ipc.messages import BatchPolicy
from mlos_core.smi import TensorModel
from mlos_core.types import Signature, TensorSpec
from mlos_core.worker.batch_loop import BatchLoop
from mlos_core.worker.tally import Tally

from .conftest import FakeRig

X = TensorSpec("x", "float32", (-1, -1))
Y = TensorSpec("y", "float32", (-1, -1))


class Negate(TensorModel):
    """y = -x; remembers the first column of each call. 1313 is unlucky."""

    def __init__(self, batched=True):
        self.signature = Signature((X,), (Y,), batched=batched)
        self.calls = []

    def infer(self, batch, allocate):
        x = batch["x"]
        self.calls.append(x[:, 0].tolist())
        if (x == 1313).any():
            raise ValueError("1313 is unlucky")
        out = allocate("y", "float32", x.shape)
        np.negative(x, out=out)
        return {"y": out}


def serve(rig, model, *, keep=lambda _: None, **policy):
    tally = Tally()
    BatchLoop(rig.port, model, BatchPolicy(**policy), tally, rig.idle, keep).run()
    return tally


def row(value, columns=2):
    return {"x": np.full((1, columns), value, np.float32)}


def answers(tickets):
    return [ticket.reply()["y"][0, 0] for ticket in tickets]


# --- what is refused ----------------------------------------------------------------------


def test_what_finds_the_queue_full_is_refused_at_once_and_may_be_tried_again(rig):
    model = Negate()
    tickets = [rig.submit(row(value)) for value in range(7)]
    tally = serve(rig, model, max_batch_size=2, max_queue_size=3, when_full="reject")
    assert answers(tickets[:5]) == [0, -1, -2, -3, -4]
    for ticket in tickets[5:]:
        with pytest.raises(Overloaded, match="requests wait") as caught:
            ticket.reply()
        assert caught.value.retryable
    assert tally.rejected == 2
    assert model.calls == [[0, 1], [2, 3], [4]]


def test_with_room_to_wait_nobody_is_refused(rig):
    tickets = [rig.submit(row(value)) for value in range(50)]
    tally = serve(rig, Negate(), max_batch_size=2, max_queue_size=1, priority_levels=2)
    assert answers(tickets) == [-value for value in range(50)]
    assert tally.rejected == 0


@pytest.mark.parametrize("batched", [True, False])
def test_a_request_that_waited_for_too_long_is_told_so(rig, batched):
    late = rig.submit(row(1), parameters={"timeout": 1})
    fine = rig.submit(row(2), parameters={"timeout": 60_000_000})
    tally = serve(rig, Negate(batched), max_batch_size=4, queue_timeout_us=30_000_000)
    assert answers([fine]) == [-2]
    assert tally.expired == 1
    with pytest.raises(DeadlineExceeded, match="in the queue") as caught:
        late.reply()
    assert caught.value.retryable


def test_the_policy_says_how_long_those_wait_that_do_not(rig):
    late, fine = rig.submit(row(1)), rig.submit(row(2), parameters={"timeout": 60_000_000})
    serve(rig, Negate(), max_batch_size=4, queue_timeout_us=1)
    assert answers([fine]) == [-2]
    with pytest.raises(DeadlineExceeded):
        late.reply()


@pytest.mark.parametrize(
    "parameters",
    [{"priority": value} for value in (4, -1, "1", True)]
    + [{"timeout": value} for value in (0.5, -1, 1 << 60)],
)
def test_an_impossible_priority_or_timeout_is_the_callers_mistake(rig, parameters):
    bad, good = rig.submit(row(1), parameters=parameters), rig.submit(row(2))
    serve(rig, Negate(), max_batch_size=4, priority_levels=3)
    assert answers([good]) == [-2]
    with pytest.raises(InvalidInput, match="the parameter"):
        bad.reply()


# --- in which order -----------------------------------------------------------------------


@pytest.mark.parametrize("batched", [True, False])
def test_1_is_the_highest_priority_and_none_is_the_last(rig, batched):
    model = Negate(batched)
    for value, said in enumerate([{}, {"priority": 3}, {"priority": 2}, {"priority": 1}]):
        rig.submit(row(value, columns=value + 1), parameters=said)
    serve(rig, model, max_batch_size=4, priority_levels=3)
    assert model.calls == [[3], [2], [0], [1]]


def test_the_policy_may_put_those_without_a_priority_elsewhere(rig):
    model = Negate()
    rig.submit(row(2), parameters={"priority": 2})
    rig.submit(row(1, columns=3), parameters={"priority": 0})
    serve(rig, model, max_batch_size=4, priority_levels=2, default_priority=1)
    assert model.calls == [[1], [2]]


def test_without_levels_a_priority_means_nothing_and_splits_no_batch(rig):
    model = Negate()
    rig.submit(row(1), parameters={"priority": 9})
    rig.submit(row(2), parameters={"priority": 1})
    rig.submit(row(3), parameters={"timeout": 10**9})
    serve(rig, model, max_batch_size=4)
    assert model.calls == [[1, 2, 3]]


def test_answers_of_one_channel_keep_the_order_of_its_requests(fake):
    values = [(n, 2 + n * 7 % 3, n % 2) for n in range(40)]
    sent = [
        fake.submit(row(n, columns), parameters={"priority": 1 + n % 3}, channel=channel)
        for n, columns, channel in values
    ]
    serve(fake, Negate(), max_batch_size=4, priority_levels=3, preserve_ordering=True)
    for channel in (0, 1):
        mine = [request for request in sent if request.channel == channel]
        assert [request for request in fake.port.ended if request.channel == channel] == mine


def test_order_survives_a_batch_that_fails(fake):
    sent = [fake.submit(row(value)) for value in (1, 2, 1313, 3, 4)]
    serve(fake, Negate(), max_batch_size=8, preserve_ordering=True)
    assert fake.port.ended == sent


# --- what runs together -------------------------------------------------------------------


def test_many_shapes_are_grouped_and_each_gets_its_own_answer(rig):
    model = Negate()
    tickets = [(n, rig.submit(row(n, columns=1 + n % 7))) for n in range(56)]
    serve(rig, model, max_batch_size=8, max_queue_size=56)
    for n, ticket in tickets:
        assert ticket.reply()["y"].tolist() == [[-n] * (1 + n % 7)]
    assert len(model.calls) == 7


def test_a_request_of_several_rows_gets_all_of_them(rig):
    model = Negate()
    tickets = [
        rig.submit({"x": np.arange(2.0 * n, dtype=np.float32).reshape(n, 2)}) for n in (3, 1)
    ]
    serve(rig, model, max_batch_size=4)
    assert [len(call) for call in model.calls] == [4]
    assert tickets[0].reply()["y"].tolist() == [[0, -1], [-2, -3], [-4, -5]]
    assert tickets[1].reply()["y"].tolist() == [[0, -1]]


def test_a_bad_request_is_found_by_halves(rig):
    model = Negate()
    tickets = [rig.submit(row(value)) for value in (0, 1, 2, 3, 4, 1313, 6, 7)]
    serve(rig, model, max_batch_size=8)
    assert answers(tickets[:5] + tickets[6:]) == [0, -1, -2, -3, -4, -6, -7]
    assert [len(call) for call in model.calls] == [8, 4, 4, 2, 1, 1, 2]
    with pytest.raises(ModelFailed, match="1313 is unlucky"):
        tickets[5].reply()


def test_a_model_that_only_says_it_batches_is_believed_three_times(rig):
    class First(Negate):
        def infer(self, batch, allocate):
            return {"y": super().infer(batch, allocate)["y"][:1].copy()}

    model = First()
    tickets = [rig.submit(row(value)) for value in range(10)]
    serve(rig, model, max_batch_size=2)
    assert answers(tickets) == [-value for value in range(10)]
    assert [len(call) for call in model.calls] == [2, 1, 1] * 3 + [1] * 4


def test_one_answer_does_not_show_through_in_another(rig):
    """Outputs of merged calls lie in memory that is used again."""

    class Twice(Negate):
        signature = Signature((X,), (Y, TensorSpec("z", "float32", (-1, -1))), batched=True)

        def infer(self, batch, allocate):
            first = super().infer(batch, allocate)["y"]
            second = super().infer({"x": -batch["x"]}, allocate)["y"]
            return {"y": first, "z": second}

    model = Twice()
    model.signature = Twice.signature
    tickets = [rig.submit(row(value)) for value in range(1, 9)]
    serve(rig, model, max_batch_size=4)
    for value, ticket in enumerate(tickets, 1):
        assert ticket.reply()["y"].tolist() == [[-value, -value]]
        assert ticket.reply()["z"].tolist() == [[value, value]]


def test_inputs_of_a_merged_call_are_read_only(rig):
    class Vandal(Negate):
        def infer(self, batch, allocate):
            if len(batch["x"]) > 1:
                batch["x"][:] = 0
            return super().infer(batch, allocate)

    tickets = [rig.submit(row(value)) for value in (1, 2)]
    serve(rig, Vandal(), max_batch_size=4)
    assert answers(tickets) == [-1, -2]


def test_texts_are_merged_too(fake):
    text = TensorSpec("x", "bytes", (-1,))

    class Upper(TensorModel):
        signature = Signature((text,), (TensorSpec("y", "bytes", (-1,)),), batched=True)

        def infer(self, batch, allocate):
            return {"y": np.array([item.upper() for item in batch["x"]], object)}

    tickets = [fake.submit({"x": np.array([word], object)}) for word in (b"a", b"bc")]
    tally = serve(fake, Upper(), max_batch_size=4)
    assert [ticket.reply()["y"].tolist() for ticket in tickets] == [[b"A"], [b"BC"]]
    assert tally.executions == 1


def test_what_was_answered_well_is_kept_as_a_sample_once_for_each_header(rig):
    kept = []
    for value in (1, 2, 1313):
        rig.submit(row(value))
    serve(rig, Negate(), max_batch_size=4, keep=lambda inputs: kept.append(inputs["x"][0, 0]))
    assert kept == [1, 2]


def test_calls_are_counted_by_their_rows(rig):
    for value in range(5):
        rig.submit(row(value))
    tally = serve(rig, Negate(), max_batch_size=4)
    assert (tally.executions, tally.rows) == (2, 5)
    assert {rows: calls for rows, (calls, _) in tally.statistics(rig.port, 1).batches.items()} == {
        4: 1,
        1: 1,
    }


# --- whatever comes -----------------------------------------------------------------------

sent = st.lists(
    st.tuples(
        st.integers(1, 3),  # rows
        st.integers(1, 3),  # columns
        st.integers(0, 2),  # channel
        st.sampled_from(["fine"] * 6 + ["unlucky", "cancelled", "late", "wrong", "no output"]),
        st.sampled_from([{}, {"priority": 1}, {"priority": 2}, {"timeout": 1}, {"priority": 9}]),
    ),
    max_size=30,
)
policies = st.builds(
    BatchPolicy,
    max_batch_size=st.integers(2, 6),
    max_queue_delay_us=st.sampled_from([0, 50]),
    preferred_batch_sizes=st.sampled_from([(), (2,)]),
    max_queue_size=st.integers(1, 30),
    when_full=st.sampled_from(["wait", "reject"]),
    queue_timeout_us=st.sampled_from([0, 10**9]),
    priority_levels=st.sampled_from([0, 2]),
    preserve_ordering=st.booleans(),
)


@given(sent, policies)
def test_each_request_gets_its_own_answer_or_a_reason_exactly_once(sent, policy):
    rig, model = FakeRig(), Negate()
    tickets = []
    for number, (rows, columns, channel, fate, parameters) in enumerate(sent):
        value = 1313 if fate == "unlucky" else number
        shape = (rows, columns) if fate != "wrong" else (rows,)
        ticket = rig.submit(
            {"x": np.full(shape, value, np.float32)},
            channel=channel,
            parameters=parameters,
            outputs=("q",) if fate == "no output" else (),
            deadline_ns=1 if fate == "late" else 0,
        )
        ticket.is_cancelled = fate == "cancelled"
        tickets.append((ticket, number, fate))
    BatchLoop(rig.port, model, policy, Tally(), rig.idle).run()
    for ticket, number, fate in tickets:
        try:
            y = ticket.reply()["y"]  # the fake asserts that there is no second one
        except MlosError:
            excuse = {"timeout"} | ({"priority"} if policy.priority_levels else set())
            refused = policy.when_full == "reject" or excuse & ticket.parameters.keys()
            assert fate != "fine" or refused
            continue
        # The port refuses what is cancelled or late when it is claimed; this one does not.
        assert fate in ("fine", "cancelled", "late")
        assert (y == -number).all()
        assert y.shape == ticket.inputs["x"].shape
    assert len(rig.port.ended) == len(sent)
