# SPDX-License-Identifier: BUSL-1.1
"""Requests that a model answers at once, not with a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from mlos_core.front.core import Core
from mlos_core.front.handles import Target
from mlos_core.front.ports import Result
from mlos_core.types import Array

T = TypeVar("T")
_AT_ONCE: Final = 16


async def ask(
    core: Core,
    target: Target,
    inputs: Mapping[str, Array],
    parameters: Mapping[str, Any],
    seconds: float,
    read: Callable[[Result], T],
) -> T:
    """What `read` makes of the answer, whose memory is given back afterwards."""
    result = await core.handles.infer(
        target, inputs, seconds=seconds, parameters=parameters, outputs=()
    )
    try:
        return read(result)
    finally:
        result.release()


async def ask_each(
    core: Core,
    target: Target,
    inputs: Sequence[Mapping[str, Array]],
    parameters: Mapping[str, Any],
    seconds: float,
    read: Callable[[Result], T],
) -> list[T]:
    """`ask` for each of `inputs`, several at a time; the first failure ends them all."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(item: Mapping[str, Array]) -> T:
        async with places:
            return await ask(core, target, item, parameters, seconds, read)

    tasks = [asyncio.ensure_future(one(item)) for item in inputs]
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
