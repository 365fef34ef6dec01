# SPDX-License-Identifier: BUSL-1.1
"""Prepared calls."""

from __future__ import annotations

from typing import Final

from mlos_core.client.call import Call
from mlos_core.client.memory import Owner
from mlos_core.client.result import Result
from mlos_core.errors import Closed
from mlos_core.ipc.native import AGAIN, BUSY, SAME, TICK, failure, lib, nanoseconds
from mlos_core.types import Array

_NO_SLOT: Final = 1 << 31
_run: Final = lib.mlos_run


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
