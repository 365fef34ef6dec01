# SPDX-License-Identifier: BUSL-1.1
"""The daemon's own channel to one worker, by which that worker is proven."""

import asyncio
from types import SimpleNamespace

import pytest

from mlos_core.config import Config
from mlos_core.daemon.allocate import Owners
from mlos_core.daemon.channels import Book
from mlos_core.daemon.model import ManagedModel
from mlos_core.errors import Unavailable


def test_a_proof_whose_worker_is_gone_ends_and_loads_nothing():
    async def wait():
        book = Book(Config(), Owners(1, lambda end: None))
        deployment = SimpleNamespace(asleep=True, raise_if_over=lambda: None)
        channel = SimpleNamespace(
            only=7,
            dropped=False,
            served=set(),
            deployment=deployment,
            model=ManagedModel("m"),
        )
        woken = []
        with pytest.raises(Unavailable, match="worker 7 of 'm' is gone"):
            await book.wait_served(channel, 1.0, woken.append)
        return woken

    assert asyncio.run(wait()) == []
