# SPDX-License-Identifier: BUSL-1.1
"""A `.tflite` file from a description of its graph, in the schema that LiteRT brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from mlos_core.types import Array
from mlos_plugin_tensorflow.litert.framework import flatbuffers, schema

_SCHEMA_VERSION: Final = 3
_IDENTIFIER: Final = b"TFL3"


class Tensor(NamedTuple):
    """A float32 tensor: its sizes (-1: open), and its values if it is a constant."""

    sizes: Sequence[int]
    values: Array | None = None
    variable: bool = False


class Operator(NamedTuple):
    """A built-in operator by its name in the schema: `ADD`, with `AddOptions`."""

    name: str
    options: str
    inputs: Sequence[str]
    outputs: Sequence[str]


def to_bytes(
    tensors: Mapping[str, Tensor],
    operators: Sequence[Operator],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> bytes:
    """The file: operators run in the order given; inputs and outputs keep their names."""
    numbers = {name: number for number, name in enumerate(tensors)}
    model = schema.ModelT()
    model.version = _SCHEMA_VERSION
    model.operatorCodes = [_code(operator.name) for operator in operators]
    model.buffers = [_buffer(None)]  # the first one is empty by convention
    graph = schema.SubGraphT()
    graph.tensors = []
    for name, tensor in tensors.items():
        graph.tensors.append(_tensor(name, tensor, len(model.buffers)))
        model.buffers.append(_buffer(tensor.values))
    graph.operators = [_operator(at, each, numbers) for at, each in enumerate(operators)]
    graph.inputs = [numbers[name] for name in inputs]
    graph.outputs = [numbers[name] for name in outputs]
    model.subgraphs = [graph]
    model.signatureDefs = [_signature(inputs, outputs, numbers)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _code(name: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 1
    return code


def _buffer(values: Array | None) -> Any:
    buffer = schema.BufferT()
    buffer.data = None if values is None else list(values.astype("<f4").tobytes())
    return buffer


def _tensor(name: str, given: Tensor, buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.name = name
    tensor.type = schema.TensorType.FLOAT32
    tensor.shape = [max(1, size) for size in given.sizes]
    tensor.shapeSignature = list(given.sizes) if min(given.sizes) < 0 else None
    tensor.buffer = buffer
    tensor.isVariable = given.variable
    return tensor


def _operator(code: int, given: Operator, numbers: Mapping[str, int]) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs = [numbers[name] for name in given.inputs]
    operator.outputs = [numbers[name] for name in given.outputs]
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, given.options)
    operator.builtinOptions = getattr(schema, f"{given.options}T")()
    return operator


def _signature(inputs: Sequence[str], outputs: Sequence[str], numbers: Mapping[str, int]) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.inputs = [_entry(name, numbers[name]) for name in inputs]
    signature.outputs = [_entry(name, numbers[name]) for name in outputs]
    return signature


def _entry(name: str, number: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, number
    return entry
