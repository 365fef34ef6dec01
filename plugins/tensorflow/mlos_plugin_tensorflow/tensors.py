# SPDX-License-Identifier: BUSL-1.1
"""NumPy arrays as TensorFlow's tensors and back, with as few copies as is safe."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mlos_core.smi import Allocate
from mlos_core.types import BYTES, Array
from mlos_plugin_tensorflow.framework import tf

ALIGNMENT: Final = 64
"""Bytes. TensorFlow's kernels end the process at a tensor that lies less even."""

_from_dlpack = tf.experimental.dlpack.from_dlpack


class _Unlocked:
    """An array's memory without its read-only flag, which TensorFlow's DLPack cannot express.

    TensorFlow writes into an argument's buffer only if it holds the last reference to it,
    and the caller of a function holds one.
    """

    __slots__ = ("__array_interface__", "_array")

    def __init__(self, array: Array, interface: dict[str, Any]) -> None:
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self._array = array


def borrow(array: Array, dtype: Any) -> Any:
    """A tensor on the array's own memory where that is possible, or on a copy."""
    interface = array.__array_interface__
    evenly = not interface["data"][0] % ALIGNMENT and interface["strides"] is None
    if not evenly or not array.size or array.dtype.hasobject:
        return tf.convert_to_tensor(array, dtype)
    return _from_dlpack(np.asarray(_Unlocked(array, interface)).__dlpack__())


def copy(array: Array, dtype: Any) -> Any:
    """A tensor with memory of its own."""
    return tf.convert_to_tensor(array, dtype)


def place(name: str, dtype: str, tensor: Any, allocate: Allocate) -> Array:
    """The tensor's values where the client reads them: one copy."""
    if dtype == BYTES:
        return np.asarray(tensor.numpy(), dtype=object)
    values = np.asarray(tensor)  # a view, if the tensor is in this machine's memory
    array = allocate(name, dtype, values.shape)
    np.copyto(array, values)
    return array
