# SPDX-License-Identifier: BUSL-1.1
"""The asyncio client, without a daemon."""

import asyncio
import contextlib
import gc
import weakref

import numpy as np
import pytest
from channel_rig import step

from mlos_core.errors import (
    Closed,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    Overloaded,
    Unavailable,
)
from mlos_core.ipc import channel
from mlos_core.ipc.messages import Problem

X = {"x": np.zeros(2)}


@contextlib.asynccontextmanager
async def handle(rig, fds, **settings):
    model = await rig.async_model(fds, **settings)
    try:
        yield model
    finally:
        await model.close()


async def turn():
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def step_until(port, task):
    """Step the worker until the task is done."""
    while not task.done():
        step(port)
        await asyncio.sleep(0)
    return await task


def test_an_answer_comes_back(rig):
    async def main():
        fds = rig.channel()
        rig.serve([fds])
        async with handle(rig, fds) as model:
            for size in (0, 1, 3, 1000, 3):
                x = np.arange(float(size))
                assert np.array_equal((await model.infer({"x": x}))["y"], 2 * x + 1)
            assert await model.ping() > 0
            assert model.signature == rig.signature
            assert model.usage()["slots_free"] + model.usage()["resting"] == 8

    asyncio.run(main())


def test_many_requests_at_once_each_get_their_own_answer(rig):
    async def main():
        fds = rig.channel(slots=4)
        rig.serve([fds])
        async with handle(rig, fds) as model:

            async def ask(number):
                x = np.full(1 + number % 300, float(number))
                return np.array_equal((await model.infer({"x": x}, wait=True))["y"], 2 * x + 1)

            assert all(await asyncio.gather(*map(ask, range(300))))
            usage = model.usage()
            assert usage["slots_free"] + usage["resting"] == 4
            assert usage["held"] == 0

    asyncio.run(main())


def test_all_slots_in_use_is_overload_unless_one_waits(rig):
    async def main():
        fds = rig.channel(slots=2)
        port = rig.port(fds)
        async with handle(rig, fds) as model:
            tasks = [model.submit(X) for _ in range(2)]
            await turn()
            with pytest.raises(Overloaded):
                await model.infer(X)
            with pytest.raises(Overloaded):
                await model.infer(X, wait=True, timeout=0.02)
            waiting = model.submit(X, wait=True)
            await turn()
            assert not waiting.done()
            assert ((await step_until(port, waiting))["y"] == 1).all()
            for task in tasks:
                assert ((await task)["y"] == 1).all()

    asyncio.run(main())


def test_cancelling_the_coroutine_cancels_the_request(rig):
    async def main():
        fds = rig.channel(slots=2)
        port = rig.port(fds)
        async with handle(rig, fds) as model:
            task = model.submit(X)
            await turn()
            request = port.poll()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert request.cancelled()
            request.fail(ModelFailed("stopped"))
            for _ in range(4):  # both slots are there again
                pair = [model.submit(X), model.submit(X)]
                for task in pair:
                    assert ((await step_until(port, task))["y"] == 1).all()

    asyncio.run(main())


def test_a_cancelled_waiter_does_not_take_the_place_of_the_next(rig):
    async def main():
        fds = rig.channel(slots=1)
        port = rig.port(fds)
        async with handle(rig, fds) as model:
            first = model.submit(X)
            await turn()
            second, third = model.submit(X, wait=True), model.submit(X, wait=True)
            await turn()
            second.cancel()
            assert ((await step_until(port, first))["y"] == 1).all()
            assert ((await step_until(port, third))["y"] == 1).all()
            with pytest.raises(asyncio.CancelledError):
                await second

    asyncio.run(main())


def test_a_timeout_is_a_deadline_and_the_slot_comes_back(rig):
    async def main():
        fds = rig.channel(slots=1)
        port = rig.port(fds)
        async with handle(rig, fds) as model:
            with pytest.raises(DeadlineExceeded):
                await model.infer(X, timeout=0.01)
            assert model.usage()["abandoned"] == 1
            assert step(port) == 0  # expired
            assert ((await step_until(port, model.submit(X)))["y"] == 1).all()

    asyncio.run(main())


