# SPDX-License-Identifier: BUSL-1.1
"""The model's events for one request: one stream, whatever the number of its prompts.

An event is a map; its keys: `p` and `c` tokens of the prompt and how many of them were cached,
`i` the choice, `t` new tokens, `s` new text, `l` their log probabilities, `tc` tool calls
(without a name: more of the arguments of the call before), `f` why the choice ended and `r`
what stopped it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from mlos_core.front.core import Core
from mlos_core.front.handles import Target
from mlos_core.types import Array

Events = AsyncIterator[dict[str, Any]]
_AT_ONCE: Final = 32  # prompts of one request that the model works on together
_AHEAD: Final = 64  # events that wait for a slow reader


class Job:
    """What is asked of a model: prompts, each with the same parameters."""

    def __init__(
        self, target: Target, prompts: Sequence[Mapping[str, Array]], parameters: dict[str, Any]
    ) -> None:
        self.target = target
        self.prompts = prompts
        self.parameters = parameters

    def events(self, core: Core, seconds: float) -> Events:
        """The events of all prompts; choice `i` of prompt `k` of `n` choices is `k * n + i`."""
        streams = [
            core.handles.stream(self.target, prompt, seconds=seconds, parameters=self.parameters)
            for prompt in self.prompts
        ]
        if len(streams) == 1:
            return streams[0]
        return merged(streams, self.parameters.get("n", 1))


async def merged(streams: Sequence[Events], choices: int) -> Events:
    """The events of several streams as they come; what fails in one ends them all."""
    queue: asyncio.Queue[dict[str, Any] | BaseException | None] = asyncio.Queue(_AHEAD)
    places = asyncio.Semaphore(_AT_ONCE)

    async def pump(number: int, stream: Events) -> None:
        try:
            async with places, aclosing(stream) as events:  # type: ignore[type-var]
                async for event in events:
                    event["i"] = event.get("i", 0) + number * choices
                    await queue.put(event)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    tasks = [asyncio.ensure_future(pump(number, one)) for number, one in enumerate(streams)]
    try:
        left = len(tasks)
        while left:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def whole(events: Events, seconds: float, take: Any) -> None:
    """Hand every event to `take`, within `seconds`."""
    async with asyncio.timeout(seconds), aclosing(events) as stream:  # type: ignore[type-var]
        async for event in stream:
            take(event)
