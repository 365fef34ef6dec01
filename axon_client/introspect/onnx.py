# SPDX-License-Identifier: BUSL-1.1
"""What an ONNX file says of itself: inputs, outputs, opsets, weights and where they lie.

`onnx` and onnxruntime would each pull tens of megabytes into a package manager, and
onnxruntime builds the whole session, for the few fields that are read here; the field
numbers are fixed by ONNX's published schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from axon_client import wire
from axon_client.introspect.header import Header, Tally
from axon_client.introspect.mapped import mapped, refusal
from axon_client.manifest import IO, IOSpec

_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "bytes", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn",
    18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4_e2m1", 24: "float8_e8m0",
}  # fmt: skip
_NOT_TENSORS = {4: "sequence", 5: "map", 8: "sparse_tensor", 9: "optional"}
_EXTERNAL: Final = 1
_DEEPEST: Final = 16
"""Graphs within the nodes of graphs; exporters nest them two or three deep."""


class _Tensor(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    location: str


def read_onnx(path: Path) -> Header:
    """Read the header of an ONNX file.

    Raises:
        LoadFailed: the file is not an ONNX model, with what it seems to be instead.
    """
    with mapped(path) as data:
        try:
            return _Model(wire.Reader(data, len(data))).header()
        except ValueError as error:
            raise refusal(path, "an ONNX model", error) from error


class _Model:
    """Walks one file; what it finds adds up here."""

    def __init__(self, reader: wire.Reader) -> None:
        self._reader = reader
        self._tally = Tally()
        self._external: dict[str, None] = {}

    def header(self) -> Header:
        graph, opsets = None, {}
        numbers, texts = {1: 0}, {2: "", 3: ""}
        for field in self._reader.top():
            if field.number in numbers:
                numbers[field.number] = wire.signed(field)
            elif field.number in texts:
                texts[field.number] = self._reader.text(field)
            elif field.number == 7:
                graph = field
            elif field.number == 8:
                domain, version = self._opset(field)
                opsets[domain] = version
            elif field.number == 25:
                self._function(field)
        if graph is None:
            raise wire.WireError("it has no graph")
        io = self._main(graph)
        return Header(
            io=io,
            parameters=self._tally.parameters,
            dtypes=self._tally.dtypes,
            weight_bytes=self._tally.bytes,
            producer=" ".join(filter(None, (texts[2], texts[3]))),
            ir_version=numbers[1],
            opsets=opsets,
            external=tuple(self._external),
        )

    def _opset(self, field: wire.Field) -> tuple[str, int]:
        domain, version = "", 0
        for part in self._reader.message(field):
            if part.number == 1:
                domain = self._reader.text(part)
            elif part.number == 2:
                version = wire.signed(part)
        return domain or "ai.onnx", version

    def _main(self, graph: wire.Field) -> IO:
        inputs: list[IOSpec] = []
        outputs: list[IOSpec] = []
        constants: set[str] = set()
        for field in self._reader.message(graph):
            if field.number == 1:
                self._node(field, 1)
            elif field.number == 5:
                constants.add(self._weight(field))
            elif field.number == 11:
                inputs.append(self._value(field))
            elif field.number == 12:
                outputs.append(self._value(field))
        # Before IR version 4 every weight was listed among the inputs too.
        return IO([spec for spec in inputs if spec.name not in constants], outputs)

    def _function(self, field: wire.Field) -> None:
        for part in self._reader.message(field):
            if part.number == 7:
                self._node(part, 1)

    def _node(self, field: wire.Field, depth: int) -> None:
        """Constants, and the graphs of loops and branches, may hold weights as well."""
        if depth > _DEEPEST:
            raise wire.WireError(f"its graphs are nested more than {_DEEPEST} deep")
        for part in self._reader.message(field):
            if part.number == 5:
                self._attribute(part, depth)

    def _attribute(self, field: wire.Field, depth: int) -> None:
        for part in self._reader.message(field):
            if part.number in (5, 10):
                self._weight(part)
            elif part.number in (6, 11):
                self._inner(part, depth)

    def _inner(self, graph: wire.Field, depth: int) -> None:
        for field in self._reader.message(graph):
            if field.number == 1:
                self._node(field, depth + 1)
            elif field.number == 5:
                self._weight(field)

    def _weight(self, field: wire.Field) -> str:
        tensor = self._tensor(field)
        self._tally.add(tensor.dtype, tensor.shape)
        if tensor.location:
            self._external[tensor.location] = None
        return tensor.name

    def _tensor(self, field: wire.Field) -> _Tensor:
        name = location = ""
        dtype, outside = "unknown", False
        shape: list[int] = []
        for part in self._reader.message(field):
            if part.number == 1:
                shape.extend(self._reader.numbers(part))
            elif part.number == 2:
                dtype = _DTYPES.get(part.value, f"onnx_{part.value}")
            elif part.number == 8:
                name = self._reader.text(part)
            elif part.number == 13:
                location = self._location(part) or location
            elif part.number == 14:
                outside = part.value == _EXTERNAL
        return _Tensor(name, dtype, tuple(shape), location if outside else "")

    def _location(self, field: wire.Field) -> str:
        entry = {p.number: self._reader.text(p) for p in self._reader.message(field)}
        return entry.get(2, "") if entry.get(1) == "location" else ""

    # --- inputs and outputs -------------------------------------------------------------

    def _value(self, field: wire.Field) -> IOSpec:
        name, description, kind = "", "", IOSpec("", "unknown")
        for part in self._reader.message(field):
            if part.number == 1:
                name = self._reader.text(part)
            elif part.number == 2:
                kind = self._type(part)
            elif part.number == 3:
                description = self._reader.text(part)
        return IOSpec(name, kind.dtype, kind.shape, description)

    def _type(self, field: wire.Field) -> IOSpec:
        for part in self._reader.message(field):
            if part.number == 1:
                return self._tensor_type(part)
            if part.number in _NOT_TENSORS:
                return IOSpec("", _NOT_TENSORS[part.number])
        return IOSpec("", "unknown")

    def _tensor_type(self, field: wire.Field) -> IOSpec:
        dtype, shape = "unknown", None
        for part in self._reader.message(field):
            if part.number == 1:
                dtype = _DTYPES.get(part.value, f"onnx_{part.value}")
            elif part.number == 2:
                shape = list(self._dims(part))
        return IOSpec("", dtype, shape)

    def _dims(self, field: wire.Field) -> Iterator[int]:
        for dim in self._reader.message(field):
            if dim.number == 1:
                sizes = [wire.signed(p) for p in self._reader.message(dim) if p.number == 1]
                yield sizes[-1] if sizes and sizes[-1] >= 0 else -1
