# SPDX-License-Identifier: BUSL-1.1
"""The control connection, against a daemon whose answers the test gives one by one."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from control_daemon import PATIENCE, ControlDaemon

from mlos_core.client.aio import connect_async
from mlos_core.client.client import Client
from mlos_core.client.session import Session
from mlos_core.errors import DeadlineExceeded, InvalidInput, LoadFailed, NotFound, Unavailable
from mlos_core.ipc import framing
from mlos_core.ipc import header as wire
from mlos_core.ipc.messages import (
    Answer,
    Attach,
    Attached,
    Call,
    Detach,
    Problem,
    Resume,
)
from mlos_core.types import Signature, TensorSpec


@pytest.fixture
def daemon(tmp_path):
    daemon = ControlDaemon(tmp_path / "s")
    yield daemon
    daemon.stop()


@pytest.fixture
def session(daemon):
    session = Session(daemon.path, PATIENCE)
    yield session
    session.close()


@pytest.fixture
def threads():
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def fds():
    made = [os.eventfd(0) for _ in range(3)]
    yield made
    framing.close_all(made)


def test_who_waits_long_keeps_nobody_else_waiting(daemon, session, threads):
    slow = threads.submit(session.call, "load_model", {}, PATIENCE)
    first = daemon.next(Call)
    quick = threads.submit(session.call, "models", {}, PATIENCE)
    second = daemon.next(Call)
    daemon.send(Answer(second.id, result="quick"))
    assert quick.result(PATIENCE) == "quick"
    assert not slow.done()
    daemon.send(Answer(first.id, result="slow"))
    assert slow.result(PATIENCE) == "slow"


def test_many_threads_get_each_its_own_answer(daemon, session, threads):
    calls = {n: threads.submit(session.call, "echo", {"n": n}, PATIENCE) for n in range(4)}
    for message in [daemon.next(Call) for _ in calls][::-1]:
        daemon.send(Answer(message.id, result=message.params["n"]))
    assert {n: call.result(PATIENCE) for n, call in calls.items()} == {n: n for n in calls}


def test_who_gives_up_waiting_leaves_reading_to_the_others(daemon, session, threads):
    with pytest.raises(DeadlineExceeded):
        session.call("models", {}, 0.0)
    daemon.next(Call)
    waiting = threads.submit(session.call, "models", {}, PATIENCE)
    message = daemon.next(Call)
    with pytest.raises(DeadlineExceeded):
        session.call("status", {}, 0.0)
    daemon.send(Answer(message.id, result=1))
    assert waiting.result(PATIENCE) == 1


def test_a_problem_is_the_callers_alone(daemon, session, threads):
    bad = threads.submit(session.call, "model", {"name": "x"}, PATIENCE)
    message = daemon.next(Call)
    daemon.send(Answer(message.id, problem=Problem("not_found", "no x")))
    with pytest.raises(NotFound):
        bad.result(PATIENCE)


def test_when_the_daemon_hangs_up_all_are_told_and_the_next_call_connects_anew(
    daemon, session, threads
):
    calls = [threads.submit(session.call, "models", {}, PATIENCE) for _ in range(3)]
    for _ in calls:
        daemon.next(Call)
    daemon.hang_up()
    for call in calls:
        with pytest.raises(Unavailable):
            call.result(PATIENCE)
    again = threads.submit(session.call, "models", {}, PATIENCE)
    daemon.send(Answer(daemon.next(Call).id, result=[]))
    assert again.result(PATIENCE) == []
    assert session.generation == 2


def test_closing_wakes_who_waits(daemon, session, threads):
    waiting = threads.submit(session.call, "models", {}, None)
    daemon.next(Call)
    session.close()
    with pytest.raises(Unavailable):
        waiting.result(PATIENCE)


def test_a_channel_that_comes_too_late_is_given_back(daemon, session, threads, fds):
    with pytest.raises(DeadlineExceeded):
        session._channel(Attach(id=77, model="m"), 0.0)
    message = daemon.next(Attach)
    call = threads.submit(session.call, "models", {}, PATIENCE)
    asked = daemon.next(Call)
    daemon.send(Attached(message.id, "late", "m", "1", Signature((), ())), fds)
    assert daemon.next(Detach).channel == "late"
    daemon.send(Answer(asked.id, result=[]))
    assert call.result(PATIENCE) == []


def test_attaching_names_version_and_time_and_says_what_a_missed_deadline_means(
    daemon, session, threads
):
    attach = threads.submit(session.attach, "m", 4, 64, 64, 2.5, "2.0")
    message = daemon.next(Attach)
    assert (message.model, message.version, message.timeout) == ("m", "2.0", 2.5)
    problem = Problem("deadline_exceeded", "model 'm' is still loading after 2.5 s", "x")
    daemon.send(Answer(message.id, problem=problem))
    with pytest.raises(DeadlineExceeded, match="still loading") as late:
        attach.result(PATIENCE)
    assert "goes on loading" in late.value.hint
    assert "timeout=" in late.value.hint


def test_a_channel_is_resumed_by_the_words_it_was_asked_for_with(daemon, session, threads):
    resume = threads.submit(session.resume, "m", "channel", (0, 0), "2.0")
    message = daemon.next(Resume)
    assert (message.model, message.version) == ("m", "2.0")
    daemon.send(Answer(message.id, problem=Problem("not_found", "forgotten")))
    with pytest.raises(NotFound):
        resume.result(PATIENCE)


def test_a_request_has_its_deadline_from_the_beginning_of_the_attach(daemon, threads):
    with Client(daemon.path) as client:
        model = client.model("m", version="1.0", timeout=600)
        asked = threads.submit(model.infer, {"x": [1.0]}, timeout=5.0)
        message = daemon.next(Attach)
        assert (message.version, message.timeout) == ("1.0", 5.0)
        daemon.send(Answer(message.id, problem=Problem("deadline_exceeded", "still loading")))
        with pytest.raises(DeadlineExceeded):
            asked.result(PATIENCE)
        described = threads.submit(lambda: model.signature)
        message = daemon.next(Attach)
        assert message.timeout == 600
        daemon.send(Answer(message.id, problem=Problem("not_found", "no m")))
        with pytest.raises(NotFound):
            described.result(PATIENCE)


# --- a route that leads elsewhere ----------------------------------------------------------

OLD = Signature((TensorSpec("x", "float32", (-1,)),), ())
NEW = Signature((TensorSpec("y", "float64", (-1,)),), ())


class Attaching:
    """Answers attaches with channels of a rig."""

    def __init__(self, daemon, rig):
        self.daemon, self.rig = daemon, rig

    def answer(self, signature, name="channel", message=None):
        message = message or self.daemon.next(Attach)
        segment, event = self.rig.channel(slots=4, request_bytes=1 << 16, reply_bytes=1 << 16)
        attached = Attached(message.id, name, "m", "1", signature)
        self.daemon.send(attached, (segment, self.rig.bell_fd, event))
        return message


@pytest.fixture
def attaching(daemon, rig):
    return Attaching(daemon, rig)


def test_an_input_that_does_not_fit_makes_a_handle_look_where_the_route_leads(
    daemon, attaching, threads
):
    with Client(daemon.path) as client:
        model = client.model("m")
        described = threads.submit(lambda: model.signature)
        attaching.answer(OLD)
        assert described.result(PATIENCE) == OLD
        asked = threads.submit(model._obtain, {"y": [1.0]}, wire.INFER)
        attaching.answer(NEW)
        call = asked.result(PATIENCE)
        assert call.link.signature == model.signature == NEW
        assert daemon.next(Detach).channel == "channel"


def test_where_it_leads_to_the_same_the_input_is_wrong_and_nobody_looks_again_at_once(
    daemon, attaching, threads
):
    with Client(daemon.path) as client:
        model = client.model("m")
        described = threads.submit(lambda: model.signature)
        attaching.answer(OLD, "first")
        described.result(PATIENCE)
        asked = threads.submit(model.infer, {"y": [1.0]})
        attaching.answer(OLD, "second")
        with pytest.raises(InvalidInput, match="unknown input 'y'"):
            asked.result(PATIENCE)
        assert daemon.next(Detach).channel == "second"
        with pytest.raises(InvalidInput):
            model.infer({"y": [1.0]})
        assert daemon.asked.empty()


def test_a_handle_on_a_version_never_looks(daemon, attaching, threads):
    with Client(daemon.path) as client:
        model = client.model("m", version="1")
        described = threads.submit(lambda: model.signature)
        attaching.answer(OLD)
        described.result(PATIENCE)
        with pytest.raises(InvalidInput):
            model.infer({"y": [1.0]})
        assert daemon.asked.empty()


def test_an_asyncio_handle_looks_as_well(daemon, attaching):
    async def run():
        async with await connect_async(daemon.path) as client:
            model, message = await asyncio.gather(
                client.model("m"), asyncio.to_thread(attaching.answer, OLD)
            )
            assert message.version == ""
            call, _ = await asyncio.gather(
                model._obtain({"y": [1.0]}, wire.INFER, (), None, time.monotonic() + PATIENCE),
                asyncio.to_thread(attaching.answer, NEW),
            )
            assert call.link.signature == model.signature == NEW

    asyncio.run(run())


def test_an_attach_that_nobody_waits_for_any_more_gives_its_channel_back(daemon, attaching):
    async def run():
        async with await connect_async(daemon.path) as client:
            attach = asyncio.ensure_future(client.model("m"))
            message = await asyncio.to_thread(daemon.next, Attach)
            attach.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attach
            attaching.answer(OLD, "unwanted", message)
            detached = await asyncio.to_thread(daemon.next, Detach)
            assert detached.channel == "unwanted"

    asyncio.run(run())


def test_handles_attach_beside_each_other(daemon, attaching):
    async def run():
        async with await connect_async(daemon.path) as client:
            slow = asyncio.ensure_future(client.model("slow"))
            first = await asyncio.to_thread(daemon.next, Attach)
            quick, _ = await asyncio.gather(
                client.model("quick"), asyncio.to_thread(attaching.answer, OLD)
            )
            assert quick.signature == OLD
            assert not slow.done()
            problem = Problem("load_failed", "no such file")
            daemon.send(Answer(first.id, problem=problem))
            with pytest.raises(LoadFailed):
                await slow

    asyncio.run(run())
