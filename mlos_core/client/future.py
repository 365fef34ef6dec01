# SPDX-License-Identifier: BUSL-1.1
"""Answers to come."""

from __future__ import annotations

import time

from mlos_core.client.call import Call
from mlos_core.client.result import Result
from mlos_core.errors import Closed, DeadlineExceeded
from mlos_core.ipc.native import AGAIN, TICK, TIMEOUT, lib, nanoseconds


class Future:
    """An answer to come. `result` may be called once; dropping a future cancels it."""

    def __init__(self, call: Call, timeout: float) -> None:
        self._call: Call | None = call
        self._end = time.monotonic() + timeout

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
