# SPDX-License-Identifier: BUSL-1.1
"""The tensor models: one class per mode, each a few lines around `infer`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from mlos_core.errors import InvalidInput
from mlos_core.smi import Allocate, TensorModel
from mlos_core.types import BYTES, Array, Signature, TensorSpec
from mlos_plugin_echo.description import Description


class EchoModel(TensorModel):
    """Each output is the input of that name."""

    def __init__(self, description: Description) -> None:
        inputs = description.inputs
        self.signature = Signature(inputs, inputs, batched=description.batched)

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """The inputs, copied to where the client reads."""
        return {name: _copy(name, array, allocate) for name, array in batch.items()}


def _copy(name: str, array: Array, allocate: Allocate) -> Array:
    if array.dtype.kind in "OSU":
        # Strings are laid out by the runtime; there is nothing to write in place.
        return array
    out = allocate(name, array.dtype.name, array.shape)
    out[...] = array
    return out


class NumberModel(TensorModel):
    """The first element of the first input: the cheapest answer that depends on it."""

    def __init__(self, description: Description) -> None:
        self._first = _numeric(description).name
        number = TensorSpec("number", "float64", (1,))
        self.signature = Signature(description.inputs, (number,))

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """`number`: float64[1], 0 for an empty tensor."""
        array = batch[self._first]
        out = allocate("number", "float64", (1,))
        try:
            out[0] = array.item(0)
        except IndexError:  # asking first would cost every call
            out[0] = 0.0
        return {"number": out}


class SumModel(TensorModel):
    """The sum of the first input, in float64."""

    def __init__(self, description: Description) -> None:
        self._first = _numeric(description).name
        self._batched = description.batched
        total = TensorSpec("sum", "float64", (-1 if description.batched else 1,))
        self.signature = Signature(description.inputs, (total,), batched=description.batched)

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """`sum`: float64[rows] where batched, float64[1] otherwise."""
        array = batch[self._first]
        rows = array.shape[0] if self._batched else 1
        out = allocate("sum", "float64", (rows,))
        if rows:  # of none, NumPy does not know how long they are
            np.sum(array.reshape(rows, -1), axis=1, dtype=np.float64, out=out)
        return {"sum": out}


class TrapModel(EchoModel):
    """Echoes, unless the first element of the first input springs the trap."""

    def __init__(self, description: Description) -> None:
        super().__init__(description)
        self._first = _numeric(description).name

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """As `EchoModel.infer`, after `spring` where the element is not zero."""
        array = batch[self._first]
        value = float(array.item(0)) if array.size else 0.0
        if value:
            self.spring(value)
        return super().infer(batch, allocate)

    def spring(self, value: float) -> None:
        """Misbehave."""
        raise NotImplementedError


class CrashModel(TrapModel):
    """Ends its process as the kernel's out-of-memory killer would."""

    def spring(self, value: float) -> None:
        """Die."""
        os.kill(os.getpid(), signal.SIGKILL)


class RaiseModel(TrapModel):
    """Raises what a plugin's bug would raise."""

    def spring(self, value: float) -> None:
        """Raise."""
        raise ValueError(f"the first element is {value:g}, not 0")


class SleepModel(TrapModel):
    """Takes its time."""

    def spring(self, value: float) -> None:
        """Sleep `value` seconds."""
        if value < 0:
            raise InvalidInput("cannot sleep a negative time", hint="the first element is seconds")
        time.sleep(value)


def _numeric(description: Description) -> TensorSpec:
    first = description.inputs[0]
    if first.dtype == BYTES:
        raise InvalidInput(
            f"mode {description.mode!r} reads numbers, but {first.name!r} is bytes",
            hint="use mode echo, or a numeric dtype",
        )
    return first


KINDS: Final[dict[str, type[EchoModel | NumberModel | SumModel]]] = {
    "echo": EchoModel,
    "number": NumberModel,
    "sum": SumModel,
    "crash": CrashModel,
    "raise": RaiseModel,
    "sleep": SleepModel,
}
