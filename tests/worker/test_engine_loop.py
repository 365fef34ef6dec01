# SPDX-License-Identifier: BUSL-1.1

import msgspec
import numpy as np
import pytest

from mlos_core.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    Overloaded,
)
from mlos_core.ipc.header import INFER, STREAM
from mlos_core.smi import EngineModel, Event
from mlos_core.types import Signature, TensorSpec
from mlos_core.worker import engine_loop
from mlos_core.worker.engine_loop import EngineLoop
from mlos_core.worker.tally import Tally


class Counter(EngineModel):
    """Streams 0, 1, 2, … up to the request's `n`; answers with n. Its log tells all."""

    signature = Signature(
        (TensorSpec("n", "int64", (1,)),), (TensorSpec("n", "int64", (1,)),), streaming=True
    )

    def __init__(self, capacity=100):
        self.capacity = capacity
        self.running = {}
        self.paused = set()
        self.log = []

    def submit(self, request):
        if len(self.running) >= self.capacity:
            raise Overloaded("no room")
        if request.parameters.get("bad"):
            raise ValueError("bad parameters")
        self.running[request.id] = [request.resume_from, int(request.inputs["n"][0])]

    def cancel(self, id):
        self.log.append(("cancel", id))
        self.running.pop(id, None)

    def pause(self, id):
        self.log.append(("pause", id))
        self.paused.add(id)

    def resume(self, id):
        self.log.append(("resume", id))
        self.paused.discard(id)

    def step(self):
        events = []
        for id, state in list(self.running.items()):
            if id in self.paused:
                continue
            at, n = state
            if at >= n:
                del self.running[id]
                events.append(Event(id, final=True, outputs={"n": np.array([n])}))
            else:
                state[0] += 1
                events.append(Event(id, data=at))
        return events


def n(value):
    return {"n": np.array([value], np.int64)}


def loop_over(rig, engine):
    return EngineLoop(rig.port, engine, Tally(), rig.idle)


def test_a_stream_is_delivered_in_order_and_then_answered(rig):
    ticket = rig.submit(n(5), kind=STREAM)
    loop_over(rig, Counter()).run()
    assert ticket.read_events() == [0, 1, 2, 3, 4]
    assert ticket.reply()["n"].tolist() == [5]


def test_a_plain_request_gets_only_the_reply(rig):
    ticket = rig.submit(n(3), kind=INFER)
    loop_over(rig, Counter()).run()
    assert ticket.read_events() == []
    assert ticket.reply()["n"].tolist() == [3]


def test_many_requests_run_at_once_and_each_ends_once(rig):
    engine = Counter()
    tickets = [rig.submit(n(size), kind=STREAM) for size in (4, 0, 2, 6)]
    loop_over(rig, engine).run()
    for ticket, size in zip(tickets, (4, 0, 2, 6), strict=True):
        assert ticket.read_events() == list(range(size))
        assert ticket.reply()["n"].tolist() == [size]
    assert not engine.running
    assert rig.port.counters()["answered"] == 4


def test_a_reader_that_is_behind_pauses_its_stream_alone_and_loses_nothing(rig):
    engine = Counter()
    slow, quick = rig.submit(n(500), kind=STREAM), rig.submit(n(100), kind=INFER)
    loop = loop_over(rig, engine)
    for _ in range(150):
        loop.turn()
    assert quick.reply()["n"].tolist() == [100]
    assert slow.reply() is None
    assert engine.log == [("pause", 1)]
    read = []
    while (reply := slow.reply()) is None:
        read += slow.read_events()
        loop.turn()
    read += slow.read_events()
    assert read == list(range(500))
    assert reply["n"].tolist() == [500]
    assert ("resume", 1) in engine.log


def test_an_engine_that_ignores_a_pause_is_stopped(fake, monkeypatch):
    monkeypatch.setattr(engine_loop, "MAX_PENDING", 20)

    class Deaf(Counter):
        def pause(self, id):
            pass

    ticket, other = fake.submit(n(100), kind=STREAM), fake.submit(n(100))
    engine = Deaf()
    loop_over(fake, engine).run()
    assert other.reply()["n"].tolist() == [100]
    with pytest.raises(ModelFailed, match="paused"):
        ticket.reply()
    assert engine.log == [("cancel", 1)]


