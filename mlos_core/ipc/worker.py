# SPDX-License-Identifier: BUSL-1.1
"""A worker's end of all channels of its model.

`WorkerPort.next` hands out `Request` objects. One object exists per slot and header: as
long as a client repeats a header, its object, input arrays and reply header are used
again, and a round trip decodes nothing. A header that was not seen is copied out of the
segment, decoded and checked before an array is made of it.
"""

from __future__ import annotations

import collections
import math
import os
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping as MappingABC
from typing import Any, Final

import msgspec
import numpy as np

from mlos_core.errors import (
    Cancelled,
    ChannelBroken,
    DeadlineExceeded,
    InvalidInput,
    MlosError,
    ModelFailed,
    Overloaded,
    PayloadTooLarge,
    Quarantined,
)
from mlos_core.ipc import header as wire
from mlos_core.ipc.bell import is_sealed, map_bell
from mlos_core.ipc.channel import SMALL_BYTES, Mapping
from mlos_core.ipc.native import (
    AGAIN,
    TOO_BIG,
    WAIT_MODES,
    check,
    failure,
    ffi,
    last_error,
    lib,
    nanoseconds,
)
from mlos_core.types import BYTES, DTYPES, Array, dtype_name, encode_bytes

MAX_CHANNELS: Final = 4096
_ERROR_BYTES: Final = 960
_PONG: Final = wire.encode(wire.ReplyHeader())
# Bound once: looking a function up in the library costs as much as calling it.
_answer: Final = lib.mlos_answer
_again: Final = lib.mlos_again
_receive: Final = lib.mlos_port_receive
_encode_event: Final = msgspec.msgpack.Encoder().encode


class Made:
    """An output's array as `allocate` made it."""

    __slots__ = ("array", "dtype", "offset", "shape", "size")

    def __init__(
        self, array: Array, dtype: str, shape: tuple[int, ...], offset: int, size: int
    ) -> None:
        self.array = array
        self.dtype = dtype
        self.shape = shape
        self.offset = offset
        self.size = size


class Seat:
    """One channel of the port: its mapping, its descriptors, its requests by slot."""

    def __init__(self, index: int, mapping: Mapping, fd: int, event_fd: int) -> None:
        self.index = index
        self.mapping = mapping
        self.fd = fd
        self.event_fd = event_fd
        self.arrays: collections.OrderedDict[tuple[Any, ...], Array] = collections.OrderedDict()

    def array(self, offset: int, dtype: str, shape: tuple[int, ...]) -> Array:
        """A writable array at `offset`; kept, because replies mostly fall on the same place."""
        key = (offset, dtype, shape)
        found = self.arrays.get(key)
        if found is None:
            kind = DTYPES[dtype]
            size = math.prod(shape) * kind.itemsize
            part = self.mapping.segment[offset : offset + size]
            found = self.arrays[key] = np.ndarray(shape, kind, part)
            if len(self.arrays) > 256:
                self.arrays.popitem(last=False)
        return found

    def close(self) -> None:
        """Close the descriptors. The mapping goes with its last view."""
        for fd in (self.fd, self.event_fd):
            if fd >= 0:
                os.close(fd)


