# SPDX-License-Identifier: BUSL-1.1
"""Who is cancelled while descriptors are on their way leaves none of them open."""

import asyncio
import os
import threading

import pytest

from mlos_core.config import Config
from mlos_core.daemon import channels
from mlos_core.daemon.allocate import Owners
from mlos_core.daemon.worker import Worker
from mlos_core.ipc.messages import SamplesTaken, WorkerSpec


class Peer:
    """Remembers what was sent."""

    def __init__(self):
        self.sent = []

    def send(self, message, fds=()):
        self.sent.append(message)
        return True


def ready_worker():
    worker = Worker(WorkerSpec("m", "", "/", "echo", 1, 0, "/"), None, None)
    worker.peer, worker.state = Peer(), "ready"
    return worker


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("told_first", [True, False])
def test_samples_that_nobody_waits_for_are_closed(told_first):
    async def ask():
        worker = ready_worker()
        task = asyncio.create_task(worker.ask_samples(30))
        await asyncio.sleep(0)
        (question,) = worker.peer.sent
        fd = os.memfd_create("samples")
        if told_first:
            worker.told_samples(SamplesTaken(question.id), [fd])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if not told_first:
            worker.told_samples(SamplesTaken(question.id), [fd])
        return is_open(fd)

    assert not asyncio.run(ask())


def test_a_segment_whose_client_left_while_it_was_made_is_closed(monkeypatch):
    go, made = threading.Event(), []

    def create(*size):
        go.wait(30)
        made.append(os.memfd_create("segment"))
        return made[0]

    async def attach():
        book = channels.Book(Config(), Owners(1, lambda end: None))
        task = asyncio.create_task(book.open(None, 1, 1, 0, (8, 4096, 4096)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        await asyncio.get_running_loop().shutdown_default_executor()
        await asyncio.sleep(0)
        return is_open(made[0])

    monkeypatch.setattr(channels.segments, "create", create)
    assert not asyncio.run(attach())
