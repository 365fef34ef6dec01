# SPDX-License-Identifier: BUSL-1.1
"""Open channels by model name, shared by all requests of the front end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mlos_core.errors import ChannelBroken, Closed, MlosError, NotFound, Unavailable
from mlos_core.front.ports import Client, Handle, Result
from mlos_core.types import Array, Signature

log = logging.getLogger("mlos.http")
_ROOM = 16 << 20  # bytes; a larger request attaches anew with more
TEXT_ROOM = 4 << 20  # for models that take text: memory is got at once, which takes its time
# After these the channel may be of no more use: model gone, replaced, or its memory broken.
_FATAL = (NotFound, Unavailable, ChannelBroken, Closed)


class _Entry:
    """One attached (or attaching) handle. It is closed when dropped and no longer in use."""

    def __init__(self, task: asyncio.Task[Handle], room: int) -> None:
        self.task = task
        self.room = room
        self.users = 0
        self.dropped = False

    def usable(self) -> bool:
        if not self.task.done():
            return True
        if self.task.cancelled() or self.task.exception() is not None:
            return False
        return not self.task.result().closed


class Handles:
    """Attaches to a model when it is first asked for; drops the handle when it fails."""

    def __init__(self, client: Callable[[], Client], slots: int) -> None:
        self._client = client
        self._slots = slots
        self._open: dict[str, _Entry] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def use(self, name: str, size: int = 0, usual: int = _ROOM) -> AsyncIterator[Handle]:
        """The handle of `name`, with room for a request of `size` bytes.

        Requests that come while it attaches share the attempt. `usual` is the room to attach
        with where nothing asks for more.

        Raises:
            NotFound: no model of that name.
            Unavailable: the model is not ready.
        """
        entry = self._open.get(name)
        if entry is None or not entry.usable() or entry.room // 2 < size:
            room = max(_room(size, usual), entry.room if entry is not None else 0)
            self.drop(name)
            attach = self._client().model(
                name, slots=self._slots, request_bytes=room, reply_bytes=room
            )
            entry = self._open[name] = _Entry(asyncio.ensure_future(attach), room)
        entry.users += 1
        try:
            yield await asyncio.shield(entry.task)  # whoever leaves does not end it for others
        except _FATAL:
            self._drop(name, entry)
            raise
        finally:
            entry.users -= 1
            self._close_if_unused(entry)

    async def signature(self, name: str, usual: int = _ROOM) -> Signature:
        """What `name` takes and returns; `usual` as in `use`."""
        entry = self._open.get(name)
        if entry is not None and entry.task.done() and entry.usable():
            return entry.task.result().signature
        async with self.use(name, usual=usual) as handle:
            return handle.signature

    async def infer(
        self,
        name: str,
        inputs: Mapping[str, Array],
        *,
        seconds: float,
        parameters: Mapping[str, Any],
        outputs: Sequence[str],
    ) -> Result:
        """Ask `name` once; a second time only if the first was certainly not accepted."""
        for last in (False, True):
            try:
                async with self.use(name, _size(inputs)) as handle:
                    return await handle.infer(
                        inputs,
                        timeout=seconds,
                        parameters=parameters,
                        outputs=outputs,
                        wait=True,
                    )
            except _FATAL as error:
                if last or not _refused(error):
                    raise
        raise AssertionError("unreachable")

    async def stream(
        self,
        name: str,
        inputs: Mapping[str, Array],
        *,
        seconds: float,
        parameters: Mapping[str, Any],
    ) -> AsyncIterator[Any]:
        """The events of one stream; a second attempt as in `infer`."""
        for last in (False, True):
            try:
                async with self.use(name, _size(inputs)) as handle:
                    events = handle.stream(inputs, timeout=seconds, parameters=parameters)
                    try:
                        async for event in events:
                            yield event
                    finally:
                        await _finish(events)
                return
            except _FATAL as error:
                if last or not _refused(error):
                    raise

    def drop(self, name: str) -> None:
        """Forget the handle of `name`; requests that use it go on, the next attaches anew."""
        entry = self._open.get(name)
        if entry is not None:
            self._drop(name, entry)
            self._close_if_unused(entry)

    async def close(self) -> None:
        """Close all handles."""
        for name in list(self._open):
            self.drop(name)
        if self._closing:
            await asyncio.wait(list(self._closing))

    def _drop(self, name: str, entry: _Entry) -> None:
        if self._open.get(name) is entry:
            del self._open[name]
        entry.dropped = True

    def _close_if_unused(self, entry: _Entry) -> None:
        if entry.dropped and entry.users == 0:
            closing = asyncio.ensure_future(_close(entry.task))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _size(inputs: Mapping[str, Array]) -> int:
    """Bytes of the arena that a request takes, roughly."""
    return sum(
        sum(len(item) + 4 for item in array.flat) if array.dtype.kind == "O" else array.nbytes
        for array in inputs.values()
    )


def _room(size: int, usual: int) -> int:
    """The arena to attach with: the usual one, or the power of two that holds `size` twice."""
    return max(usual, 1 << (2 * size - 1).bit_length()) if size > usual // 2 else usual


def _refused(error: MlosError) -> bool:
    """Whether the request was certainly not accepted: the client says so on the error."""
    return isinstance(error, Closed) or getattr(error, "accepted", True) is False


async def _finish(events: AsyncIterator[Any]) -> None:
    """Cancel what is left of a stream."""
    if (aclose := getattr(events, "aclose", None)) is not None:
        await aclose()


async def _close(task: asyncio.Task[Handle]) -> None:
    """Close what `task` attached, whenever it has."""
    try:
        await (await task).close()
    except MlosError as error:
        log.debug("nothing to close: %s", error)
