# SPDX-License-Identifier: BUSL-1.1
"""TensorFlow Lite files: signature and weights of the first subgraph."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from axon_client.introspect.flatbuffer import Flat
from axon_client.introspect.header import Header, Tally
from axon_client.introspect.mapped import mapped, refusal
from axon_client.manifest import IO, IOSpec

_DTYPES: Final = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "bytes", 6: "bool",
    7: "int16", 8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64",
    13: "resource", 14: "variant", 15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
}  # fmt: skip
# Fields of the schema's tables, by their place.
_SUBGRAPHS, _DESCRIPTION, _BUFFERS, _SIGNATURES = 2, 3, 4, 7
_TENSORS, _INPUTS, _OUTPUTS = 0, 1, 2
_SHAPE, _TYPE, _BUFFER, _NAME, _OPEN_SHAPE = 0, 1, 2, 3, 7
_DATA, _DATA_OFFSET = 0, 1


class _Tensor(NamedTuple):
    name: str
    dtype: str
    shape: list[int]
    weighs: bool
    open_shape: list[int]


def read_tflite(path: Path) -> Header:
    """Read the header of a TensorFlow Lite file.

    Raises:
        LoadFailed: it is none.
    """
    with mapped(path) as data:
        try:
            if data[4:8] != b"TFL3":
                raise ValueError("it does not begin like one")
            return _header(Flat(data))
        except ValueError as error:
            raise refusal(path, "a TensorFlow Lite model", error) from error


def _header(flat: Flat) -> Header:
    model = flat.root
    full = [_has_data(flat, buffer) for buffer in flat.tables(model, _BUFFERS)]
    tally = Tally()
    graphs: list[list[_Tensor]] = []
    mains: list[IO] = []
    for graph in flat.tables(model, _SUBGRAPHS):
        tensors = [_tensor(flat, at, full) for at in flat.tables(graph, _TENSORS)]
        for tensor in tensors:
            if tensor.weighs:
                tally.add(tensor.dtype, tensor.shape)
        graphs.append(tensors)
        mains.append(_plain_io(flat, graph, tensors))
    if not graphs:
        raise ValueError("it has no graph")
    return Header(
        io=_signed_io(flat, model, graphs[0]) or mains[0],
        parameters=tally.parameters,
        dtypes=tally.dtypes,
        weight_bytes=tally.bytes,
        producer=flat.text(model, _DESCRIPTION),
    )


def _has_data(flat: Flat, buffer: int) -> bool:
    """Weights lie in the buffer itself, or for large models behind all tables."""
    return bool(flat.length(buffer, _DATA) or flat.scalar(buffer, _DATA_OFFSET, "<Q") > 1)


def _tensor(flat: Flat, at: int, full: list[bool]) -> _Tensor:
    kind, buffer = flat.scalar(at, _TYPE, "<b"), flat.scalar(at, _BUFFER, "<I")
    return _Tensor(
        flat.text(at, _NAME),
        _DTYPES.get(kind, f"tflite_{kind}"),
        flat.numbers(at, _SHAPE, 64),
        buffer < len(full) and full[buffer],
        flat.numbers(at, _OPEN_SHAPE, 64),
    )


def _plain_io(flat: Flat, graph: int, tensors: list[_Tensor]) -> IO:
    sides = (flat.numbers(graph, side) for side in (_INPUTS, _OUTPUTS))
    inputs, outputs = ([_spec(tensors, place, "") for place in side] for side in sides)
    return IO(inputs, outputs)


def _signed_io(flat: Flat, model: int, tensors: list[_Tensor]) -> IO | None:
    """The first signature of the first graph, which gives the tensors the names people use."""
    for signature in flat.tables(model, _SIGNATURES):
        if flat.scalar(signature, 4, "<I") == 0:
            return IO(*(_signed_side(flat, signature, side, tensors) for side in (0, 1)))
    return None


def _signed_side(flat: Flat, signature: int, side: int, tensors: list[_Tensor]) -> list[IOSpec]:
    return [
        _spec(tensors, flat.scalar(entry, 1, "<I"), flat.text(entry, 0))
        for entry in flat.tables(signature, side)
    ]


def _spec(tensors: list[_Tensor], place: int, name: str) -> IOSpec:
    if not 0 <= place < len(tensors):
        raise ValueError(f"an input or output is tensor {place} of {len(tensors)}")
    tensor = tensors[place]
    return IOSpec(name or tensor.name, tensor.dtype, list(tensor.open_shape or tensor.shape))
