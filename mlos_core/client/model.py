# SPDX-License-Identifier: BUSL-1.1
"""The synchronous client."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

import msgspec
import numpy as np

from mlos_core import config
from mlos_core.client.call import (
    Call,
    Memory,
    Owner,
    again,
    as_arrays,
    form_of,
    larger_reply,
    obtain,
    raise_error,
    roomy,
    to_array,
)
from mlos_core.client.link import CLIENT_POLL_MAX_US, Family, Link
from mlos_core.client.result import Result
from mlos_core.client.session import Session
from mlos_core.errors import (
    Cancelled,
    Closed,
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    PayloadTooLarge,
)
from mlos_core.ipc import header as wire
from mlos_core.ipc.native import (
    AGAIN,
    BUSY,
    SAME,
    TICK,
    TIMEOUT,
    failure,
    ffi,
    lib,
    nanoseconds,
)
from mlos_core.types import DTYPES, Array, Signature, check_inputs

DEFAULT_TIMEOUT: Final = 60.0
DEFAULT_SLOTS: Final = 64
DEFAULT_ARENA: Final = 4 << 20
_NO_SLOT: Final = 1 << 31
_run: Final = lib.mlos_run
_decode_event: Final = msgspec.msgpack.Decoder().decode


class Settings(msgspec.Struct, frozen=True):
    """How a model handle attaches."""

    slots: int = DEFAULT_SLOTS
    request_bytes: int = DEFAULT_ARENA
    reply_bytes: int = DEFAULT_ARENA
    wait_mode: str = "adaptive"
    poll_max_us: int = CLIENT_POLL_MAX_US
    timeout: float = DEFAULT_TIMEOUT


def connect(socket: str | os.PathLike[str] | None = None, timeout: float = 10.0) -> Client:
    """Connect to the daemon.

    Args:
        socket: its control socket; by default where `mlosd` puts it (`MLOS_SOCKET`).
        timeout: seconds for connecting and for answers of the control plane.

    Raises:
        Unavailable: no daemon answers there.
    """
    return Client(os.fspath(socket) if socket else str(config.default_socket()), timeout)


class Client:
    """A connection to the daemon. Thread-safe; a forked child gets its own connection."""

    def __init__(self, path: str, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout
        self._pid = os.getpid()
        self._session: Session | None = Session(path, timeout)
        self._models: list[Model] = []
        self._lock = threading.Lock()

    def session(self) -> Session:
        """The control connection of this process."""
        if self._pid != os.getpid():
            self._after_fork()
        if self._session is None:
            raise Closed("the client was closed")
        return self._session

    def _after_fork(self) -> None:
        inherited, self._session = self._session, None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        if inherited is not None:
            inherited.close()
            self._session = Session(self._path, self._timeout)

    def model(
        self,
        name: str,
        *,
        slots: int = DEFAULT_SLOTS,
        request_bytes: int = DEFAULT_ARENA,
        reply_bytes: int = DEFAULT_ARENA,
        wait_mode: str = "adaptive",
        poll_max_us: int = CLIENT_POLL_MAX_US,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Model:
        """A handle on a model. It attaches at its first use.

        Args:
            name: as it was registered.
            slots: requests that can be under way or held at a time.
            request_bytes: size of the arena for request tensors. It grows when a request
                needs more, by attaching anew; give it to spare that moment.
            reply_bytes: size of the arena for reply tensors; `infer` makes it grow, by
                asking a second time.
            wait_mode: `adaptive`, `spin` or `block`.
            poll_max_us: longest adaptive polling, in microseconds.
            timeout: default deadline of each request, in seconds.
        """
        if wait_mode not in ("adaptive", "spin", "block"):
            raise InvalidInput(
                f"unknown wait mode {wait_mode!r}", hint="use adaptive, spin or block"
            )
        settings = Settings(slots, request_bytes, reply_bytes, wait_mode, poll_max_us, timeout)
        model = Model(self, name, settings)
        with self._lock:
            self._models.append(model)
        return model

    def call(self, method: str, *, patience: float | None = 120.0, **params: Any) -> Any:
        """Call a method of the daemon's service (`register`, `models`, `status`, …).

        Args:
            method: its name.
            patience: seconds to wait for the answer; `None` waits as long as it takes.
            params: the method's parameters, `timeout` among them where it has one.
        """
        return self.session().call(method, params, patience)

    def close(self) -> None:
        """Give up every channel and the connection."""
        for model in self._models:
            model.close()
        if self._session is not None and self._pid == os.getpid():
            self._session.close()
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
        self._lock = threading.Lock()
        self._closed = False

    # --- the channel -------------------------------------------------------------------------

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of inputs and outputs."""
        return self.link().signature

    @property
    def version(self) -> str:
        """The version that answers."""
        return self.link().version

    def link(self) -> Link:
        """The channel of this process, attached now if need be."""
        link = self._link
        if link is not None and not link.closed:
            return link
        if self._pid != os.getpid():
            self._lock, self._pid = threading.Lock(), os.getpid()
        with self._lock:
            if self._closed:
                raise Closed(f"the handle on {self.name!r} was closed")
            if self._link is None or self._link.closed:
                self._link = self._attach()
            return self._link

    def _attach(self) -> Link:
        session, s = self._client.session(), self._settings
        attached, fds = session.attach(
            self.name, s.slots, *self._room, min(s.timeout, DEFAULT_TIMEOUT)
        )
        return Link(session, attached, fds, s.wait_mode, s.poll_max_us)

    def _grow(self, old: Link, request: int = 0, reply: int = 0) -> None:
        """Attach with arenas for request tensors of that many bytes, and replies of that room."""
        with self._lock:
            if self._link is not old:
                return
            self._room = (max(self._room[0], roomy(request)), max(self._room[1], reply))
            self._link = self._attach()
            self._retired.append(old)
            for retired in [r for r in self._retired if _at_rest(r)]:
                self._retired.remove(retired)
                retired.close()

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
            timeout: seconds; by default the handle's.
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
                self._grow(link, max(_size(inputs, link.signature), link.mapping.request_bytes))
            except Overloaded as error:
                # Two requests of the kind and what else is held should find room.
                size = 2 * _size(inputs, link.signature) if error.request_bytes else 0
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _size(inputs: Mapping[str, Any], signature: Signature) -> int:
    return sum(to_array(v, n, signature).nbytes + 4096 for n, v in inputs.items())


