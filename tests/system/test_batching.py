# SPDX-License-Identifier: BUSL-1.1
"""Batches through a real daemon: they form while the model computes, and they are fair."""

import asyncio

import numpy as np
import pytest

from mlos_core.client import connect_async
from mlos_core.errors import InvalidInput, Overloaded

INPUTS = [{"name": "x", "dtype": "float64", "shape": [-1, 2]}]


@pytest.fixture
def serve(daemon, echo_file):
    """Register the model that sleeps for as many seconds as its first element says."""

    def register(**batch):
        path = echo_file("sleep", batched=True, inputs=INPUTS)
        daemon.call("register", name="slow", path=str(path), batch=batch)
        return daemon

    return register


def row(seconds, mark):
    return {"x": np.array([[seconds, mark]])}


def test_what_waits_while_the_model_computes_is_one_batch(serve):
    daemon = serve(max_batch_size=32)

    async def ask():
        async with await connect_async(daemon.socket) as client:
            model = await client.model("slow")
            for turn in range(3):  # the same headers, and places, with other data
                sent = [row(0.1 if mark == 0 else 0.0, 100 * turn + mark) for mark in range(33)]
                answers = await asyncio.gather(*(model.infer(inputs) for inputs in sent))
                yield [answer["x"][0, 1] for answer in answers]

    async def check():
        async for marks in ask():
            assert [mark % 100 for mark in marks] == list(range(33))
            assert len({mark // 100 for mark in marks}) == 1

    asyncio.run(check())
    stats = daemon.call("stats", name="slow")["slow"]
    assert stats["rows"] == 99
    assert stats["executions"] < 99


def test_one_request_of_a_client_does_not_wait_for_hundreds_of_another(serve):
    daemon = serve(max_batch_size=4)

    async def ask():
        async with (
            await connect_async(daemon.socket) as many,
            await connect_async(daemon.socket) as few,
        ):
            busy = await many.model("slow", slots=512)
            rare = await few.model("slow")
            crowd = [asyncio.ensure_future(busy.infer(row(0.01, n))) for n in range(400)]
            await crowd[0]  # the model is at it
            await rare.infer(row(0.0, 1))
            waiting = sum(not task.done() for task in crowd)
            await asyncio.gather(*crowd)
            return waiting

    assert asyncio.run(ask()) > 0


def test_a_full_queue_refuses_and_serves_again(serve):
    daemon = serve(max_queue_size=1, when_full="reject")

    async def ask():
        async with await connect_async(daemon.socket) as client:
            model = await client.model("slow")
            first = asyncio.ensure_future(model.infer(row(0.3, 0)))
            rest = [model.infer(row(0.0, mark)) for mark in range(1, 30)]
            outcomes = await asyncio.gather(first, *rest, return_exceptions=True)
            return outcomes, (await model.infer(row(0.0, 7)))["x"][0, 1]

    outcomes, after = asyncio.run(ask())
    assert after == 7
    refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
    assert refused
    assert len(refused) + sum(isinstance(outcome, dict) for outcome in outcomes) == 30
    assert daemon.call("stats", name="slow")["slow"]["rejected"] == len(refused)


def test_an_impossible_policy_is_refused_at_registration(serve):
    with pytest.raises(InvalidInput, match="preferred_batch_sizes"):
        serve(max_batch_size=4, preferred_batch_sizes=[8])
