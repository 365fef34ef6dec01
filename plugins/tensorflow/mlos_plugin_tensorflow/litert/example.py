# SPDX-License-Identifier: BUSL-1.1
"""A small model to try the plugin with, written in the schema that LiteRT brings along."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from mlos_core.smi import ModelPackage
from mlos_core.types import Array
from mlos_plugin_tensorflow.litert.framework import flatbuffers, schema

_SCHEMA_VERSION: Final = 3
_IDENTIFIER: Final = b"TFL3"


def write(folder: Path) -> ModelPackage:
    """`y = 2 x + 1` for x: float32[?, 4], as `scale.tflite` in `folder`."""
    file = folder / "scale.tflite"
    file.write_bytes(scale_and_shift(2.0, 1.0))
    return ModelPackage("example", "1", file)


def scale_and_shift(scale: float, shift: float) -> bytes:
    """The bytes of a model with one multiplication and one addition."""
    model = schema.ModelT()
    model.version = _SCHEMA_VERSION
    model.description = "y = scale * x + shift"
    kinds = schema.BuiltinOperator
    model.operatorCodes = [_code(kinds.MUL), _code(kinds.ADD)]
    model.buffers = [
        _buffer(None),
        _buffer(np.array([scale], np.float32)),
        _buffer(np.array([shift], np.float32)),
    ]
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("x", [-1, 4]),
        _tensor("scale", [1], buffer=1),
        _tensor("product", [-1, 4]),
        _tensor("shift", [1], buffer=2),
        _tensor("y", [-1, 4]),
    ]
    graph.inputs, graph.outputs = [0], [4]
    graph.operators = [
        _operator(0, [0, 1], 2, schema.BuiltinOptions.MulOptions, schema.MulOptionsT()),
        _operator(1, [2, 3], 4, schema.BuiltinOptions.AddOptions, schema.AddOptionsT()),
    ]
    model.subgraphs = [graph]
    model.signatureDefs = [_signature({"x": 0}, {"y": 4})]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _code(kind: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = 1
    return code


def _buffer(values: Array | None) -> Any:
    buffer = schema.BufferT()
    buffer.data = None if values is None else np.frombuffer(values.tobytes(), np.uint8)
    return buffer


def _tensor(name: str, sizes: list[int], buffer: int = 0) -> Any:
    tensor = schema.TensorT()
    tensor.name = name
    tensor.type = schema.TensorType.FLOAT32
    tensor.shape = [max(1, size) for size in sizes]
    tensor.shapeSignature = sizes if min(sizes) < 0 else None
    tensor.buffer = buffer
    return tensor


def _operator(code: int, inputs: list[int], output: int, kind: int, options: Any) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs, operator.outputs = inputs, [output]
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


def _signature(inputs: dict[str, int], outputs: dict[str, int]) -> Any:
    def maps(tensors: dict[str, int]) -> list[Any]:
        every = []
        for name, index in tensors.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            every.append(entry)
        return every

    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.inputs, signature.outputs = maps(inputs), maps(outputs)
    signature.subgraphIndex = 0
    return signature
