# SPDX-License-Identifier: BUSL-1.1
"""Arrays of a request as the values that torch wants.

A client in a closed loop brings the same arrays again and again, so the tensor on an array's
memory is kept, together with a weak reference to the array: it is used only while that very
array is presented, and keeps no client's memory mapped.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from mlos_core.errors import InvalidInput
from mlos_core.types import Array
from mlos_plugin_pytorch.program import Argument

MAX_VIEWS: Final = 256

Feed = Callable[[Array], Any]


class _Memory:
    """An array's memory, as NumPy's array interface describes it, without its read-only flag."""

    __slots__ = ("__array_interface__",)

    def __init__(self, array: Array) -> None:
        given = array.__array_interface__
        self.__array_interface__ = {**given, "data": (given["data"][0], False)}


class Views:
    """Tensors that lie where the arrays lie.

    The arrays are read-only, which torch has no word for: it warns and makes a tensor that can
    be written to. Whoever uses one must not write to it, nor keep it after the call.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Array], Any]] = {}

    def __call__(self, array: Array) -> Any:
        """A tensor of the same memory, dtype and shape."""
        known = self._known.get(id(array))
        if known is not None and known[0]() is array:
            return known[1]
        if not array.flags.c_contiguous:
            return owned(array)
        tensor = torch.from_numpy(np.asarray(_Memory(array)))
        if len(self._known) >= MAX_VIEWS:
            self._known.clear()
        self._known[id(array)] = weakref.ref(array), tensor
        return tensor


def owned(array: Array) -> Any:
    """A tensor with a copy of the array."""
    return torch.from_numpy(np.array(array, order="C"))


def feed_of(argument: Argument, device: Any, *, copied: bool) -> Feed:
    """What turns a request's array into the value of `argument`.

    Args:
        argument: which says whether it is a tensor, a number or a text.
        device: where tensors shall be.
        copied: whether the model must not see the client's memory.
    """
    if argument.kind == "str":
        return lambda array: _text(argument.name, array)
    if argument.kind != "tensor":
        return lambda array: array.item()
    if device.type != "cpu":
        views = Views()
        return lambda array: views(array).to(device)
    return owned if copied else Views()


def _text(name: str, array: Array) -> str:
    item = array.item()
    try:
        return item.decode() if isinstance(item, bytes) else str(item)
    except UnicodeDecodeError as err:
        raise InvalidInput(f"input {name!r} holds a text that is no UTF-8") from err
