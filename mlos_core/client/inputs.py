# SPDX-License-Identifier: BUSL-1.1
"""What the caller passes, as arrays; and the form of a request, under which its call rests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from mlos_core.client.link import Link
from mlos_core.client.memory import Memory
from mlos_core.errors import InvalidInput
from mlos_core.ipc import header as wire
from mlos_core.types import BYTES, DTYPES, Array, Signature

_encode: Final = msgspec.msgpack.Encoder().encode
Form = tuple[Any, ...]


def to_array(value: Any, name: str, signature: Signature) -> Array:
    """Whatever the caller passed, as an array: DLPack, buffers, lists by the signature's dtype."""
    if isinstance(value, np.ndarray):
        return value
    try:
        if hasattr(value, "__dlpack__") and not isinstance(value, np.generic):
            return np.from_dlpack(value)
        if isinstance(value, bytes | str):
            return np.array(value, dtype=object)
        if isinstance(value, memoryview | bytearray):
            return np.asarray(value)
        dtype = next((s.dtype for s in signature.inputs if s.name == name), None)
        array = np.asarray(value)
        if dtype == BYTES:
            return np.array(value, dtype=object)
        return array if dtype is None else lossless(array, dtype)
    except (TypeError, ValueError, BufferError, RuntimeError) as err:
        raise InvalidInput(f"input {name!r} is no tensor: {err}") from err


def lossless(array: Array, dtype: str) -> Array:
    """`array` as `dtype` where no value changes by it (float rounding excepted), else as it is."""
    want = DTYPES.get(dtype)
    if want is None or array.dtype == want or array.dtype.kind not in "biuf":
        return array
    if want.kind == "f" and array.dtype.kind in "iuf":
        return array.astype(want)
    with np.errstate(invalid="ignore"):  # NaN has no integer; the comparison says so
        cast = array.astype(want)
    return cast if np.array_equal(cast, array) and array.dtype.kind != "b" else array


def offset_in(link: Link, array: Array) -> int:
    """Offset of an array that lies in this link's request arena, else -1."""
    base: Any = array.base
    for _ in range(4):
        if type(base) is Memory:
            break
        if type(base) is not np.ndarray:
            return -1
        base = base.base
    else:
        return -1
    if base.link is not link or not array.flags.c_contiguous:
        return -1
    if not array.flags.aligned or not array.dtype.isnative:
        return -1  # a view of other bytes than were allocated: it goes as a copy
    return int(array.__array_interface__["data"][0]) - link.address


def form_of(
    link: Link,
    inputs: Mapping[str, Array],
    kind: int,
    outputs: Sequence[str],
    parameters: Mapping[str, Any] | None,
) -> Form:
    """The key of a request's form. Inputs that lie in the arena count with their place."""
    shapes: Form = tuple(
        [
            (name, a.dtype.num, a.shape)
            if a.base is None
            else (name, a.dtype.num, a.shape, offset_in(link, a))
            for name, a in inputs.items()
        ]
    )
    if kind == wire.INFER and not outputs and not parameters:
        return shapes
    try:
        return (shapes, kind, tuple(outputs), _encode(parameters or {}))
    except (TypeError, ValueError, OverflowError) as err:
        raise InvalidInput(f"a parameter cannot be sent: {err}") from err


def as_arrays(inputs: Mapping[str, Any], signature: Signature) -> Mapping[str, Array]:
    """`inputs` with every value an array."""
    for value in inputs.values():
        if type(value) is not np.ndarray:
            return {name: to_array(v, name, signature) for name, v in inputs.items()}
    return inputs


def size_of(inputs: Mapping[str, Any], signature: Signature) -> int:
    """Bytes that these inputs take in an arena, with what is lost between them."""
    return sum(to_array(v, n, signature).nbytes + 4096 for n, v in inputs.items())