class Request:
    """A claimed request. Ends in exactly one `answer` or `fail`.

    Attributes:
        inputs: read-only views of the segment, by name.
        outputs: names of the wanted outputs; empty means all.
        parameters: what the client gave.
        kind: `header.INFER` or `header.STREAM`.
        channel: index of the channel.
    """

    __slots__ = (
        "_fixed",
        "_index",
        "_known",
        "_made",
        "_port",
        "_seat",
        "_shared",
        "_slot",
        "_small_off",
        "_small_used",
        "_task",
        "checked",
        "inputs",
        "kind",
        "outputs",
        "parameters",
    )

    def __init__(self, port: WorkerPort, seat: Seat, slot: int, head: wire.RequestHeader) -> None:
        self._port = port
        self._shared = port._pointer
        self._seat = seat
        self._index = seat.index
        self._slot = slot
        self._task = lib.mlos_port_task(port._pointer, seat.index, slot)
        self._small_off = lib.mlos_reply_small_off(port._pointer, seat.index, slot)
        self._small_used = 0
        self._made: dict[str, Made] = {}
        self._fixed: dict[str, Made] = {}  # those that stay in their place for good
        self._known: tuple[tuple[str, Array], ...] = ()
        self.checked: object = None
        self.kind = head.kind
        self.outputs = head.outputs
        self.parameters = head.parameters
        self.inputs: dict[str, Array] = {}
        segment = seat.mapping.segment.toreadonly()
        for ref in head.inputs:
            if ref.name in self.inputs:
                raise InvalidInput(f"input {ref.name!r} is given twice")
            self.inputs[ref.name] = wire.view(segment, ref)

    # --- what is known of the request -------------------------------------------------

    @property
    def channel(self) -> int:
        """Index of the channel, as `WorkerPort.attach` returned it."""
        return self._index

    @property
    def attempt(self) -> int:
        """0 for the first worker that tries this request, 1 for the second, …"""
        return int(self._task.attempts)

    @property
    def events_sent(self) -> int:
        """Events that earlier workers have put into the stream."""
        return int(self._task.events_sent)

    @property
    def deadline_ns(self) -> int:
        """CLOCK_MONOTONIC nanoseconds, 0 for none."""
        return int(self._task.deadline_ns)

    @property
    def submitted_ns(self) -> int:
        """When the client submitted it (CLOCK_MONOTONIC nanoseconds)."""
        return int(self._task.submitted_ns)

    @property
    def taken_ns(self) -> int:
        """When this worker claimed it (CLOCK_MONOTONIC nanoseconds)."""
        return int(self._task.taken_ns)

    def cancelled(self) -> bool:
        """Whether the client cancelled, or is gone, or the deadline has passed."""
        return bool(lib.mlos_task_stop(self._shared, self._index, self._slot))

    # --- the answer ---------------------------------------------------------------------

    def allocate(self, name: str, dtype: str, shape: tuple[int, ...]) -> Array:
        """A writable array for output `name`, where the client will read it.

        Raises:
            Overloaded: the reply arena is full of answers that the client still holds.
            PayloadTooLarge: the tensor is larger than the reply arena.
        """
        fixed = self._fixed.get(name)
        if fixed is not None and fixed.shape == shape and fixed.dtype == dtype:
            return fixed.array
        if dtype not in DTYPES:
            raise InvalidInput(f"output {name!r}: no room can be made for dtype {dtype!r}")
        size = math.prod(shape) * DTYPES[dtype].itemsize
        offset = self._place(size)
        array = self._seat.array(offset, dtype, shape)
        made = self._made[name] = Made(array, dtype, shape, offset, size)
        if 0 <= offset - self._small_off < SMALL_BYTES:
            self._fixed[name] = made
        return array

    def _place(self, size: int) -> int:
        """Room for `size` bytes: in the slot while that has any, else in the reply arena.

        Room in the slot is given to a tensor once and for all; the next request of the
        same header finds its arrays in the same place.
        """
        rounded = max(64, (size + 63) & ~63)
        if self._small_used + rounded <= SMALL_BYTES:
            offset = self._small_off + self._small_used
            self._small_used += rounded
            return int(offset)
        status = lib.mlos_reply_alloc(self._shared, self._index, self._slot, size)
        if status in (TOO_BIG, AGAIN):
            raise _no_room(status, size)
        return check(status)

    def answer(
        self,
        outputs: MappingABC[str, Array],
        parameters: dict[str, Any] | None = None,
        started_ns: int = 0,
        ended_ns: int = 0,
    ) -> None:
        """Publish the outputs. One that `allocate` did not make is copied.

        Args:
            outputs: by name.
            parameters: extra facts for the client.
            started_ns: start of the computation, for the statistics; 0: when claimed.
            ended_ns: its end; 0: now.
        """
        if not self._task.held:
            return  # answered before; the client may be reading where outputs would be copied
        ended = ended_ns or time.monotonic_ns()  # before any copy
        try:
            reply = self._make_reply(outputs, parameters or {})
        except MlosError as err:
            self.fail(err)
            return
        except (TypeError, ValueError, OverflowError) as err:
            self.fail(ModelFailed(f"the model's answer cannot be sent: {err}"))
            return
        rc = _answer(self._shared, self._index, self._slot, reply, len(reply), started_ns, ended)
        if rc in (AGAIN, TOO_BIG):  # a long header, and no room for it in the arena
            self.fail(_no_room(rc, len(reply)))

    def again(self, outputs: MappingABC[str, Array]) -> bool:
        """Publish `outputs` if they are the very arrays of the last answer to this header.

        That answer was judged and encoded, so there is nothing left to do. The hot path.
        """
        known = self._known
        if not known or len(outputs) != len(known):
            return False
        for name, array in known:
            if outputs.get(name) is not array:
                return False
        return bool(_again(self._task) == 0)

    def _make_reply(self, outputs: MappingABC[str, Array], parameters: dict[str, Any]) -> bytes:
        refs: list[wire.TensorRef] = []
        known: list[tuple[str, Array]] = []
        for name, array in outputs.items():
            made = self._made.get(name)
            if made is not None and made.array is array:
                refs.append(wire.TensorRef(name, made.dtype, made.shape, made.offset, made.size))
                if self._fixed.get(name) is made:
                    known.append((name, array))
            else:
                refs.append(self._copy(name, array))
        reply = wire.encode(wire.ReplyHeader(outputs=tuple(refs), parameters=parameters))
        keep = len(known) == len(outputs) and not parameters
        if keep and lib.mlos_remember(self._task, reply, len(reply)) == 0:
            self._known = tuple(known)
        return reply

    def _copy(self, name: str, array: Array) -> wire.TensorRef:
        dtype = dtype_name(array)
        raw = encode_bytes(array) if dtype == BYTES else None
        size = array.nbytes if raw is None else len(raw)
        offset = self._place(size)
        target = self._seat.mapping.segment[offset : offset + size]
        if raw is None:
            np.ndarray(array.shape, DTYPES[dtype], target)[...] = array
        else:
            target[:] = raw
        self._port.copied_bytes += size
        return wire.TensorRef(name, dtype, tuple(array.shape), offset, size)

    def fail(self, error: MlosError) -> None:
        """Answer with an error."""
        reply = wire.encode_error(error, _ERROR_BYTES)
        self._port.failures += 1
        _answer(self._shared, self._index, self._slot, reply, len(reply), 0, 0)

    def emit(self, data: object) -> bool:
        """Append one event to the stream; false when the reader is behind and the ring full.

        Raises:
            PayloadTooLarge: the event is larger than half the ring.
        """
        raw = _encode_event(data)
        status = lib.mlos_emit(self._shared, self._index, self._slot, raw, len(raw))
        if status == lib.MLOS_E_LOST:
            return True  # nobody reads any more; `cancelled` says so
        if status == TOO_BIG:
            raise PayloadTooLarge(f"a stream event of {len(raw)} bytes is too large")
        return bool(check(status))


