# SPDX-License-Identifier: BUSL-1.1
"""Who keeps memory of a channel: arrays of the client's, and views of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlos_core.client.link import Link
from mlos_core.ipc import header as wire
from mlos_core.types import DTYPES

if TYPE_CHECKING:
    from mlos_core.client.call import Call


class Memory:
    """A piece of the request arena, given back when the last array on it dies."""

    __slots__ = ("__array_interface__", "__weakref__", "link", "offset")

    def __init__(self, link: Link, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.link = link
        self.offset = link.allocate(size)
        self.__array_interface__ = {
            "version": 3,
            "typestr": dtype.str,
            "shape": shape,
            "data": (link.address + self.offset, False),
        }

    def __del__(self) -> None:
        if hasattr(self, "offset"):
            self.link.free(self.offset)


class Lease:
    """An answer whose views are alive. When the last of them dies the call may rest."""

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Call | None = None

    def start(self, call: Call) -> None:
        """Begin the lease."""
        self.call = call

    def release(self) -> None:
        """End the lease."""
        call, self.call = self.call, None
        if call is not None:
            call.link.let_go()
            call.rest()

    __del__ = release


class Owner:
    """Keeps a call whose answers are views until the next run, even if only a view lives."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call

    def release(self) -> None:
        """Give the call back."""
        call, self.call = self.call, None
        if call is not None:
            call.give_back()

    __del__ = release


class Window:
    """Where one leased tensor lies; the base of its array."""

    __slots__ = ("__array_interface__", "lease", "mapping")

    def __init__(self, lease: Lease | Owner, ref: wire.TensorRef, link: Link) -> None:
        self.lease = lease
        self.mapping = link.mapping
        self.__array_interface__ = {
            "version": 3,
            "typestr": DTYPES[ref.dtype].str,
            "shape": ref.shape,
            "data": (link.address + ref.offset, True),
        }