def test_an_error_of_the_model_is_raised(rig):
    async def main():
        fds = rig.channel()
        port = rig.port(fds)
        async with handle(rig, fds) as model:
            task = model.submit(X)
            await turn()
            port.poll().fail(ModelFailed("no", hint="why"))
            with pytest.raises(ModelFailed, match="why"):
                await task
            with pytest.raises(InvalidInput):
                await model.infer({"z": np.zeros(1)})

    asyncio.run(main())


def test_streams_come_in_order(rig):
    async def main():
        fds = rig.channel(event_bytes=256)
        rig.serve([fds])
        async with handle(rig, fds) as model:

            async def read(count):
                stream = model.stream(X, parameters={"events": count})
                return [event["number"] async for event in stream] == list(range(count))

            assert all(await asyncio.gather(*(read(n) for n in (0, 1, 5, 100, 300))))
            assert model.usage()["abandoned"] == 0

    asyncio.run(main())


def test_leaving_a_stream_early_cancels_it(rig):
    async def main():
        fds = rig.channel(slots=1)
        port = rig.port(fds)
        async with handle(rig, fds) as model:
            stream = model.stream(X)
            reading = asyncio.ensure_future(anext(stream))
            await turn()
            request = port.poll()
            request.emit("one")
            assert await reading == "one"
            await stream.aclose()
            assert request.cancelled()
            request.answer({})
            assert ((await step_until(port, model.submit(X)))["y"] == 1).all()

    asyncio.run(main())


def test_a_stream_ends_at_its_deadline_and_with_its_error(rig):
    async def main():
        fds = rig.channel()
        port = rig.port(fds)
        async with handle(rig, fds) as model:
            with pytest.raises(DeadlineExceeded):
                await anext(model.stream(X, timeout=0.01))
            step(port)
            stream = model.stream(X)
            reading = asyncio.ensure_future(anext(stream))
            await turn()
            port.poll().fail(ModelFailed("no"))
            with pytest.raises(ModelFailed):
                await reading

    asyncio.run(main())


def test_a_closed_channel_wakes_everyone_with_the_reason(rig):
    async def main():
        fds = rig.channel()
        async with handle(rig, fds) as model:
            tasks = [model.submit(X) for _ in range(3)]
            stream = model.stream(X)
            tasks.append(asyncio.ensure_future(anext(stream)))
            await turn()
            channel.close(fds[0], Problem("unavailable", "unregistered"), fds[1])
            for task in tasks:
                with pytest.raises(Unavailable, match="unregistered"):
                    await task
            with pytest.raises(Unavailable, match="no daemon"):
                await model.infer(X)

    asyncio.run(main())


def test_a_handle_that_was_closed_says_so(rig):
    async def main():
        fds = rig.channel()
        model = await rig.async_model(fds)
        task = model.submit(X)
        await turn()
        await model.close()
        with pytest.raises(Closed):
            await task
        with pytest.raises(Closed):
            await model.infer(X)
        with pytest.raises(Closed):
            model.alloc(3)

    asyncio.run(main())


def test_allocated_arrays_are_not_copied(rig):
    async def main():
        fds = rig.channel()
        port = rig.port(fds)
        async with handle(rig, fds) as model:
            x = model.alloc(1000, "float64")
            x[:] = 2
            before = model.usage()["copied_bytes"]
            with await step_until(port, model.submit({"x": x})) as result:
                assert (result["y"] == 5).all()
            assert model.usage()["copied_bytes"] == before
            del x
            gc.collect()

    asyncio.run(main())


def test_a_loop_that_was_stopped_leaves_nothing_behind(rig):
    fds = rig.channel()
    for _ in range(3):

        async def main():
            model = await rig.async_model(fds)
            task = model.submit(X)
            await turn()
            await model.close()
            with pytest.raises(Closed):
                await task

        asyncio.run(main())
        port = rig.port(fds)
        step(port)


def test_a_closed_handle_leaves_nothing_mapped_until_some_later_collection(rig):
    async def main():
        fds = rig.channel()
        rig.serve([fds])
        async with handle(rig, fds) as model:
            await model.ping()
            return weakref.ref(model._live())

    gc.disable()
    try:
        left = asyncio.run(main())
        rig.links.clear()
        assert left() is None
    finally:
        gc.enable()
