# SPDX-License-Identifier: BUSL-1.1
"""The asyncio client. The event loop is the only waiter: completions come through an eventfd.

The control plane (attach, calls to the service) is rare and runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

import msgspec
import numpy as np

from mlos_core import config
from mlos_core.client.call import Call, raise_error
from mlos_core.client.inputs import size_of
from mlos_core.client.link import Link
from mlos_core.client.memory import Memory
from mlos_core.client.obtain import obtain
from mlos_core.client.result import Result
from mlos_core.client.room import larger_reply, roomy
from mlos_core.client.session import Session
from mlos_core.client.settings import (
    DEFAULT_ARENA,
    DEFAULT_SLOTS,
    DEFAULT_TIMEOUT,
    EVENT_ROOM,
    RENEW_EVERY_S,
    RENEW_WITHIN_S,
    Settings,
    attach_time,
)
from mlos_core.errors import (
    Closed,
    InvalidInput,
    MlosError,
    Overloaded,
    PayloadTooLarge,
    Unavailable,
)
from mlos_core.ipc import header as wire
from mlos_core.ipc.native import AGAIN, CLOSED, TIMEOUT, ffi, lib
from mlos_core.types import Array, Signature

T = TypeVar("T")
_LOOK_AROUND_S: Final = 1.0
_AT_ONCE: Final = 64  # calls of the control plane under way
_decode_event: Final = msgspec.msgpack.Decoder().decode


async def connect_async(
    socket: str | os.PathLike[str] | None = None, timeout: float = 10.0
) -> AsyncClient:
    """Connect to the daemon from a coroutine; see `mlos_core.client.connect`."""
    path = os.fspath(socket) if socket else str(config.default_socket())
    client = AsyncClient(path, timeout)
    await client.open()
    return client


class AsyncClient:
    """A connection to the daemon, for one event loop."""

    def __init__(self, path: str, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout
        self._session: Session | None = None
        self._models: list[AsyncModel] = []
        self._threads = ThreadPoolExecutor(_AT_ONCE, "mlos-control")

    async def open(self) -> None:
        """Connect. Called by `connect_async`."""
        self._session = await self.in_thread(Session, self._path, self._timeout)

    def in_thread(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Run what may wait long. The threads are the client's own: the loop's few must not
        all wait for models that are being loaded."""
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def session(self) -> Session:
        """The control connection."""
        if self._session is None:
            raise Closed("the client is not connected")
        return self._session

    async def model(
        self,
        name: str,
        *,
        version: str = "",
        slots: int = DEFAULT_SLOTS,
        request_bytes: int = DEFAULT_ARENA,
        reply_bytes: int = DEFAULT_ARENA,
        timeout: float = DEFAULT_TIMEOUT,
        worker: int = 0,
    ) -> AsyncModel:
        """Attach to a model; the arguments are those of `Client.model`.

        `worker` is for the daemon itself: it names the one worker to ask.
        """
        settings = Settings(
            slots, request_bytes, reply_bytes, "adaptive", 0, timeout, version, worker
        )
        model = AsyncModel(self, name, settings)
        await model.attach()
        self._models.append(model)
        return model

    async def call(self, method: str, *, patience: float | None = 120.0, **params: Any) -> Any:
        """Call a method of the daemon's service; see `Client.call`."""
        return await self.in_thread(self.session().call, method, params, patience)

    def forget(self, model: AsyncModel) -> None:
        """A handle was closed; it calls this itself."""
        with contextlib.suppress(ValueError):  # made by hand, or forgotten before
            self._models.remove(model)

    async def close(self) -> None:
        """Give up every channel and the connection."""
        for model in list(self._models):
            await model.close()
        session, self._session = self._session, None
        if session is not None:
            session.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncModel:
    """A handle on one model, for one event loop; made by `AsyncClient.model`."""

    def __init__(self, client: AsyncClient, name: str, settings: Settings) -> None:
        self.name = name
        self._client = client
        self._settings = settings
        self._link: Link | None = None
        self._room = (settings.request_bytes, settings.reply_bytes)
        self._closed = False
        self._renewed = -RENEW_EVERY_S
        self._attaching = asyncio.Lock()
        self._waiters: dict[Link, dict[int, asyncio.Future[None]]] = {}
        self._queue: collections.deque[asyncio.Future[None]] = collections.deque()
        self._bits = ffi.new("uint64_t[16]")
        self._look: asyncio.TimerHandle | None = None

    # --- the channel -------------------------------------------------------------------------

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of inputs and outputs."""
        return self._live().signature

    @property
    def version(self) -> str:
        """The version that answered when the handle attached; see `Model.version`."""
        return self._live().version

    @property
    def closed(self) -> bool:
        """Whether nothing more can be asked on the channel: given up here or by the daemon."""
        link = self._link
        return self._closed or (
            link is not None and (link.closed or link.mapping.reason() is not None)
        )

    def _live(self) -> Link:
        if self._link is None:
            raise Closed(f"the handle on {self.name!r} is not attached")
        return self._link

    async def attach(
        self, request_bytes: int = 0, reply_bytes: int = 0, within: float | None = None
    ) -> Link:
        """The channel, attached anew where it was closed or is too small.

        `within` bounds the wait in seconds; without it the handle's own timeout does.
        """
        async with self._attaching:
            old = self._link
            if old is not None and not old.closed:
                room = old.mapping
                if room.request_bytes >= request_bytes and room.reply_bytes >= reply_bytes:
                    return old
                self._link = None  # its requests go on; it closes with the client
            if self._closed:
                raise Closed(f"the handle on {self.name!r} was closed")
            return self._take(await self._opened(request_bytes, reply_bytes, within))

    def _take(self, link: Link) -> Link:
        loop = asyncio.get_running_loop()
        self._link, self._waiters[link] = link, {}
        loop.add_reader(link.event_fd, self._on_event, link)
        link.on_close = lambda: self._on_close(loop, link)
        return link

    async def renew(self) -> bool:
        """Whether the route leads by now to a version that takes something else; then the
        handle is attached to that one. Looks at most once a second."""
        old = self._live()
        async with self._attaching:
            if self._link is not old:
                return self._live().signature != old.signature
            now = time.monotonic()
            if self._closed or self._settings.version or now - self._renewed < RENEW_EVERY_S:
                return False
            self._renewed = now
            try:
                fresh = await self._opened(0, 0, RENEW_WITHIN_S)
            except MlosError:
                return False
            if fresh.signature == old.signature:
                fresh.close()
                return False
            self._take(fresh)
            return True

    async def _opened(self, request: int, reply: int, within: float | None) -> Link:
        opening = self._client.in_thread(self._open, request, reply, within)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise

    def _open(self, request_bytes: int, reply_bytes: int, within: float | None) -> Link:
        session, s = self._client.session(), self._settings
        self._room = (max(self._room[0], request_bytes), max(self._room[1], reply_bytes))
        seconds = attach_time(s.timeout if within is None else within)
        attached, fds = session.attach(
            self.name, s.slots, *self._room, seconds, s.version, s.worker
        )
        return Link(session, attached, fds, asked=(self.name, s.version))

    def _on_close(self, loop: asyncio.AbstractEventLoop, link: Link) -> None:
        loop.remove_reader(link.event_fd)
        for waiter in self._waiters.pop(link, {}).values():
            _wake(waiter)

    def _on_event(self, link: Link) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(link.event_fd)
        waiters = self._waiters.get(link, {})
        if link.mapping.reason() is not None:
            for waiter in waiters.values():
                _wake(waiter)
            return
        if lib.mlos_take_done(link.pointer, self._bits):
            for word in range(16):
                bits = self._bits[word]
                while bits:
                    low = bits & -bits
                    bits ^= low
                    woken = waiters.get(word * 64 + low.bit_length() - 1)
                    if woken is not None:
                        _wake(woken)

    async def _news(self, call: Call, end: float, *, streaming: bool = False) -> None:
        """Wait until the call's slot has news, or the channel is closed, or `end` passed.

        News that came between the caller's last look and the arming are looked for here: an
        answer in the slot's state, an event (`streaming`) in the channel's bitmap.
        """
        loop = asyncio.get_running_loop()
        waiters = self._waiters.get(call.link)
        if waiters is None:
            raise call.problem(CLOSED)
        waiter: asyncio.Future[None] = loop.create_future()
        waiters[call.slot] = waiter
        timer = loop.call_later(max(0.0, end - time.monotonic()), _wake, waiter)
        self._arm(call.link)
        try:
            if streaming:
                self._on_event(call.link)
            if streaming or lib.mlos_poll(call.link.pointer, call.slot) == AGAIN:
                await waiter
        finally:
            timer.cancel()
            if waiters.get(call.slot) is waiter:
                del waiters[call.slot]

    def _arm(self, link: Link) -> None:
        lib.mlos_arm(link.pointer, 1)
        if self._look is None:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(_LOOK_AROUND_S, self._look_around)

    def _look_around(self) -> None:
        """While something waits: has the daemon gone, or closed the channel?"""
        self._look = None
        for link, waiters in list(self._waiters.items()):
            if link.closed:
                continue
            if not waiters:
                lib.mlos_arm(link.pointer, 0)
                continue
            if link.mapping.reason() is not None:
                self._on_event(link)
            elif link.forgotten():
                self._resume(link)
            self._arm(link)

    def _resume(self, link: Link) -> None:
        self._client.in_thread(link.resume).add_done_callback(
            lambda done: self._resumed(link, done.exception())
        )

    def _resumed(self, link: Link, error: BaseException | None) -> None:
        if isinstance(error, MlosError) and not isinstance(error, Unavailable):
            link.give_up(error)  # in the loop's own thread: it removes a reader

    # --- requests ----------------------------------------------------------------------------

    async def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        wait: bool = False,
    ) -> Result:
        """Send `inputs`, await the answer; the arguments are those of `Model.infer`.

        Cancelling the coroutine cancels the request.
        """
        seconds = self._settings.timeout if timeout is None else timeout
        end = time.monotonic() + seconds
        try:
            return await self._infer(inputs, end, parameters, outputs, wait)
        except (PayloadTooLarge, Overloaded) as error:
            room = larger_reply(error, link.mapping.reply_bytes if (link := self._link) else 0)
            if not room:
                raise
            await self.attach(reply_bytes=room, within=end - time.monotonic())
        except InvalidInput:
            if not await self.renew():
                raise
        return await self._infer(inputs, end, parameters, outputs, wait)

    async def _infer(
        self,
        inputs: Mapping[str, Any],
        end: float,
        parameters: Mapping[str, Any] | None,
        outputs: Sequence[str],
        wait: bool,
    ) -> Result:
        call = await self._obtain(inputs, wire.INFER, outputs, parameters, end, wait=wait)
        call.submit(max(0.0, end - time.monotonic()))
        rc = await self._answer(call, end)
        try:
            return call.result(rc)
        finally:
            self._let_in()

    def submit(self, inputs: Mapping[str, Any], **options: Any) -> asyncio.Task[Result]:
        """`infer` as a task."""
        return asyncio.ensure_future(self.infer(inputs, **options))

    async def _obtain(
        self,
        inputs: Mapping[str, Any],
        kind: int,
        outputs: Sequence[str],
        parameters: Mapping[str, Any] | None,
        end: float,
        *,
        wait: bool = False,
    ) -> Call:
        size = 0
        while True:
            link = self._link
            if link is None or link.closed or size:
                link = await self.attach(size, within=end - time.monotonic())
            try:
                return obtain(link, inputs, kind, outputs, parameters)
            except Overloaded as error:
                room = roomy(2 * size_of(inputs, link.signature)) if error.request_bytes else 0
                if room > link.mapping.request_bytes:
                    size = room
                    continue
                if not wait or time.monotonic() >= end:
                    raise
                await self._turn(end)
            except Closed:
                if self._closed or not link.closed:
                    raise
            except PayloadTooLarge:
                if size:
                    raise
                size = roomy(size_of(inputs, link.signature))
            except InvalidInput:
                if link is self._link and not await self.renew():
                    raise

    async def _turn(self, end: float) -> None:
        """Wait for a slot that another request gives back."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(min(0.05, max(0.0, end - time.monotonic())), _wake, waiter)
        self._queue.append(waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    def _let_in(self) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _answer(self, call: Call, end: float) -> int:
        try:
            while (rc := call.poll()) == AGAIN:
                if time.monotonic() >= end:
                    call.link.abandon(call)
                    raise call.problem(TIMEOUT)
                await self._news(call, end)
        except asyncio.CancelledError:
            call.link.abandon(call)
            raise
        return rc

    async def stream(
        self,
        inputs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Any]:
        """Send `inputs` to a model that answers with a stream; yields its events."""
        seconds = self._settings.timeout if timeout is None else timeout
        end = time.monotonic() + seconds
        call = await self._obtain(inputs, wire.STREAM, (), parameters, end)
        call.submit(max(0.0, end - time.monotonic()))
        room = ffi.new("char[]", EVENT_ROOM)
        finished = False
        try:
            while True:
                rc = lib.mlos_next_event(call.link.pointer, call.slot, room, EVENT_ROOM, 0)
                if rc > 0:
                    yield _decode_event(ffi.buffer(room, rc)[:])
                elif rc == 0:
                    finished = True
                    break
                elif rc != AGAIN:
                    raise call.problem(rc)
                elif time.monotonic() >= end:
                    raise call.problem(TIMEOUT)
                else:
                    await self._news(call, end, streaming=True)
        finally:
            if not finished:
                call.link.abandon(call)
        call.result(0)

    def alloc(self, shape: int | Sequence[int], dtype: Any = "float32") -> Array:
        """An uninitialised array in the request arena; see `Model.alloc`."""
        dims = (shape,) if isinstance(shape, int) else tuple(int(d) for d in shape)
        return np.asarray(Memory(self._live(), np.dtype(dtype), dims))

    async def ping(self, timeout: float = 5.0) -> float:
        """Seconds of one round trip to a worker that runs nothing."""
        start = time.perf_counter()
        call = Call(await self.attach(), ("ping",), {}, wire.PING)
        call.reusable = False
        call.submit(timeout)
        await self._answer(call, time.monotonic() + timeout)
        try:
            raise_error(call.decode())
        finally:
            call.free()
        return time.perf_counter() - start

    def usage(self) -> dict[str, int]:
        """Slots and memory of the channel, and bytes copied on this side."""
        return self._live().usage()

    async def close(self) -> None:
        """Give the channel up. Arrays already received stay readable."""
        self._closed = True
        if self._look is not None:
            self._look.cancel()
        for link in list(self._waiters):
            link.close()
        self._client.forget(self)


def _close_unwanted(opening: asyncio.Future[Link]) -> None:
    """Whoever asked for this channel does not wait any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