def test_the_answer_waits_for_events_that_wait(fake):
    class Burst(Counter):
        def step(self):
            (id,) = self.running
            del self.running[id]
            events = [Event(id, data=at) for at in range(20)]
            return [*events, Event(id, final=True, outputs={"n": np.array([20])})]

    ticket = fake.submit(n(20), kind=STREAM)
    loop = loop_over(fake, Burst())
    loop.turn()
    assert ticket.answered is None
    read = ticket.read_events()
    while ticket.answered is None:
        loop.turn()
        read += ticket.read_events()
    assert read == list(range(20))


def test_a_resumed_stream_goes_on_where_the_dead_worker_stopped(fake):
    ticket = fake.submit(n(5), kind=STREAM, attempt=1, sent=3)
    loop_over(fake, Counter()).run()
    assert ticket.read_events() == [3, 4]
    assert ticket.reply()["n"].tolist() == [5]


def test_what_earlier_attempts_noted_reaches_the_engine_and_new_notes_are_kept(fake):
    class Noting(Counter):
        def submit(self, request):
            self.requests = [*getattr(self, "requests", []), request]
            super().submit(request)

        def step(self):
            return [msgspec.structs.replace(e, note=b"n%d" % self.at(e)) for e in super().step()]

        def at(self, event):
            return -1 if event.data is None else event.data

    first, second = (fake.submit(n(12), kind=STREAM, attempt=a, sent=3 * a) for a in (0, 1))
    first.kept = second.kept = (b"n0", b"n1", b"n2")
    engine = Noting()
    loop = loop_over(fake, engine)
    for _ in range(100):
        loop.turn()
        first.read_events()
        second.read_events()
    assert [r.journal for r in engine.requests] == [(), second.kept]
    assert [r.key for r in engine.requests] == [first.key, second.key]
    assert [r.owner for r in engine.requests] == [first.owner, second.owner]
    assert first.notes == [b"n%d" % number for number in range(12)]
    assert second.notes == first.notes[3:]


def test_the_engines_statistics_are_told_and_a_broken_one_harms_nobody(fake):
    class Telling(Counter):
        def statistics(self):
            return {"steps": 3.0}

    class Broken(Counter):
        def statistics(self):
            raise RuntimeError("no")

    told = []
    for engine in (Telling(), Broken()):
        tally = Tally()
        EngineLoop(fake.port, engine, tally, fake.idle)
        told.append(tally.statistics(fake.port, 0).engine)
    assert told == [{"steps": 3.0}, {}]


def test_a_first_attempt_starts_at_the_beginning_whatever_the_slot_says(fake):
    ticket = fake.submit(n(2), kind=STREAM, attempt=0, sent=7)
    loop_over(fake, Counter()).run()
    assert ticket.read_events() == [0, 1]


def test_a_cancelled_request_leaves_the_engine_at_the_next_step(rig):
    engine = Counter()
    ticket, other = rig.submit(n(1000), kind=INFER), rig.submit(n(20), kind=INFER)
    loop = loop_over(rig, engine)
    loop.turn()
    loop.turn()
    assert len(engine.running) == 2
    ticket.cancel()
    loop.run()
    assert engine.log == [("cancel", 1)]
    assert other.reply()["n"].tolist() == [20]
    with pytest.raises(Cancelled):
        ticket.reply()


def test_a_deadline_ends_a_running_request(fake):
    ticket = fake.submit(n(10**9))
    loop = loop_over(fake, Counter())
    loop.turn()
    ticket.deadline_ns = 1
    loop.turn()
    with pytest.raises(DeadlineExceeded):
        ticket.reply()


@pytest.mark.parametrize(
    ("inputs", "parameters", "kind", "word"),
    [
        ({"n": np.zeros(2, np.int64)}, {}, InvalidInput, "shape"),
        (n(1), {"bad": True}, ModelFailed, "ValueError: bad parameters"),
    ],
)
def test_a_request_that_is_refused_disturbs_no_other(rig, inputs, parameters, kind, word):
    good, bad = rig.submit(n(2)), rig.submit(inputs, parameters=parameters)
    loop_over(rig, Counter()).run()
    assert good.reply()["n"].tolist() == [2]
    with pytest.raises(kind, match=word):
        bad.reply()


