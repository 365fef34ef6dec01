# SPDX-License-Identifier: BUSL-1.1
"""A call: one slot, the places of its input tensors, and its header.

A call is built once for a form (names, dtypes, shapes, parameters) and used again for every
request of that form: then only the data are written, and the reply is decoded only when
its header differs from the last one.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from mlos_core.client.inputs import Form, offset_in
from mlos_core.client.link import Link
from mlos_core.client.memory import Lease, Owner, Window
from mlos_core.client.result import Result
from mlos_core.errors import ChannelBroken, Closed, InvalidInput, MlosError
from mlos_core.ipc import header as wire
from mlos_core.ipc.channel import HEADER_BYTES, MAX_HEADER, SMALL_BYTES
from mlos_core.ipc.native import (
    AGAIN,
    BUSY,
    CLOSED,
    FORKED,
    SAME,
    TICK,
    TIMEOUT,
    failure,
    ffi,
    lib,
    nanoseconds,
)
from mlos_core.types import (
    BYTES,
    DTYPES,
    Array,
    dtype_name,
    encode_bytes,
)

_run: Final = lib.mlos_run


class Place(NamedTuple):
    """Where an input goes: `target` to copy into, or `None` for one that lies there already."""

    name: str
    target: Array | None
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()
    source: weakref.ref[Array] | None = None  # the array that lies there


class Call:
    """One slot with its inputs' places and its header; see the module.

    Args:
        link: the channel.
        form: the key under which calls of this form rest.
        inputs: arrays, by name. Their data are not copied here.
        kind: `header.INFER`, `header.STREAM` or `header.PING`.
        outputs: wanted outputs; empty means all.
        parameters: sent along.
    """

    def __init__(
        self,
        link: Link,
        form: Form,
        inputs: Mapping[str, Array],
        kind: int = wire.INFER,
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.link = link
        self.form = form
        self.reusable = True
        self._memory: list[int] = []
        self.hold: object = None
        self._known = ffi.NULL  # kept alive here for the C side
        self._refs: tuple[wire.TensorRef, ...] = ()
        self._small = False
        self._small_bytes = 0
        self._views: tuple[tuple[str, Array], ...] = ()
        self.slot = link.slot()
        self.family = link.family(form)
        try:
            self._small_left = SMALL_BYTES
            refs, places = [], []
            for name, array in inputs.items():
                ref, place = self._place(name, array)
                refs.append(ref)
                places.append(place)
            self.places = tuple(places)
            self.bytes_in = sum(p.target.nbytes for p in places if p.target is not None)
            head = wire.RequestHeader(kind, tuple(refs), tuple(outputs), dict(parameters or {}))
            self._write_header(head)
        except BaseException:
            self.free()
            raise

    def _place(self, name: str, array: Array) -> tuple[wire.TensorRef, Place]:
        dtype = dtype_name(array)
        if dtype == BYTES:
            raw = encode_bytes(array)
            offset = self._room(len(raw))
            self.link.mapping.segment[offset : offset + len(raw)] = raw
            self.link.copied_bytes += len(raw)
            self.reusable = False
            return wire.TensorRef(name, dtype, array.shape, offset, len(raw)), Place(name, None)
        offset = offset_in(self.link, array)
        target = None
        if offset < 0:
            offset = self._room(array.nbytes)
            part = self.link.mapping.segment[offset : offset + array.nbytes]
            target = np.ndarray(array.shape, DTYPES[dtype], part)
        ref = wire.TensorRef(name, dtype, array.shape, offset, array.nbytes)
        source = weakref.ref(array) if target is None else None
        return ref, Place(name, target, array.dtype, array.shape, source)

    def _room(self, size: int) -> int:
        rounded = max(64, (size + 63) & ~63)
        if rounded <= self._small_left:
            offset = lib.mlos_slot_small_off(self.link.pointer, self.slot)
            offset += SMALL_BYTES - self._small_left
            self._small_left -= rounded
            return int(offset)
        offset = self.link.allocate(size)
        self._memory.append(offset)
        return int(offset)

    def _write_header(self, head: wire.RequestHeader) -> None:
        try:
            raw = wire.encode(head)
        except (TypeError, ValueError, OverflowError) as err:
            raise InvalidInput(f"a parameter cannot be sent: {err}") from err
        if len(raw) > MAX_HEADER:
            raise InvalidInput(
                f"names and parameters of {len(raw)} bytes, the limit is {MAX_HEADER}",
                hint="send large values as tensors",
            )
        if len(raw) <= HEADER_BYTES:
            self.header_off = lib.mlos_slot_request_off(self.link.pointer, self.slot)
        else:
            self.header_off = self.link.allocate(len(raw))
            self._memory.append(self.header_off)
        self.header_len = len(raw)
        self.request = ffi.new(
            "mlos_request *",
            {
                "channel": self.link.pointer,
                "slot": self.slot,
                "header_off": self.header_off,
                "header_len": len(raw),
                "timeout_ns": -1,
            },
        )
        self._timeout_ns = -1
        self.link.mapping.segment[self.header_off : self.header_off + len(raw)] = raw

    # --- data --------------------------------------------------------------------------------

    def write(self, inputs: Mapping[str, Array]) -> None:
        """Copy the data of `inputs`, which have this call's form, into place."""
        for name, target, *_ in self.places:
            if target is not None:
                target[...] = inputs[name]
        self.link.copied_bytes += self.bytes_in

    # --- sending and waiting -----------------------------------------------------------------

    def run(self, timeout: float, timeout_ns: int) -> int:
        """Submit and wait: the length of the reply, with `SAME` when it is as the last one."""
        if self._timeout_ns != timeout_ns:  # cheaper to ask here than across the boundary
            self.request.timeout_ns = self._timeout_ns = timeout_ns
        rc: int = _run(self.request)
        return rc if rc > 0 else self.settle(rc, timeout)

    def settle(self, rc: int, timeout: float | None, *, keep: bool = False) -> int:
        """Wait on after a first look. When that fails the request is cancelled, and the call
        given up unless its owner wants to `keep` it."""
        link = self.link
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while rc == TICK:
                link.look_around()
                left = None if end is None else max(0.0, end - time.monotonic())
                rc = lib.mlos_wait(link.pointer, self.slot, nanoseconds(left))
        except BaseException:  # a signal handler raised
            self._give_up(keep=keep)
            raise
        if rc >= 0:
            return rc
        if rc != BUSY:
            self._give_up(keep=keep)
        raise self.problem(rc)

    def _give_up(self, *, keep: bool) -> None:
        if keep:
            lib.mlos_cancel(self.link.pointer, self.slot)
        else:
            self.link.abandon(self)

    def problem(self, rc: int) -> MlosError:
        """The exception for a failed wait."""
        if rc == CLOSED:
            return self.link.shut()
        if rc == FORKED and not self.link.inherited:
            return self.link.why_closed or Closed("the client was closed")
        error = failure(rc)
        if rc == TIMEOUT:
            error.hint = (
                "the request was cancelled; allow more time, and see with `mlosctl models` whether "
                "the model is being loaded, with `mlosctl top` how many wait for it"
            )
        return error

    def submit(self, timeout: float | None) -> None:
        """Submit without waiting."""
        link = self.link
        rc = lib.mlos_submit(
            link.pointer,
            link.bell,
            self.slot,
            self.header_off,
            self.header_len,
            nanoseconds(timeout),
        )
        if rc < 0:
            known = self.problem(rc)
            self.free()
            error = type(known)(known.message, hint=known.hint)  # others may get the known one
            error.accepted = False
            raise error

    def poll(self) -> int:
        """The reply's length, or `AGAIN`; raises when the channel was closed."""
        rc: int = lib.mlos_poll(self.link.pointer, self.slot)
        if rc < 0 and rc != AGAIN:
            self.link.abandon(self)
            raise self.problem(rc)
        return rc

    # --- the answer --------------------------------------------------------------------------

    def decode(self) -> wire.ReplyHeader:
        """The reply header. An error in it is raised by the caller."""
        length = ffi.new("uint32_t *")
        where = lib.mlos_reply(self.link.pointer, self.slot, length)
        if where == ffi.NULL:
            raise ChannelBroken("the reply header lies outside the segment")
        raw = ffi.buffer(where, length[0])[:]
        head = wire.decode_reply(raw)
        if not head.code and not head.parameters:
            self._keep(raw, head)
        return head

    def _keep(self, raw: bytes, head: wire.ReplyHeader) -> None:
        """Remember this reply; the next one of the same bytes needs no decoding."""
        segment = self.link.mapping.segment
        for ref in head.outputs:
            wire.view(segment, ref)  # judges the descriptor
        self._known = ffi.new("char[]", raw)
        self.request.known = self._known
        self.request.known_len = len(raw)
        self._refs = head.outputs
        small = all(r.dtype != BYTES and r.nbytes <= SMALL_BYTES for r in head.outputs)
        self._small = small
        self._small_bytes = sum(ref.nbytes for ref in head.outputs)
        self._views = tuple((r.name, wire.view(segment, r)) for r in head.outputs) if small else ()

    def result(self, rc: int) -> Result:
        """The answer as the caller gets it; the call rests now or when its views die."""
        if not (rc & SAME and self._small):
            return self._fresh(rc)
        result = Result()
        for name, view in self._views:
            result[name] = view.copy()
        link = self.link
        link.copied_bytes += self._small_bytes
        self.hold = None
        self.family.append(self)  # `rest`, without the call
        if link.waiting:
            link.announce()
        return result

    def _fresh(self, rc: int) -> Result:
        parameters: dict[str, Any] = {}
        refs = self._refs
        try:
            if not rc & SAME:
                head = self.decode()
                raise_error(head)
                refs, parameters = head.outputs, head.parameters
            if self._worth_holding(refs) and self.link.hold():
                return self._leased(refs, parameters)
            return self._copied(refs, parameters)
        except BaseException:
            self.rest()
            raise

    @staticmethod
    def _worth_holding(refs: tuple[wire.TensorRef, ...]) -> bool:
        return any(ref.nbytes > SMALL_BYTES and ref.dtype != BYTES for ref in refs)

    def _copied(self, refs: tuple[wire.TensorRef, ...], parameters: dict[str, Any]) -> Result:
        segment = self.link.mapping.segment
        outputs = {ref.name: wire.view(segment, ref).copy() for ref in refs}
        self.link.copied_bytes += sum(ref.nbytes for ref in refs)
        self.rest()
        return Result.of(outputs, parameters)

    def _leased(self, refs: tuple[wire.TensorRef, ...], parameters: dict[str, Any]) -> Result:
        lease = Lease()
        try:
            outputs = self._windows(refs, lease)
        except BaseException:
            self.link.let_go()
            raise
        lease.start(self)  # from here on the call rests when the lease ends, not before
        return Result.of(outputs, parameters, lease.release)

    def views(self, rc: int, owner: Owner) -> Result:
        """The answer as views that hold until the next run; for prepared calls."""
        refs, parameters = self._refs, {}
        if not rc & SAME:
            head = self.decode()
            raise_error(head)
            refs, parameters = head.outputs, head.parameters
        outputs = self._windows(refs, owner)
        return Result.of(outputs, parameters)

    def _windows(self, refs: tuple[wire.TensorRef, ...], owner: Lease | Owner) -> dict[str, Array]:
        """Views that keep `owner`; byte strings are taken out."""
        outputs: dict[str, Array] = {}
        for ref in refs:
            array = wire.view(self.link.mapping.segment, ref)  # judges the descriptor
            outputs[ref.name] = (
                array if ref.dtype == BYTES else np.asarray(Window(owner, ref, self.link))
            )
        return outputs

    # --- the end -----------------------------------------------------------------------------

    def rest(self) -> None:
        """Done with: keep it for the next request of this form, or free it."""
        self.hold = None
        if self.reusable:
            self.family.append(self)
            if self.link.waiting:
                self.link.announce()
        else:
            self.free()

    def give_back(self) -> None:
        """Free it, now or once it is answered."""
        if lib.mlos_poll(self.link.pointer, self.slot) == AGAIN:
            self.link.abandon(self)
        else:
            self.free()

    def free(self) -> None:
        """Give slot and memory back. Only once it is answered, or was never submitted."""
        link = self.link
        if link.closed:
            return
        link.leave(self.family)
        lib.mlos_slot_release(link.pointer, self.slot)
        for offset in self._memory:
            link.free(offset)
        self._memory = []
        if link.waiting:
            link.announce()


def raise_error(head: wire.ReplyHeader) -> None:
    """Raise the error a reply carries, if any."""
    error = wire.error_of(head)
    if error is not None:
        raise error
