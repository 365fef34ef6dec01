# SPDX-License-Identifier: BUSL-1.1
"""A handle on one model: the synchronous requests."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlos_core.client.call import Call, raise_error
from mlos_core.client.future import Future
from mlos_core.client.inputs import as_arrays, form_of, size_of
from mlos_core.client.link import Family, Link
from mlos_core.client.memory import Memory
from mlos_core.client.obtain import again, obtain
from mlos_core.client.prepared import Prepared
from mlos_core.client.result import Result
from mlos_core.client.room import larger_reply, roomy
from mlos_core.client.settings import (
    RENEW_EVERY_S,
    RENEW_WITHIN_S,
    Settings,
    attach_time,
)
from mlos_core.client.stream import Stream
from mlos_core.errors import Closed, InvalidInput, MlosError, Overloaded, PayloadTooLarge
from mlos_core.ipc import header as wire
from mlos_core.ipc.native import nanoseconds
from mlos_core.types import DTYPES, Array, Signature, check_inputs

if TYPE_CHECKING:
    from mlos_core.client.client import Client


class Model:
    """A handle on one model. Thread-safe; made by `Client.model`."""

    def __init__(self, client: Client, name: str, settings: Settings) -> None:
        self.name = name
        self._client = client
        self._settings = settings
        self._timeout = settings.timeout
        self._timeout_ns = nanoseconds(settings.timeout)
        self._pid = os.getpid()
        self._link: Link | None = None
        self._recent = Family()  # calls of the form that was asked last
        self._room = (settings.request_bytes, settings.reply_bytes)
        self._retired: list[Link] = []
        self._renewed = -RENEW_EVERY_S
        self._lock = threading.Lock()
        self._closed = False

    # --- the channel -------------------------------------------------------------------------

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of inputs and outputs."""
        return self.link().signature

    @property
    def version(self) -> str:
        """The version that answered when the handle attached.

        A handle that follows the route is moved with it and stays as it is.
        """
        return self.link().version

    def link(self, within: float | None = None) -> Link:
        """The channel of this process, attached now if need be, within that many seconds."""
        link = self._link
        if link is not None and not link.closed:
            return link
        if self._pid != os.getpid():
            self._lock, self._pid = threading.Lock(), os.getpid()
        with self._lock:
            if self._closed:
                raise Closed(f"the handle on {self.name!r} was closed")
            if self._link is None or self._link.closed:
                self._link = self._attach(within)
            return self._link

    def _attach(self, within: float | None = None) -> Link:
        session, s = self._client.session(), self._settings
        seconds = attach_time(s.timeout if within is None else within)
        attached, fds = session.attach(self.name, s.slots, *self._room, seconds, s.version)
        return Link(session, attached, fds, s.wait_mode, s.poll_max_us, (self.name, s.version))

    def _attached(self, timeout: float) -> float:
        """What attaching, if need be, leaves of a request's `timeout`."""
        if self._link is not None and not self._link.closed:
            return timeout
        end = time.monotonic() + timeout
        self.link(timeout)
        return max(0.0, end - time.monotonic())

    def _grow(self, old: Link, request: int = 0, reply: int = 0) -> None:
        """Attach with arenas for request tensors of that many bytes, and replies of that room."""
        with self._lock:
            if self._link is not old:
                return
            self._room = (max(self._room[0], roomy(request)), max(self._room[1], reply))
            self._link = self._attach()
            self._retire(old)

    def _retire(self, old: Link) -> None:
        """The requests on a channel that was replaced go on; it is closed when they are over."""
        self._retired.append(old)
        for retired in [r for r in self._retired if _at_rest(r)]:
            self._retired.remove(retired)
            retired.close()

    def _moved(self, old: Link) -> bool:
        """Whether the route leads by now to a version that takes something else; then the
        handle is attached to that one. Asked when an input did not fit."""
        with self._lock:
            if self._link is not old:
                return self._link is not None and self._link.signature != old.signature
            now = time.monotonic()
            if self._settings.version or now - self._renewed < RENEW_EVERY_S:
                return False
            self._renewed = now
            try:
                fresh = self._attach(RENEW_WITHIN_S)
            except MlosError:
                return False
            if fresh.signature == old.signature:
                fresh.close()
                return False
            self._link, self._recent = fresh, Family()
            self._retire(old)
            return True

    # --- requests ----------------------------------------------------------------------------

    def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        wait: bool = False,
    ) -> Result:
        """Send `inputs`, wait for the answer.

        Args:
            inputs: by name: NumPy arrays, anything that speaks DLPack or the buffer
                protocol, or nested lists, which take the model's dtype. An array made by
                `alloc` is not copied.
            timeout: seconds; by default the handle's. A model that is loaded first takes
                its time of them.
            parameters: passed to the model.
            outputs: names of the outputs wanted; all by default.
            wait: wait for a free slot instead of raising `Overloaded`.

        Raises:
            InvalidInput: the inputs do not fit the model.
            DeadlineExceeded: no answer in time; the request is cancelled.
            Overloaded: every slot is in use.
            ModelFailed: the model raised.
            Unavailable: the model is gone.
        """
        if timeout is None:
            timeout, timeout_ns = self._timeout, self._timeout_ns
        else:
            timeout_ns = nanoseconds(timeout)
        recent = self._recent
        call = again(recent, inputs) if recent and not parameters and not outputs else None
        if call is None:
            timeout = self._attached(timeout)
            timeout_ns = nanoseconds(timeout)
            call = self._obtain(inputs, wire.INFER, outputs, parameters, timeout if wait else 0.0)
            if not parameters and not outputs:
                self._recent = call.family
        try:
            return call.result(call.run(timeout, timeout_ns))
        except (PayloadTooLarge, Overloaded) as error:
            room = larger_reply(error, call.link.mapping.reply_bytes)
            if not room:
                raise
            self._grow(call.link, reply=room)
        except InvalidInput:
            if not self._moved(call.link):
                raise
        call = self._obtain(inputs, wire.INFER, outputs, parameters, timeout if wait else 0.0)
        return call.result(call.run(timeout, timeout_ns))

    def _obtain(
        self,
        inputs: Mapping[str, Any],
        kind: int,
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Any] | None = None,
        patience: float = 0.0,
    ) -> Call:
        end = 0.0
        while True:
            link = self.link()
            try:
                return obtain(link, inputs, kind, outputs, parameters)
            except PayloadTooLarge:
                # At least twice of what did not do, whatever did not fit.
                self._grow(link, max(size_of(inputs, link.signature), link.mapping.request_bytes))
            except InvalidInput:
                if not self._moved(link):
                    raise
            except Overloaded as error:
                # Two requests of the kind and what else is held should find room.
                size = 2 * size_of(inputs, link.signature) if error.request_bytes else 0
                if size and roomy(size) > link.mapping.request_bytes:
                    self._grow(link, size)
                    continue
                end = end or time.monotonic() + patience
                left = end - time.monotonic()
                if left <= 0:
                    raise
                link.wait_for_room(left)
            except Closed:
                if not link.closed or self._closed:
                    raise

    def submit(
        self,
        inputs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        wait: bool = False,
    ) -> Future:
        """Like `infer`, without waiting for the answer."""
        if timeout is None:
            timeout = self._settings.timeout
        timeout = self._attached(timeout)
        call = self._obtain(inputs, wire.INFER, outputs, parameters, timeout if wait else 0.0)
        call.submit(timeout)
        return Future(call, timeout)

    def stream(
        self,
        inputs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Send `inputs` to a model that answers with a stream; iterate over its events.

        Closing the iterator early cancels the request.
        """
        if timeout is None:
            timeout = self._settings.timeout
        timeout = self._attached(timeout)
        call = self._obtain(inputs, wire.STREAM, (), parameters)
        call.submit(timeout)
        return Stream(call, timeout)

    def prepare(
        self,
        inputs: Mapping[str, Any],
        *,
        parameters: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
    ) -> Prepared:
        """A call whose header, slot and places are fixed; see `Prepared`."""
        link = self.link()
        arrays = as_arrays(inputs, link.signature)
        check_inputs(link.signature, arrays)
        form = form_of(link, arrays, wire.INFER, outputs, parameters)
        call = Call(link, form, arrays, wire.INFER, outputs, parameters)
        call.write(arrays)
        places = {p.name: p.target if p.target is not None else arrays[p.name] for p in call.places}
        return Prepared(call, places, self._settings.timeout)

    def alloc(self, shape: int | Sequence[int], dtype: Any = "float32") -> Array:
        """An uninitialised array in the request arena: fill it, and pass it without a copy.

        Raises:
            Overloaded: the arena is full.
            PayloadTooLarge: it is larger than the arena can be.
        """
        kind = np.dtype(dtype)
        if kind.name not in DTYPES:
            raise InvalidInput(f"dtype {kind} is not supported", hint="use " + ", ".join(DTYPES))
        dims = (shape,) if isinstance(shape, int) else tuple(int(d) for d in shape)
        link = self.link()
        size = int(np.prod(dims, dtype=np.int64)) * kind.itemsize
        if size > link.mapping.request_bytes:
            self._grow(link, size)
        return np.asarray(Memory(self.link(), kind, dims))

    def ping(self, timeout: float = 5.0) -> float:
        """Seconds of one round trip to a worker that runs nothing."""
        start = time.perf_counter()
        call = Call(self.link(), ("ping",), {}, wire.PING)
        call.reusable = False
        call.run(timeout, nanoseconds(timeout))
        try:
            raise_error(call.decode())
        finally:
            call.free()
        return time.perf_counter() - start

    def usage(self) -> dict[str, int]:
        """Slots and memory of the channel, and bytes copied on this side."""
        return self.link().usage()

    def close(self) -> None:
        """Give the channel up. Arrays already received stay readable."""
        self._closed = True
        for link in [*self._retired, *([self._link] if self._link else [])]:
            link.close()
        self._retired.clear()
        self._client.forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _at_rest(link: Link) -> bool:
    usage = link.usage()
    return usage["slots_free"] + usage["resting"] == usage["slots"]