def _at_rest(link: Link) -> bool:
    usage = link.usage()
    return usage["slots_free"] + usage["resting"] == usage["slots"]


class Prepared:
    """A call that is made again and again: only the data change.

    `inputs` are the arrays to fill in place. Calling it returns the same `Result` as long as
    the answer keeps its form; its arrays hold until the next call. One thread at a time.
    """

    __slots__ = (
        "_call",
        "_closed",
        "_owner",
        "_request",
        "_result",
        "_timeout",
        "_waiting",
        "inputs",
    )

    def __init__(self, call: Call, inputs: dict[str, Array], timeout: float) -> None:
        self._call = call
        self._timeout = timeout
        self._owner = Owner(call)
        self._waiting = False
        self._closed = False
        self.inputs = inputs
        self._result = Result({})
        self._request = call.request
        self._request.timeout_ns = nanoseconds(timeout)

    def __call__(self, timeout: float | None = None) -> Result:
        """Send the inputs as they are now; wait for the answer.

        Raises as `Model.infer` does.
        """
        rc = _run(self._request) if timeout is None else self._run(timeout)
        if rc > SAME:
            return self._result
        if rc < 0:
            rc = self._settle(rc, self._timeout if timeout is None else timeout)
        self._result = self._call.views(rc, self._owner)
        return self._result

    def _run(self, timeout: float) -> int:
        self._request.timeout_ns = nanoseconds(timeout)
        rc: int = _run(self._request)
        self._request.timeout_ns = nanoseconds(self._timeout)
        return rc

    def _settle(self, rc: int, timeout: float) -> int:
        call = self._call
        if self._closed:
            raise Closed("the prepared call was closed")
        if self._waiting:
            raise failure(BUSY)
        self._waiting = True
        try:
            if rc == AGAIN:
                # An earlier run failed before its answer came; the worker may still read
                # the inputs.
                call.settle(TICK, timeout, keep=True)
                rc = self._run(timeout)
            return call.settle(rc, timeout, keep=True)
        finally:
            self._waiting = False

    def close(self) -> None:
        """Give slot and memory back; earlier results must not be read any more."""
        if self._closed:
            return
        self._closed = True
        self._request.slot = _NO_SLOT
        self._owner.release()


