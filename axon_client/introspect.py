# SPDX-License-Identifier: BUSL-1.1
"""What an ONNX file says of itself: inputs, outputs, opsets, files it keeps its weights in.

Nothing is executed and no framework is loaded. `onnx` and onnxruntime would each pull tens
of megabytes into a package manager, and onnxruntime builds the whole session, for the five
fields that are read here; the field numbers are fixed by ONNX's published schema.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import msgspec

from axon_client import wire
from axon_client.manifest import IO, IOSpec
from mlos_core.errors import LoadFailed

_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "bytes", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn",
    18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4_e2m1",
}  # fmt: skip
_NOT_TENSORS = {4: "sequence", 5: "map", 8: "sparse_tensor", 9: "optional"}
_EXTERNAL = 1


class OnnxModel(msgspec.Struct, frozen=True):
    """The header of an ONNX file.

    `external` are the files, relative to the model's folder, that hold its weights.
    """

    io: IO
    ir_version: int
    opsets: dict[str, int]
    producer: str
    external: tuple[str, ...]


def read_onnx(path: Path) -> OnnxModel:
    """Read the header of an ONNX file.

    Raises:
        LoadFailed: the file is not an ONNX model, with what it seems to be instead.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if size == 0:
            raise LoadFailed(f"{path.name} is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _model(data, size)
            except wire.WireError as error:
                raise LoadFailed(
                    f"{path.name} is not an ONNX model: {error}", hint=_seems(data[:64])
                ) from error


def _seems(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file itself with 'git lfs pull'"
    if head[:1] in (b"<", b"{"):
        return "it is text, perhaps an error page that was saved in the model's place"
    return "it may be cut off; fetch it again"


def _model(data: wire.Buffer, size: int) -> OnnxModel:
    graph, opsets = None, {}
    ir_version, producer = 0, ""
    for field in wire.fields(data, 0, size):
        if field.number == 1:
            ir_version = wire.signed(field)
        elif field.number == 2:
            producer = wire.text(data, field)
        elif field.number == 7:
            graph = field
        elif field.number == 8:
            domain, version = _opset(data, field)
            opsets[domain] = version
    if graph is None:
        raise wire.WireError("it has no graph")
    io, external = _graph(data, graph)
    return OnnxModel(io, ir_version, opsets, producer, external)


def _opset(data: wire.Buffer, field: wire.Field) -> tuple[str, int]:
    domain, version = "", 0
    for part in wire.message(data, field):
        if part.number == 1:
            domain = wire.text(data, part)
        elif part.number == 2:
            version = wire.signed(part)
    return domain or "ai.onnx", version


def _graph(data: wire.Buffer, graph: wire.Field) -> tuple[IO, tuple[str, ...]]:
    inputs: list[IOSpec] = []
    outputs: list[IOSpec] = []
    constants: set[str] = set()
    external: dict[str, None] = {}
    for field in wire.message(data, graph):
        if field.number == 5:
            name, location = _initializer(data, field)
            constants.add(name)
            if location:
                external[location] = None
        elif field.number == 11:
            inputs.append(_value(data, field))
        elif field.number == 12:
            outputs.append(_value(data, field))
    # Before IR version 4 every weight was listed among the inputs too.
    asked = [spec for spec in inputs if spec.name not in constants]
    return IO(asked, outputs), tuple(external)


def _initializer(data: wire.Buffer, field: wire.Field) -> tuple[str, str]:
    name = location = ""
    outside = False
    for part in wire.message(data, field):
        if part.number == 8:
            name = wire.text(data, part)
        elif part.number == 13:
            entry = {p.number: wire.text(data, p) for p in wire.message(data, part)}
            if entry.get(1) == "location":
                location = entry.get(2, "")
        elif part.number == 14:
            outside = part.value == _EXTERNAL
    return name, location if outside else ""


def _value(data: wire.Buffer, field: wire.Field) -> IOSpec:
    name, description, kind = "", "", IOSpec("", "unknown")
    for part in wire.message(data, field):
        if part.number == 1:
            name = wire.text(data, part)
        elif part.number == 2:
            kind = _type(data, part)
        elif part.number == 3:
            description = wire.text(data, part)
    return IOSpec(name, kind.dtype, kind.shape, description)


def _type(data: wire.Buffer, field: wire.Field) -> IOSpec:
    for part in wire.message(data, field):
        if part.number == 1:
            return _tensor(data, part)
        if part.number in _NOT_TENSORS:
            return IOSpec("", _NOT_TENSORS[part.number])
    return IOSpec("", "unknown")


def _tensor(data: wire.Buffer, field: wire.Field) -> IOSpec:
    dtype, shape = "unknown", None
    for part in wire.message(data, field):
        if part.number == 1:
            dtype = _DTYPES.get(part.value, f"onnx_{part.value}")
        elif part.number == 2:
            shape = list(_dims(data, part))
    return IOSpec("", dtype, shape)


def _dims(data: wire.Buffer, field: wire.Field) -> Iterator[int]:
    for dim in wire.message(data, field):
        if dim.number == 1:
            sizes = [wire.signed(p) for p in wire.message(data, dim) if p.number == 1]
            yield sizes[-1] if sizes and sizes[-1] >= 0 else -1
