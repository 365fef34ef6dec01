# SPDX-License-Identifier: BUSL-1.1
"""Bound calls: an onnxruntime IOBinding per set of buffers, made once and used again.

A closed loop of one client brings the same input arrays again and again, and its replies
lie in one of a few places. A plan remembers the inputs, and its bindings the outputs, by
identity (weakly: no view of a client's memory is kept alive). A binding is run only when
the caller has just presented exactly the memory it names.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from mlos_core.smi import Allocate
from mlos_core.types import DTYPES, Array

MAX_BINDINGS: Final = 16
SMALL_BYTES: Final = 16384
"""Outputs up to this size are copied faster than bound, the first time."""

Output = tuple[str, str, tuple[int, ...]]


class Plan:
    """What is needed to run on one set of input arrays.

    Args:
        make_binding: gives an empty IOBinding of the session.
        batch: the inputs, C-contiguous.
        outputs: name, dtype and shape of each output.
    """

    __slots__ = ("_bindings", "_inputs", "_make_binding", "_outputs", "small")

    def __init__(
        self, make_binding: Callable[[], Any], batch: Mapping[str, Array], outputs: list[Output]
    ) -> None:
        self._make_binding = make_binding
        self._inputs = tuple((name, weakref.ref(array)) for name, array in batch.items())
        self._outputs = outputs
        self._bindings: dict[int, tuple[Any, tuple[weakref.ref[Array], ...]]] = {}
        self.small = sum(_size(dtype, shape) for _, dtype, shape in outputs) <= SMALL_BYTES

    def fits(self, batch: Mapping[str, Array]) -> bool:
        """True if `batch` holds the very arrays that the plan was made for."""
        if len(batch) != len(self._inputs):
            return False
        for name, array in self._inputs:  # noqa: SIM110 (a generator costs as much as the rest)
            if array() is not batch.get(name):
                return False
        return True

    def prepare(
        self, batch: Mapping[str, Array], allocate: Allocate
    ) -> tuple[Any, dict[str, Array]]:
        """Allocate the outputs; a binding of all buffers, and the output arrays."""
        arrays = {name: allocate(name, dtype, shape) for name, dtype, shape in self._outputs}
        key = id(next(iter(arrays.values())))
        binding, places = self._bindings.get(key, (None, ()))
        for place, array in zip(places, arrays.values(), strict=False):
            if place() is not array:
                binding = None
        if binding is None:
            binding = self._bind(batch, arrays)
            if len(self._bindings) >= MAX_BINDINGS:
                self._bindings.clear()
            self._bindings[key] = binding, tuple(map(weakref.ref, arrays.values()))
        return binding, arrays

    def _bind(self, batch: Mapping[str, Array], outputs: Mapping[str, Array]) -> Any:
        binding = self._make_binding()
        for name, array in batch.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return binding


def _size(dtype: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * DTYPES[dtype].itemsize
