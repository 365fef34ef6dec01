# SPDX-License-Identifier: BUSL-1.1
"""Tensors and signatures, as every part of the system names them.

A dtype is called by its NumPy name (`float32`); `bytes` is a tensor of byte strings,
each element a little-endian u32 length followed by that many bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from mlos_core.errors import InvalidInput

Array = npt.NDArray[Any]

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    name: np.dtype(name)
    for name in (
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
    )
}
BYTES: Final = "bytes"

MAX_RANK: Final = 16


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model expects or returns under one name.

    `shape` holds -1 where any size is accepted. With `Signature.batched` its first
    entry is the batch dimension.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    description: str = ""
    optional: bool = False

    def describe(self) -> str:
        """`float32[1, ?, 224]`, as error messages and tables show it."""
        dims = ", ".join("?" if d < 0 else str(d) for d in self.shape)
        return f"{self.dtype}[{dims}]"


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names, dtypes and shapes of a model's inputs and outputs.

    `batched` says that dimension 0 of every input and output is the batch: requests of
    equal shape (but for that dimension) may be joined into one call. `streaming` marks
    an engine model, which answers with a stream of events. `tasks` says what the model is
    good for where that has a name: `generate`, `chat`, `embed`, `tokenize`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = False
    streaming: bool = False
    tasks: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line a person can read: `a: float32[1] -> b: int64[?]`."""

        def side(specs: tuple[TensorSpec, ...]) -> str:
            return ", ".join(f"{s.name}: {s.describe()}" for s in specs) or "nothing"

        return f"{side(self.inputs)} -> {side(self.outputs)}"


def check_inputs(signature: Signature, inputs: Mapping[str, Array]) -> None:
    """Raise `InvalidInput`, naming what the model expects, unless `inputs` fit."""
    known = {spec.name: spec for spec in signature.inputs}
    for name in inputs:
        if name not in known:
            raise InvalidInput(f"unknown input {name!r}", hint=_expects(signature))
    for spec in signature.inputs:
        array = inputs.get(spec.name)
        if array is None:
            if spec.optional:
                continue
            raise InvalidInput(f"missing input {spec.name!r}", hint=_expects(signature))
        problem = _mismatch(spec, array)
        if problem:
            raise InvalidInput(f"input {spec.name!r} {problem}", hint=_expects(signature))


def _mismatch(spec: TensorSpec, array: Array) -> str:
    if dtype_name(array) != spec.dtype:
        return f"has dtype {dtype_name(array)}, not {spec.dtype}"
    fits = len(array.shape) == len(spec.shape) and all(
        want < 0 or want == got for want, got in zip(spec.shape, array.shape, strict=True)
    )
    return "" if fits else f"has shape {list(array.shape)}, not {spec.describe()}"


def _expects(signature: Signature) -> str:
    return "the model expects " + ", ".join(
        f"{s.name}: {s.describe()}" + (" (optional)" if s.optional else "")
        for s in signature.inputs
    )


def dtype_name(array: Array) -> str:
    """The wire name of an array's dtype; strings and objects are `bytes`."""
    if array.dtype.kind in "OSU":
        return BYTES
    name = array.dtype.name
    if name not in DTYPES:
        raise InvalidInput(
            f"dtype {array.dtype} is not supported",
            hint="use one of " + ", ".join((*DTYPES, BYTES)),
        )
    return name


def encode_bytes(array: Array) -> bytes:
    """Serialise a tensor of strings: per element a u32 length (little endian) and its bytes."""
    parts: list[bytes] = []
    for item in array.reshape(-1):
        if isinstance(item, str):
            raw = item.encode()
        elif isinstance(item, bytes | bytearray | memoryview):
            raw = bytes(item)
        else:
            raise InvalidInput(f"a bytes tensor holds a {type(item).__name__}, not bytes or text")
        parts.append(struct.pack("<I", len(raw)))
        parts.append(raw)
    return b"".join(parts)


def decode_bytes(data: bytes | memoryview, shape: tuple[int, ...]) -> Array:
    """The inverse of `encode_bytes`: an object array of `bytes`.

    Raises:
        InvalidInput: the data are cut short or do not hold exactly that many elements.
    """
    view = memoryview(data)
    count = math.prod(shape)
    if count * 4 > len(view):
        raise InvalidInput(f"a bytes tensor of {count} elements cannot lie in {len(view)} bytes")
    items = np.empty(count, dtype=object)
    at = 0
    for index in range(count):
        if at + 4 > len(view):
            raise InvalidInput("a bytes tensor ends inside an element's length")
        (size,) = struct.unpack_from("<I", view, at)
        at += 4
        if at + size > len(view):
            raise InvalidInput("a bytes tensor ends inside an element")
        items[index] = bytes(view[at : at + size])
        at += size
    if at != len(view):
        raise InvalidInput(f"a bytes tensor has {len(view) - at} bytes too many")
    try:
        return items.reshape(shape)
    except ValueError as err:  # no elements, but dimensions whose product NumPy cannot hold
        raise InvalidInput(f"a bytes tensor of an impossible shape: {err}") from err
