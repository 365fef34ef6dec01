# SPDX-License-Identifier: BUSL-1.1
"""A loaded `.tflite` model.

Inputs are copied once, into the interpreter's memory, and outputs once, from there to where
the client reads them. The interpreter is told of sizes only when they change; it keeps the
memory of the largest, so that only growing costs time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlos_core.errors import InvalidInput, MlosError, ModelFailed
from mlos_core.smi import Allocate, TensorModel
from mlos_core.types import BYTES, Array, Signature


class LiteRtModel(TensorModel):
    """One interpreter.

    Args:
        interpreter: a LiteRT Interpreter with its tensors allocated.
        signature: what it takes and gives.
        inputs: the interpreter's numbers of the signature's inputs.
        outputs: and of its outputs.
        keep_state: whether variables of a recurrent model live on from call to call.
    """

    def __init__(
        self,
        interpreter: Any,
        signature: Signature,
        inputs: Sequence[int],
        outputs: Sequence[int],
        keep_state: bool,
    ) -> None:
        self.signature = signature
        self._interpreter = interpreter
        self._keep_state = keep_state
        self._inputs = [
            (spec.name, number) for spec, number in zip(signature.inputs, inputs, strict=True)
        ]
        self._outputs = [
            (spec.name, spec.dtype, number, interpreter.tensor(number))
            for spec, number in zip(signature.outputs, outputs, strict=True)
        ]
        self._shapes: list[tuple[int, ...]] = []

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """All outputs, as LiteRT computes them in process.

        Raises:
            InvalidInput: the sizes of the inputs do not go together.
            ModelFailed: an operation fails.
        """
        interpreter = self._interpreter
        shapes = [batch[name].shape for name, _ in self._inputs]
        if shapes != self._shapes:
            self._resize(shapes)
        for name, number in self._inputs:
            interpreter.set_tensor(number, batch[name])
        if not self._keep_state:
            interpreter.reset_all_variables()
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError) as err:
            self._shapes = []
            raise _told(err) from err
        return {
            name: self._place(name, dtype, number, view, allocate)
            for name, dtype, number, view in self._outputs
        }

    def close(self) -> None:
        """Let the interpreter and its memory go."""
        self._outputs.clear()
        del self._interpreter

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        self._shapes = []
        try:
            for (_, number), shape in zip(self._inputs, shapes, strict=True):
                self._interpreter.resize_tensor_input(number, shape, strict=True)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as err:
            raise InvalidInput(f"the model cannot take inputs of these sizes: {_say(err)}") from err
        self._shapes = shapes

    def _place(self, name: str, dtype: str, number: int, view: Any, allocate: Allocate) -> Array:
        if dtype == BYTES:
            return self._strings(number)
        try:
            # The view must not outlive this call: it would be an array on freed memory.
            values = view()
        except ValueError:
            return allocate(name, dtype, self._empty_shape(number))
        array = allocate(name, dtype, values.shape)
        np.copyto(array, values)
        return array

    def _strings(self, number: int) -> Array:
        try:
            return np.asarray(self._interpreter.get_tensor(number), dtype=object)
        except ValueError:
            return np.empty(self._empty_shape(number), dtype=object)

    def _empty_shape(self, number: int) -> tuple[int, ...]:
        """Of an output that LiteRT gives no memory, for it has no elements."""
        for details in self._interpreter.get_output_details():
            shape = tuple(map(int, details["shape"]))
            if details["index"] == number and 0 in shape:
                return shape
        raise ModelFailed("LiteRT gave no memory for an output that has elements")


def _told(error: Exception) -> MlosError:
    return ModelFailed(f"LiteRT cannot run the model on these inputs: {_say(error)}")


def _say(error: Exception) -> str:
    return " ".join(str(error).split())
