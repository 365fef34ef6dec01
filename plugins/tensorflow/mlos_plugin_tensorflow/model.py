# SPDX-License-Identifier: BUSL-1.1
"""A loaded model: a traced function, called with the client's memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlos_core.errors import InvalidInput, MlosError, ModelFailed, OutOfMemory
from mlos_core.smi import Allocate, TensorModel
from mlos_core.types import BYTES, Array, Signature
from mlos_plugin_tensorflow import tensors
from mlos_plugin_tensorflow.framework import tf
from mlos_plugin_tensorflow.keeping import keeps_inputs
from mlos_plugin_tensorflow.saying import first_line
from mlos_plugin_tensorflow.signature import Call


class TensorFlowModel(TensorModel):
    """One traced function.

    Args:
        call: tensors in the signature's order to tensors in the signature's order.
        graph: the `tf.Graph` that `call` runs.
        signature: what it takes and gives.
        owner: what must live as long as the function, for it owns the weights.
    """

    def __init__(self, call: Call, graph: Any, signature: Signature, owner: Any) -> None:
        self.signature = signature
        self._call = call
        self._owner = owner
        self._take = tensors.copy if keeps_inputs(graph) else tensors.borrow
        self._inputs = [(spec.name, _tf_dtype(spec.dtype)) for spec in signature.inputs]
        self._outputs = [(spec.name, spec.dtype) for spec in signature.outputs]

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """All outputs, as TensorFlow computes them in process.

        Raises:
            InvalidInput: an operation refuses the values or the sizes.
            OutOfMemory: the machine has no room for a tensor.
            ModelFailed: anything else that TensorFlow says.
        """
        take = self._take
        given = [take(batch[name], dtype) for name, dtype in self._inputs]
        try:
            results = self._call(given)
        except tf.errors.OpError as err:
            raise _told(err) from err
        return {
            name: tensors.place(name, dtype, tensor, allocate)
            for (name, dtype), tensor in zip(self._outputs, results, strict=True)
        }

    def close(self) -> None:
        """Let the graph and the weights go."""
        del self._call
        del self._owner


def _tf_dtype(dtype: str) -> Any:
    return tf.string if dtype == BYTES else tf.as_dtype(dtype)


def _told(error: Any) -> MlosError:
    said = first_line(error.message)
    if isinstance(error, tf.errors.InvalidArgumentError):
        return InvalidInput(f"the model cannot take these inputs: {said}")
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return OutOfMemory(
            f"TensorFlow has no memory for this request: {said}", hint="send a smaller batch"
        )
    return ModelFailed(f"TensorFlow says {type(error).__name__}: {said}")
