# SPDX-License-Identifier: BUSL-1.1
"""Merging requests into one call along dimension 0.

Only requests of equal shape but for dimension 0 are merged, so nothing is ever padded. Inputs
are copied once, into arrays that serve again: a plugin that binds memory finds the same array
for the same number of rows. Such memory is the calls' own; nobody outside sees it.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from mlos_core.errors import ModelFailed
from mlos_core.types import DTYPES, Array
from mlos_core.worker.port import Request

RESERVED: Final = frozenset({"priority", "timeout"})
"""Parameters for the queue, which are no part of what is asked of the model."""

_MAX_KEPT: Final = 64
_MAX_BYTES: Final = 256 << 20
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def rows_of(inputs: Mapping[str, Array]) -> int:
    """The common size of dimension 0; 0 when the inputs have none in common."""
    sizes = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    return sizes.pop() if len(sizes) == 1 else 0


def key_of(request: Request) -> Hashable:
    """Equal for requests that may be merged: shapes, dtypes, parameters, wanted outputs."""
    shapes = frozenset((n, a.dtype.str, a.shape[1:]) for n, a in request.inputs.items())
    asked = {name: v for name, v in request.parameters.items() if name not in RESERVED}
    return shapes, _encode(asked) if asked else b"", request.outputs


class _Rows:
    """One array of the largest size, and its beginnings: each writable and read-only."""

    __slots__ = ("parts", "whole")

    def __init__(self, whole: Array) -> None:
        self.whole = whole
        self.parts: dict[int, tuple[Array, Array]] = {}

    def part(self, rows: int) -> tuple[Array, Array]:
        found = self.parts.get(rows)
        if found is None:
            found = self.parts[rows] = _with_view(self.whole[:rows])
        return found


def _with_view(array: Array) -> tuple[Array, Array]:
    view = array.view()
    view.flags.writeable = False
    return array, view


class RowStore:
    """Arrays that are used again, the same object for the same number of rows.

    What is longest unused goes first when they become too many or too large.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: collections.OrderedDict[Hashable, _Rows] = collections.OrderedDict()

    def rows(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[Array, Array]:
        """An array, and a read-only view of it. It shares memory with all others of that name,
        dtype and shape of a row, and holds what their last user left there."""
        key = (name, dtype, shape[1:])
        found = self._kept.get(key)
        if found is None or len(found.whole) < shape[0]:
            room = 1 << (shape[0] - 1).bit_length() if shape[0] else 1
            if math.prod(shape[1:]) * dtype.itemsize * room > self._max_bytes:
                return _with_view(np.empty(shape, dtype))
            found = self._keep(key, np.empty((room, *shape[1:]), dtype))
        self._kept.move_to_end(key)
        return found.part(shape[0])

    def _keep(self, key: Hashable, whole: Array) -> _Rows:
        smaller = self._kept.pop(key, None)
        self._bytes += whole.nbytes - (smaller.whole.nbytes if smaller else 0)
        while self._kept and (len(self._kept) >= _MAX_KEPT or self._bytes > self._max_bytes):
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.whole.nbytes
        made = self._kept[key] = _Rows(whole)
        return made

    def clear(self) -> None:
        """Give the memory back."""
        self._kept.clear()
        self._bytes = 0


class Joiner:
    """The inputs of merged calls."""

    def __init__(self) -> None:
        self._store = RowStore()

    def join(self, requests: Sequence[Request]) -> dict[str, Array]:
        """The inputs of all requests, one behind the other; read-only, and valid until the
        next call."""
        return {name: self._joined(name, requests) for name in requests[0].inputs}

    def _joined(self, name: str, requests: Sequence[Request]) -> Array:
        parts = [request.inputs[name] for request in requests]
        first = parts[0]
        if first.dtype.hasobject:
            return np.concatenate(parts)
        total = sum([part.shape[0] for part in parts])
        room, view = self._store.rows(name, first.dtype, (total, *first.shape[1:]))
        np.concatenate(parts, out=room)
        return view

    def clear(self) -> None:
        """Give the memory back."""
        self._store.clear()


class Scratch:
    """Room for the outputs of merged calls, which lie in nobody's arena.

    The next call gets the same arrays again: by then their rows are with those who asked.
    """

    def __init__(self) -> None:
        self._store = RowStore()
        self._given: set[str] = set()

    def begin(self) -> None:
        """The answers of the last call are out."""
        self._given.clear()

    def allocate(self, name: str, dtype: str, shape: tuple[int, ...]) -> Array:
        """As `smi.Allocate`."""
        kind = DTYPES.get(dtype)
        if kind is None or not shape or name in self._given:
            # A second array for the same output must not lie in the first.
            return np.empty(shape, object if kind is None else kind)
        self._given.add(name)
        return self._store.rows(name, kind, shape)[0]

    def clear(self) -> None:
        """Give the memory back."""
        self._store.clear()


def check_rows(outputs: Mapping[str, Array], rows: int) -> None:
    """Raise `ModelFailed` unless each output has one row for each row of input."""
    for name, array in outputs.items():
        if not array.ndim or array.shape[0] != rows:
            raise ModelFailed(
                f"output {name!r} has shape {list(array.shape)} for a batch of {rows} rows",
                hint="the model does not batch along dimension 0; set max_batch_size to 1",
            )
