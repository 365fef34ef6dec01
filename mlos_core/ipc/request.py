# SPDX-License-Identifier: BUSL-1.1
"""A claimed request, and the channel it came through.

One `Request` exists per slot and header; it serves again when the same header comes back,
with its input arrays, and with its reply header as long as the outputs fall on the same
places.
"""

from __future__ import annotations

import collections
import hashlib
import math
import os
import struct
import time
from collections.abc import Mapping as MappingABC
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from mlos_core.errors import (
    InvalidInput,
    MlosError,
    ModelFailed,
    Overloaded,
    PayloadTooLarge,
)
from mlos_core.ipc import header as wire
from mlos_core.ipc.channel import SMALL_BYTES, Mapping
from mlos_core.ipc.native import AGAIN, TOO_BIG, check, ffi, lib
from mlos_core.types import BYTES, DTYPES, Array, dtype_name, encode_bytes

if TYPE_CHECKING:
    from mlos_core.ipc.worker import WorkerPort

ERROR_BYTES: Final = 960
"""Room for an error reply."""

# Bound once: looking a function up in the library costs as much as calling it.
_answer: Final = lib.mlos_answer
_refuse: Final = lib.mlos_refuse
_again: Final = lib.mlos_again
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

    def __init__(self, index: int, mapping: Mapping, fd: int, event_fd: int, owner: str) -> None:
        self.index = index
        self.mapping = mapping
        self.fd = fd
        self.event_fd = event_fd
        self.owner = owner
        self.inode = os.fstat(fd).st_ino
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
        "_reply",
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
        self._reply = b""  # for those
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
    def owner(self) -> str:
        """Who asks, as `WorkerPort.attach` was told."""
        return self._seat.owner

    @property
    def key(self) -> int:
        """64 bits that are the same for every worker that tries this request, and another's
        for any other request."""
        generation, submitted = self._task.word >> 32, self._task.submitted_ns
        parts = struct.pack("<QIIQ", self._seat.inode, self._slot, generation, submitted)
        return int.from_bytes(hashlib.blake2b(parts, digest_size=8).digest(), "little")

    def journal(self) -> tuple[bytes, ...]:
        """The notes that earlier workers kept with the events they sent: of event 0, 1, 2 and
        so on, as far as every event has one; at most `events_sent`."""
        room = lib.mlos_journal_bytes(self._shared, self._index)
        into = ffi.new("char[]", room)
        used = check(lib.mlos_journal(self._shared, self._index, self._slot, into, room))
        return tuple(notes_in(bytes(ffi.buffer(into, used))))[: self.events_sent]

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
            known = not parameters and self._knows(outputs)
            reply = self._reply if known else self._make_reply(outputs, parameters or {})
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

    def _knows(self, outputs: MappingABC[str, Array]) -> bool:
        """Whether they are the arrays of the last answer; `again` asks the same by itself."""
        known = self._known
        if not known or len(outputs) != len(known):
            return False
        return all([outputs.get(name) is array for name, array in known])  # noqa: C419 (half the time)

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
            self._reply = reply
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
        reply = wire.encode_error(error, ERROR_BYTES)
        _refuse(self._shared, self._index, self._slot, reply, len(reply))

    def emit(self, data: object, note: bytes | None = None) -> bool:
        """Append one event to the stream; false when the reader is behind and the ring full.

        Args:
            data: what the client gets, msgpack-encodable.
            note: what a successor gets (see `journal`), at most 255 bytes.

        Raises:
            PayloadTooLarge: the event is larger than half the ring.
        """
        raw = _encode_event(data)
        kept = ffi.NULL if note is None else note  # an empty one is a note, too
        status = lib.mlos_emit_noted(
            self._shared, self._index, self._slot, raw, len(raw), kept, len(note or b"")
        )
        if status == lib.MLOS_E_LOST:
            return True  # nobody reads any more; `cancelled` says so
        if status == TOO_BIG:
            raise PayloadTooLarge(f"a stream event of {len(raw)} bytes is too large")
        return bool(check(status))


def notes_in(raw: bytes) -> list[bytes]:
    """The notes in a journal up to the first event that has none."""
    notes: list[bytes] = []
    at = 0
    while at + 2 <= len(raw):
        event, size = raw[at], raw[at + 1]
        note = raw[at + 2 : at + 2 + size]
        at += 2 + size
        if len(note) < size:
            break
        if event == len(notes) & 255:
            notes.append(note)
        elif notes and event == len(notes) - 1 & 255:
            notes[-1] = note  # noted, not emitted, and noted again by the next worker
        else:
            break
    return notes


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