class Future:
    """An answer to come. `result` may be called once; dropping a future cancels it."""

    def __init__(self, call: Call, timeout: float) -> None:
        self._call: Call | None = call
        self._end = time.monotonic() + timeout
        self._cancelled = False

    def _mine(self) -> Call:
        if self._call is None:
            raise Closed("the result was taken before")
        return self._call

    def _take(self) -> Call:
        """The call, for one thread alone: who takes the result may use the slot again."""
        call, self._call = self._call, None
        if call is None:
            raise Closed("the result was taken before")
        return call

    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""
        return self._mine().poll() != AGAIN

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the answer; `timeout` only ends this wait, not the request.

        Raises:
            DeadlineExceeded: not yet; or the request's own deadline has passed.
        """
        call = self._mine()
        left = max(0.0, self._end - time.monotonic())
        if timeout is not None and timeout < left:
            rc = self._wait(call, timeout)
            if rc == TIMEOUT:
                raise DeadlineExceeded("no answer yet", hint="wait longer")
        else:
            rc = lib.mlos_wait(call.link.pointer, call.slot, nanoseconds(left))
        self._take()
        if rc < 0:
            rc = call.settle(rc, left)
        return call.result(rc)

    def _wait(self, call: Call, timeout: float) -> int:
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            rc: int = lib.mlos_wait(call.link.pointer, call.slot, nanoseconds(left))
            if rc != TICK:
                return rc
            call.link.look_around()

    def cancel(self) -> None:
        """Ask that it be not run, or be stopped; `result` then raises `Cancelled`."""
        call = self._mine()
        lib.mlos_cancel(call.link.pointer, call.slot)

    def __del__(self) -> None:
        call = getattr(self, "_call", None)
        if call is not None:
            self._call = None
            call.link.abandon(call)


class Stream:
    """Events of a request, in order, each once. `result` is the final answer, after the last."""

    def __init__(self, call: Call, timeout: float) -> None:
        self._call: Call | None = call
        self._end = time.monotonic() + timeout
        self._room = ffi.new("char[]", _EVENT_ROOM)
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        """The final answer, once the stream has ended."""
        if self._result is None:
            raise InvalidInput("the stream has not ended", hint="iterate to its end first")
        return self._result

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        call = self._call
        if call is None:
            raise StopIteration
        pointer, slot = call.link.pointer, call.slot
        try:
            while True:
                left = max(0.0, self._end - time.monotonic())
                rc = lib.mlos_next_event(pointer, slot, self._room, _EVENT_ROOM, nanoseconds(left))
                if rc == AGAIN and not left:
                    rc = TIMEOUT  # the deadline passed while nobody asked
                if rc != TICK and rc != AGAIN:
                    break
                call.link.look_around()
        except BaseException:
            self.close()
            raise
        if rc > 0:
            return _decode_event(ffi.buffer(self._room, rc)[:])
        self._call = None
        if rc < 0:
            call.settle(rc, 0.0)
        self._result = call.result(0)
        raise StopIteration

    def close(self) -> None:
        """Cancel the request if it still runs."""
        call, self._call = self._call, None
        if call is not None:
            call.link.abandon(call)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_call", None) is not None:
            with contextlib.suppress(Cancelled):
                self.close()


_EVENT_ROOM: Final = 1 << 20