def _no_room(status: int, size: int) -> MlosError:
    if status == TOO_BIG:
        error = PayloadTooLarge(
            f"an output of {size} bytes is larger than the channel's reply arena",
            hint=f"attach with reply_bytes of at least {size}",
        )
        error.reply_bytes = size
        return error
    full = Overloaded(
        "the channel's reply arena is full of answers the client still holds",
        hint="release or copy earlier results, or attach with more reply_bytes",
    )
    full.reply_bytes = size
    return full


class WorkerPort:
    """A worker's end of all channels of its model.

    One thread calls `next`, `poll` and everything of `Request`; any thread may call the
    other methods.

    Args:
        bell_fd: the model's doorbell; the port owns it from now on.
        owner: this worker's number, never used by another worker of the model.
        lane: this worker's bit in the doorbell.
        wait_mode: `adaptive`, `spin` or `block`.
        poll_max_us: longest adaptive polling in microseconds.
        max_attempts: workers that one request may end before it is refused.
    """

    def __init__(
        self,
        bell_fd: int,
        owner: int,
        lane: int,
        *,
        wait_mode: str = "adaptive",
        poll_max_us: int = 2000,
        max_attempts: int = 3,
    ) -> None:
        if not is_sealed(bell_fd):
            raise ChannelBroken("the doorbell is not sealed: a client could cut it short")
        self.bell_fd = bell_fd
        self._bell = map_bell(bell_fd)
        pointer = lib.mlos_port_new(
            self._bell, owner, lane, WAIT_MODES[wait_mode], poll_max_us * 1000, max_attempts
        )
        if pointer == ffi.NULL:
            raise failure(lib.MLOS_E_ARGUMENT)
        self._pointer: Any = ffi.gc(pointer, lib.mlos_port_free)
        self._lock = threading.Lock()
        self._seats: dict[int, Seat] = {}
        self._requests: dict[int, Request] = {}  # by the key they come back with
        self._orders: collections.deque[Any] = collections.deque()
        self._leaving: list[Any] = []  # removals that wait for held requests
        self._claiming = True
        self._reported: set[int] = set()
        self.copied_bytes = 0
        self.failures = 0
        self.cancelled = 0

    # --- any thread ---------------------------------------------------------------------

    def attach(self, fd: int, event_fd: int = -1) -> int:
        """Serve the channel of segment `fd`; both descriptors belong to the port now.

        Raises:
            ChannelBroken: it is no sound segment.
            Overloaded: the worker serves as many channels as it can.
        """
        mapping = Mapping(fd, event_fd, guarded=True)
        with self._lock:
            index = next((i for i in range(MAX_CHANNELS) if i not in self._seats), -1)
            if index < 0:
                raise Overloaded(f"a worker serves at most {MAX_CHANNELS} channels")
            seat = self._seats[index] = Seat(index, mapping, fd, event_fd)
        self._order(lambda: lib.mlos_port_add(self._pointer, index, seat.mapping.pointer))
        return index

    def detach(self, index: int) -> None:
        """Let a channel go, as soon as the claiming thread comes by.

        Requests of it that are held see that they are cancelled; it goes with the last.
        """

        def remove() -> None:
            if lib.mlos_port_remove(self._pointer, index, False) == AGAIN:
                self._leaving.append(remove)
                return
            for key in [k for k in self._requests if k >> 12 == index]:
                del self._requests[key]
            with self._lock:
                self._reported.discard(index)
                seat = self._seats.pop(index, None)
            if seat is not None:
                seat.close()

        self._order(remove)

    def fds(self, index: int) -> tuple[int, int]:
        """Segment and eventfd of a channel, to hand to a restarted daemon."""
        seat = self._seats[index]
        return seat.fd, seat.event_fd

    def channels(self) -> list[int]:
        """Indices of the channels served."""
        with self._lock:
            return list(self._seats)

    def recover(self, index: int, limit: int, alive: tuple[int, ...]) -> None:
        """Take over what dead workers left in a channel.

        Args:
            index: the channel.
            limit: slots of owners at or above it are left alone.
            alive: owners that still live.
        """
        owners = ffi.new("uint32_t[]", list(alive))
        self._order(lambda: lib.mlos_port_recover(self._pointer, index, limit, owners, len(alive)))

    def _order(self, act: Any) -> None:
        self._orders.append(act)
        self.interrupt()

    def interrupt(self) -> None:
        """Make a blocked `next` return."""
        lib.mlos_port_interrupt(self._pointer)

    def stop_claiming(self) -> None:
        """Claim nothing from now on; what is claimed can still be answered."""
        self._order(None)

    def broken(self) -> list[tuple[int, str]]:
        """Channels found broken since the last call, with the reason. Detach them."""
        index = lib.mlos_port_take_broken(self._pointer)
        if index < 0 or index in self._reported:
            return []
        self._reported.add(index)
        return [(index, last_error() or "the segment was truncated")]

    def counters(self) -> dict[str, int]:
        """Sums since the start; times in nanoseconds."""
        stats = lib.mlos_port_statistics(self._pointer)
        names = ("answered", "queue_ns", "input_ns", "infer_ns", "output_ns", "recovered", "lost")
        counted = {name: int(getattr(stats, name)) for name in names}
        return counted | {
            "copied_bytes": self.copied_bytes,
            "failures": self.failures,
            "cancelled": self.cancelled,
        }

    # --- the claiming thread --------------------------------------------------------------

    def next(self, timeout: float | None = None) -> Request | None:
        """Claim the next request, waiting up to `timeout` seconds.

        `None` after the timeout, after `interrupt`, or when it is time to look around.
        """
        if self._orders and not self._obey():
            return None
        return self._claimed(lib.mlos_port_next(self._pointer, nanoseconds(timeout)))

    def receiver(self, timeout: float | None = None) -> Callable[[], Request | None]:
        """`next` with its timeout as a function, which spares a loop the look-ups."""
        orders, obey, claimed = self._orders, self._obey, self._claimed
        known, pointer = self._requests.get, self._pointer
        lib.mlos_port_patience(pointer, nanoseconds(timeout))

        def receive() -> Request | None:
            if orders and not obey():
                return None
            key = _receive(pointer)
            request = known(key)
            return claimed(key) if request is None else request

        return receive

    def poll(self) -> Request | None:
        """Claim the next request if there is one."""
        if self._orders and not self._obey():
            return None
        return self._claimed(lib.mlos_port_poll(self._pointer))

    def _obey(self) -> bool:
        """Carry out what other threads have ordered; false when no request may be claimed."""
        for _ in range(len(self._orders)):
            order = self._orders.popleft()
            if order is None:
                self._claiming = False
            else:
                order()
        # What stays in line brings the next claim back here: removals that wait for held
        # requests, and the last order of all.
        self._orders.extend(self._leaving)
        self._leaving.clear()
        if not self._claiming:
            self._orders.append(None)
        return self._claiming

    def _claimed(self, key: int) -> Request | None:
        if key < 0:
            return None
        index, slot = key >> 12, key >> 2 & 1023
        if key & 2:
            self._refuse(index, slot)
            return None
        known = self._requests.get(key)
        if known is not None:
            return known
        key |= 1  # so will it come back, when the header is the same
        self._requests.pop(key, None)
        return self._decode(index, slot, key)

    def _decode(self, index: int, slot: int, key: int) -> Request | None:
        task = lib.mlos_port_task(self._pointer, index, slot)
        try:
            head = wire.decode_request(ffi.buffer(task.header, task.header_len)[:])
            if head.kind == wire.PING:
                self._reply(index, slot, _PONG)
                return None
            if head.kind not in (wire.INFER, wire.STREAM):
                raise InvalidInput(f"request kind {head.kind} is unknown")
            request = Request(self, self._seats[index], slot, head)
            if all(ref.dtype != BYTES for ref in head.inputs):  # those are copies, made anew
                self._requests[key] = request
        except MlosError as err:
            self._reply(index, slot, wire.encode_error(err, _ERROR_BYTES))
            self.failures += 1
            return None
        return request

    def _refuse(self, index: int, slot: int) -> None:
        """Answer a request that must not run."""
        task = lib.mlos_port_task(self._pointer, index, slot)
        error: MlosError
        if task.fault == lib.MLOS_FAULT_CANCELLED:
            error = Cancelled("the request was cancelled before it ran")
            self.cancelled += 1
        elif task.fault == lib.MLOS_FAULT_EXPIRED:
            error = DeadlineExceeded("the deadline passed before a worker was free")
        elif task.fault == lib.MLOS_FAULT_QUARANTINED:
            error = Quarantined(
                f"this request ended {task.attempts} workers and is not tried again",
                hint="look at the model's log for how it died",
            )
        else:
            error = InvalidInput("the request header lies outside the segment")
        self.failures += 1
        self._reply(index, slot, wire.encode_error(error, _ERROR_BYTES))

    def _reply(self, index: int, slot: int, reply: bytes) -> None:
        _answer(self._pointer, index, slot, reply, len(reply), 0, 0)

    def close(self) -> None:
        """Let everything go. The port cannot be used afterwards."""
        with self._lock:
            for index in list(self._seats):
                lib.mlos_port_remove(self._pointer, index, True)
                self._seats.pop(index).close()
            self._requests.clear()
        ffi.release(self._pointer)  # now, while the doorbell is certainly mapped
        os.close(self.bell_fd)
