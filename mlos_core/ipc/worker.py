# SPDX-License-Identifier: BUSL-1.1
"""A worker's end of all channels of its model.

`WorkerPort.next` hands out `Request` objects. One object exists per slot and header: as
long as a client repeats a header, its object, input arrays and reply header are used
again, and a round trip decodes nothing. A header that was not seen is copied out of the
segment, decoded and checked before an array is made of it.
"""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from mlos_core.errors import (
    Cancelled,
    ChannelBroken,
    DeadlineExceeded,
    InvalidInput,
    MlosError,
    Overloaded,
    Quarantined,
)
from mlos_core.ipc import header as wire
from mlos_core.ipc.bell import is_sealed, map_bell
from mlos_core.ipc.channel import Mapping
from mlos_core.ipc.histogram import BUCKETS, Times
from mlos_core.ipc.native import (
    AGAIN,
    WAIT_MODES,
    failure,
    ffi,
    last_error,
    lib,
    nanoseconds,
)
from mlos_core.ipc.request import ERROR_BYTES, Request, Seat
from mlos_core.types import BYTES

MAX_CHANNELS: Final = 4096
_COUNTERS: Final = {
    "answered": "answered",
    "failures": "failed",
    "failed_ns": "failed_ns",
    "queue_ns": "queue_ns",
    "input_ns": "input_ns",
    "infer_ns": "infer_ns",
    "output_ns": "output_ns",
    "recovered": "recovered",
    "lost": "lost",
    "running": "held",
}
_PONG: Final = wire.encode(wire.ReplyHeader())
# Bound once: looking a function up in the library costs as much as calling it.
_refuse: Final = lib.mlos_refuse
_pong: Final = lib.mlos_pong
_receive: Final = lib.mlos_port_receive


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
        self._left: Callable[[], None] = lambda: None
        self._reported: set[int] = set()
        self.copied_bytes = 0
        self.cancelled = 0

    # --- any thread ---------------------------------------------------------------------

    def attach(self, fd: int, event_fd: int = -1, owner: str = "") -> int:
        """Serve the channel of segment `fd`; both descriptors belong to the port now.

        `owner` is whom its requests come from, as `Request.owner` will say.

        Raises:
            ChannelBroken: it is no sound segment.
            Overloaded: the worker serves as many channels as it can.
        """
        mapping = Mapping(fd, event_fd, guarded=True)
        with self._lock:
            index = next((i for i in range(MAX_CHANNELS) if i not in self._seats), -1)
            if index < 0:
                raise Overloaded(f"a worker serves at most {MAX_CHANNELS} channels")
            seat = self._seats[index] = Seat(index, mapping, fd, event_fd, owner)
        self._order(lambda: lib.mlos_port_add(self._pointer, index, seat.mapping.pointer))
        return index

    def detach(
        self, index: int, *, finish: bool = False, gone: Callable[[], None] = lambda: None
    ) -> None:
        """Let a channel go, as soon as the claiming thread comes by.

        Requests of it that are held see that they are cancelled, or with `finish` are
        finished; it goes with the last, and then the claiming thread calls `gone`.
        """
        how = lib.MLOS_REMOVE_FINISH if finish else lib.MLOS_REMOVE_CANCEL
        seat = self._seats.get(index)
        if seat is not None:
            self._order(partial(self._remove, seat, how, gone))

    def _remove(self, seat: Seat, how: int, gone: Callable[[], None]) -> None:
        index = seat.index
        if self._seats.get(index) is not seat:
            return  # it went already, and the index may be another channel's by now
        if lib.mlos_port_remove(self._pointer, index, how) == AGAIN:
            self._leaving.append(partial(self._remove, seat, how, gone))
            return
        for key in [k for k in self._requests if k >> 12 == index]:
            del self._requests[key]
        with self._lock:
            self._reported.discard(index)
            del self._seats[index]
        seat.close()
        gone()

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

    def stop_claiming(self, left: Callable[[], None] = lambda: None) -> None:
        """Claim nothing from now on; what is claimed can still be answered.

        The claiming thread calls `left` when it has come by.
        """
        self._left = left
        self._order(None)

    def broken(self) -> list[tuple[int, str]]:
        """Channels found broken since the last call, with the reason. Detach them."""
        index = lib.mlos_port_take_broken(self._pointer)
        if index < 0 or index in self._reported:
            return []
        self._reported.add(index)
        return [(index, last_error())]

    def counters(self) -> dict[str, int]:
        """Sums since the start, and how many requests are held; times in nanoseconds.

        Taken beside the claiming thread: some of the numbers may hold an answer more.
        """
        stats = self._statistics()
        counted = {ours: int(getattr(stats, theirs)) for ours, theirs in _COUNTERS.items()}
        return counted | {"copied_bytes": self.copied_bytes, "cancelled": self.cancelled}

    def times(self) -> dict[str, Times]:
        """`request`, `queue` and `infer`: how long answered requests took, errors left out."""
        stats = self._statistics()
        return {name: _times(getattr(stats, name)) for name in ("request", "queue", "infer")}

    def pending(self) -> int:
        """Requests in the channels that no worker has claimed."""
        with self._lock:  # no channel is unmapped meanwhile
            pointers = [seat.mapping.pointer for seat in self._seats.values()]
            return sum(int(lib.mlos_channel_pending(pointer)) for pointer in pointers)

    def _statistics(self) -> Any:
        into = ffi.new("mlos_port_stats *")
        lib.mlos_port_statistics(self._pointer, into)
        return into

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
                if self._claiming:
                    self._claiming = False
                    lib.mlos_port_leave(self._pointer)
                    self._left()
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
                _pong(self._pointer, index, slot, _PONG, len(_PONG))
                return None
            if head.kind not in (wire.INFER, wire.STREAM):
                raise InvalidInput(f"request kind {head.kind} is unknown")
            request = Request(self, self._seats[index], slot, head)
            if all(ref.dtype != BYTES for ref in head.inputs):  # those are copies, made anew
                self._requests[key] = request
        except MlosError as err:
            self._fail(index, slot, err)
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
        self._fail(index, slot, error)

    def _fail(self, index: int, slot: int, error: MlosError) -> None:
        reply = wire.encode_error(error, ERROR_BYTES)
        _refuse(self._pointer, index, slot, reply, len(reply))

    def close(self) -> None:
        """Let everything go. The port cannot be used afterwards."""
        with self._lock:
            for index in list(self._seats):
                lib.mlos_port_remove(self._pointer, index, lib.MLOS_REMOVE_NOW)
                self._seats.pop(index).close()
            self._requests.clear()
        ffi.release(self._pointer)  # now, while the doorbell is certainly mapped
        os.close(self.bell_fd)


def _times(counted: Any) -> Times:
    counts = ffi.unpack(counted.counts, BUCKETS)
    return Times({bucket: n for bucket, n in enumerate(counts) if n}, int(counted.max_ns))
