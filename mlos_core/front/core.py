# SPDX-License-Identifier: BUSL-1.1
"""What the routes share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlos_core.front import body as bodies
from mlos_core.front.handles import Handles
from mlos_core.front.limits import Gate, Limits
from mlos_core.front.metrics import HttpMetrics
from mlos_core.front.ports import Service

T = TypeVar("T")


class Core:
    """One front end's service, open channels, limits and counters."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self.service = service
        self.limits = limits
        self.gate = Gate(limits)
        self.handles = Handles(lambda: service.client, limits.slots, service.pick)
        self.metrics = HttpMetrics(self.gate)
        self.document: bytes = b""
        self._changes: set[asyncio.Task[Any]] = set()

    async def body(
        self,
        request: Request,
        kind: type[T],
        decode: Callable[[bytes, type[T]], T] = bodies.decode_json,
    ) -> T:
        """The request's JSON body as `kind`."""
        bodies.require_json(request)
        body = bodies.Body(self.gate)
        try:
            async with asyncio.timeout(self.limits.timeout):
                raw = await body.read(request)
            return decode(raw, kind)
        except TimeoutError as err:
            raise body.late() from err
        finally:
            body.release()

    async def change(self, operation: Coroutine[Any, Any, T]) -> T:
        """Run a change of the registry to its end, whether or not the caller stays."""
        task = asyncio.ensure_future(operation)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let changes under way end within the grace, cancel the rest, close all channels.

        A swap that is cancelled leaves what served before.
        """
        changes = list(self._changes)
        if changes:
            _, waiting = await asyncio.wait(changes, timeout=self.limits.grace)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*changes, return_exceptions=True)
        await self.handles.close()


def reply(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type=bodies.JSON)