def test_a_full_engine_answers_overloaded(rig):
    first, second = rig.submit(n(2)), rig.submit(n(2))
    loop_over(rig, Counter(capacity=1)).run()
    assert first.reply()["n"].tolist() == [2]
    with pytest.raises(Overloaded, match="no room"):
        second.reply()


def test_an_error_event_ends_its_request_alone(rig):
    class Choosy(Counter):
        def step(self):
            events = super().step()
            odd = [e.id for e in events if e.id % 2]
            for id in odd:
                self.running.pop(id, None)
            return [Event(e.id, error=ValueError("odd")) if e.id in odd else e for e in events]

    odd, even = rig.submit(n(2)), rig.submit(n(2))
    loop_over(rig, Choosy()).run()
    assert even.reply()["n"].tolist() == [2]
    with pytest.raises(ModelFailed, match="ValueError: odd"):
        odd.reply()


def test_a_step_that_raises_fails_all_who_ran_and_the_next_request_is_served(rig):
    class Fragile(Counter):
        fragile = True

        def step(self):
            if self.fragile:
                raise RuntimeError("out of luck")
            return super().step()

    engine = Fragile()
    tickets = [rig.submit(n(1)), rig.submit(n(1))]
    loop = loop_over(rig, engine)
    loop.turn()
    for ticket in tickets:
        with pytest.raises(ModelFailed, match="RuntimeError: out of luck"):
            ticket.reply()
    engine.fragile = False
    again = rig.submit(n(1))
    loop.run()
    assert again.reply()["n"].tolist() == [1]
    assert engine.running == {}


def test_a_step_that_raises_takes_nothing_from_an_answer_that_is_on_its_way(fake):
    class Burst(Counter):
        def step(self):
            if self.log:
                raise RuntimeError("out of luck")
            done = self.running.pop(1)[1]
            events = [Event(1, data=at) for at in range(done)]
            return [*events, Event(1, final=True, outputs={"n": np.array([done])})]

    done, other = fake.submit(n(20), kind=STREAM), fake.submit(n(1))
    loop = loop_over(fake, Burst())
    for _ in range(2):
        loop.turn()
    with pytest.raises(ModelFailed, match="out of luck"):
        other.reply()
    read = done.read_events()
    while done.answered is None:
        loop.turn()
        read += done.read_events()
    assert read == list(range(20))
    assert done.reply()["n"].tolist() == [20]


def test_an_event_that_cannot_be_encoded_fails_its_request_alone(rig):
    class Opaque(Counter):
        def step(self):
            return [
                Event(e.id, data=object()) if e.id == 1 and not e.final else e
                for e in super().step()
            ]

    bad, good = rig.submit(n(2), kind=STREAM), rig.submit(n(2), kind=STREAM)
    loop_over(rig, Opaque()).run()
    with pytest.raises(ModelFailed, match="TypeError"):
        bad.reply()
    assert good.read_events() == [0, 1]
    assert good.reply()["n"].tolist() == [2]


def test_outputs_of_the_last_event_are_held_to_the_signature(rig):
    class Liar(Counter):
        def step(self):
            (id,) = self.running
            del self.running[id]
            return [Event(id, final=True, outputs={"m": np.zeros(1)})]

    ticket = rig.submit(n(1))
    loop_over(rig, Liar()).run()
    with pytest.raises(ModelFailed, match="unknown output 'm'"):
        ticket.reply()


def test_an_event_for_an_unknown_request_is_ignored(rig):
    class Haunted(Counter):
        def step(self):
            return [Event(999, data=1), *super().step()]

    ticket = rig.submit(n(1))
    loop_over(rig, Haunted()).run()
    assert ticket.reply()["n"].tolist() == [1]


def test_an_executed_step_counts_and_so_does_each_finished_request(fake):
    tally = Tally()
    fake.submit(n(3))
    EngineLoop(fake.port, Counter(), tally, fake.idle).run()
    assert (tally.executions, tally.rows) == (4, 1)
