# SPDX-License-Identifier: BUSL-1.1
"""Streams of events."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final, Self

import msgspec

from mlos_core.client.call import Call
from mlos_core.client.result import Result
from mlos_core.client.settings import EVENT_ROOM
from mlos_core.errors import Cancelled, InvalidInput
from mlos_core.ipc.native import AGAIN, TICK, TIMEOUT, ffi, lib, nanoseconds

_decode_event: Final = msgspec.msgpack.Decoder().decode


class Stream:
    """Events of a request, in order, each once. `result` is the final answer, after the last."""

    def __init__(self, call: Call, timeout: float) -> None:
        self._call: Call | None = call
        self._end = time.monotonic() + timeout
        self._room = ffi.new("char[]", EVENT_ROOM)
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
                rc = lib.mlos_next_event(pointer, slot, self._room, EVENT_ROOM, nanoseconds(left))
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
