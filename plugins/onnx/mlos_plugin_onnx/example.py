# SPDX-License-Identifier: BUSL-1.1
"""A tiny ONNX model, written byte by byte: the package `onnx` is not needed to have one.

x float32[batch, 3] -> Mul by two -> Add one -> y float32[batch, 3]
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

_FLOAT: Final = 1
_IR_VERSION, _OPSET = 8, 17


def write_example(folder: Path) -> Path:
    """Write `example.onnx` into `folder`; its path."""
    path = folder / "example.onnx"
    path.write_bytes(_model())
    return path


def _model() -> bytes:
    graph = (
        _bytes(1, _node("Mul", ("x", "two"), "twice"))
        + _bytes(1, _node("Add", ("twice", "one"), "y"))
        + _bytes(2, b"example")
        + _bytes(5, _constant("two", 2.0))
        + _bytes(5, _constant("one", 1.0))
        + _bytes(11, _tensor("x", "batch", 3))
        + _bytes(12, _tensor("y", "batch", 3))
    )
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _number(2, _OPSET))


def _node(operator: str, inputs: tuple[str, ...], output: str) -> bytes:
    names = b"".join(_bytes(1, name.encode()) for name in inputs)
    return names + _bytes(2, output.encode()) + _bytes(4, operator.encode())


def _constant(name: str, value: float) -> bytes:
    """A TensorProto without dimensions."""
    return _number(2, _FLOAT) + _bytes(8, name.encode()) + _bytes(9, struct.pack("<f", value))


def _tensor(name: str, *shape: str | int) -> bytes:
    """A ValueInfoProto of float32."""
    dims = [_bytes(2, d.encode()) if isinstance(d, str) else _number(1, d) for d in shape]
    shaped = b"".join(_bytes(1, dim) for dim in dims)
    kind = _bytes(1, _number(1, _FLOAT) + _bytes(2, shaped))
    return _bytes(1, name.encode()) + _bytes(2, kind)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
