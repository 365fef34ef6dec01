# SPDX-License-Identifier: BUSL-1.1
"""Open channels by model and version, shared by all requests of the front end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from mlos_core.errors import ChannelBroken, Closed, MlosError, NotFound, Unavailable
from mlos_core.front.ports import Client, Handle, Result
from mlos_core.types import Array, Signature

log = logging.getLogger("mlos.http")
_ROOM = 16 << 20  # bytes; a larger request attaches anew with more
TEXT_ROOM = 4 << 20  # for models that take text: memory is got at once, which takes its time
# After these the channel may be of no more use: model gone, replaced, or its memory broken.
_FATAL = (NotFound, Unavailable, ChannelBroken, Closed)
_IDLE_S: Final = 600.0
_VERSIONS: Final = 8  # of one model, at a time
_CLOSE_S: Final = 0.5
_LONGEST_LOAD: Final = 3600.0  # each request waits as long as it may, the attaching goes on


class Target(NamedTuple):
    """Who is asked: a model's version, or with none whatever its route says.

    `picked`: the version was not asked for; where it goes meanwhile, another one will do.
    """

    name: str
    version: str = ""
    picked: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What handles are kept by."""
        return self.name, self.version

    def again(self) -> Target:
        """Who is asked when this one refused."""
        return Target(self.name) if self.picked else self


class _Entry:
    """One attached (or attaching) handle. It is closed when dropped and no longer in use."""

    def __init__(self, task: asyncio.Task[Handle], room: int) -> None:
        self.task = task
        self.room = room
        self.used = 0.0
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

    def __init__(
        self, client: Callable[[], Client], slots: int, pick: Callable[[str], str]
    ) -> None:
        self._client = client
        self._slots = slots
        self._pick = pick
        self._open: dict[tuple[str, str], _Entry] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def choose(
        self, name: str, version: str = "", usual: int = _ROOM
    ) -> tuple[Target, Signature]:
        """Who answers one request, and what that takes and returns.

        Without a version, a weighted route picks one for each request; `usual` as in `use`.
        """
        target = Target(name, version) if version else self._picked(name)
        try:
            return target, await self.signature(target, usual)
        except NotFound:
            if not target.picked:
                raise
        target = target.again()
        return target, await self.signature(target, usual)

    def _picked(self, name: str) -> Target:
        version = self._pick(name)
        return Target(name, version, picked=bool(version))

    @asynccontextmanager
    async def use(self, target: Target, size: int = 0, usual: int = _ROOM) -> AsyncIterator[Handle]:
        """The handle of `target`, with room for a request of `size` bytes.

        Requests that come while it attaches share the attempt. `usual` is the room to attach
        with where nothing asks for more.

        Raises:
            NotFound: no model of that name, or no such version.
            Unavailable: the model is not ready.
        """
        entry = self._open.get(target.key)
        if entry is None or not entry.usable() or entry.room // 2 < size:
            room = max(_room(size, usual), entry.room if entry is not None else 0)
            self.drop(*target.key)
            self._make_room(target)
            attach = self._client().model(
                target.name,
                version=target.version,
                slots=self._slots,
                request_bytes=room,
                reply_bytes=room,
                timeout=_LONGEST_LOAD,
            )
            entry = self._open[target.key] = _Entry(asyncio.ensure_future(attach), room)
        entry.users += 1
        entry.used = asyncio.get_running_loop().time()
        try:
            yield await asyncio.shield(entry.task)  # whoever leaves does not end it for others
        except _FATAL:
            self._drop(target.key, entry)
            raise
        finally:
            entry.users -= 1
            self._close_if_unused(entry)

    async def signature(self, target: Target, usual: int = _ROOM) -> Signature:
        """What `target` takes and returns; `usual` as in `use`."""
        entry = self._open.get(target.key)
        if entry is not None and entry.task.done() and entry.usable():
            return entry.task.result().signature
        async with self.use(target, usual=usual) as handle:
            return handle.signature

    async def renewed(self, target: Target, known: Signature) -> bool:
        """Whether `target` takes something else by now than is `known`: a route may move."""
        async with self.use(target) as handle:
            return handle.signature != known or await handle.renew()

    async def infer(
        self,
        target: Target,
        inputs: Mapping[str, Array],
        *,
        seconds: float,
        parameters: Mapping[str, Any],
        outputs: Sequence[str],
    ) -> Result:
        """Ask `target` once; a second time only if the first was certainly not accepted."""
        for last, whom in ((False, target), (True, target.again())):
            try:
                async with self.use(whom, _size(inputs)) as handle:
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
        target: Target,
        inputs: Mapping[str, Array],
        *,
        seconds: float,
        parameters: Mapping[str, Any],
    ) -> AsyncIterator[Any]:
        """The events of one stream; a second attempt as in `infer`."""
        for last, whom in ((False, target), (True, target.again())):
            try:
                async with self.use(whom, _size(inputs)) as handle:
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

    def drop(self, name: str, version: str | None = None) -> None:
        """Forget the handles of a model, or of one version; requests that use them go on, the
        next attaches anew."""
        for key, entry in list(self._open.items()):
            if key[0] == name and version in (None, key[1]):
                self._drop(key, entry)
                self._close_if_unused(entry)

    async def close(self) -> None:
        """Close all handles; what still attaches is given up."""
        for name, version in list(self._open):
            self.drop(name, version)
        closing = list(self._closing)
        if closing:
            _, waiting = await asyncio.wait(closing, timeout=_CLOSE_S)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*closing, return_exceptions=True)

    def _make_room(self, target: Target) -> None:
        """Give up what nobody asks any more: versions come and go, and each holds memory."""
        old = asyncio.get_running_loop().time() - _IDLE_S
        idle = [key for key, entry in self._open.items() if not entry.users]
        versions = [key for key in idle if target.version and key[0] == target.name and key[1]]
        versions.sort(key=lambda key: self._open[key].used, reverse=True)
        gone = {key for key in idle if self._open[key].used < old}
        for key in gone | set(versions[_VERSIONS - 1 :]):
            self.drop(*key)

    def _drop(self, key: tuple[str, str], entry: _Entry) -> None:
        if self._open.get(key) is entry:
            del self._open[key]
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
    return isinstance(error, Closed) or not error.accepted


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
