# SPDX-License-Identifier: BUSL-1.1
"""Tensors as JSON and back.

In: numbers, booleans, strings and nested lists of them become the dtype the model expects if
nothing is lost: 3 and 3.0 are the same integer, 3.5 is none; an integer that a float cannot
hold exactly is refused, while a decimal fraction is rounded to the nearest float, as always.

JSON has no NaN and no infinities. They are the strings "NaN", "Infinity" and "-Infinity" in
both directions, which Python's `float()` and JavaScript's `Number()` read as such.

An element of a `bytes` tensor is a string (UTF-8), or `{"b64": "..."}`; an answer takes the
second form only where the bytes are no UTF-8.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

import numpy as np

from mlos_core.errors import InvalidInput
from mlos_core.types import BYTES, DTYPES, MAX_RANK, Array, Signature, TensorSpec, check_inputs

_SPECIAL: Final = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
_EXACT: Final = 2**53  # every integer up to here is exact in a float64


def to_arrays(signature: Signature, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """JSON values by input name, as the arrays that `signature` asks for.

    Raises:
        InvalidInput: a name, a value or a shape does not fit; the hint names what does.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    arrays: dict[str, Array] = {}
    for name, value in inputs.items():
        if name not in specs:
            raise InvalidInput(
                f"unknown input {name!r}", hint=f"the model maps {signature.describe()}"
            )
        arrays[name] = to_array(specs[name], value)
    check_inputs(signature, arrays)
    return arrays


def to_array(spec: TensorSpec, value: Any) -> Array:
    """One JSON value as an array of `spec.dtype`; its shape is what the lists say.

    A single string for a `bytes` tensor of one element (or of any size) gets its rank.
    """
    if spec.dtype == BYTES:
        return _bytes_array(spec, value)
    if spec.dtype not in DTYPES:
        raise _wrong(spec, f"has the dtype {spec.dtype}, which JSON cannot carry")
    return _cast(spec, _parse(spec, value))


def _flatten(spec: TensorSpec, value: Any) -> tuple[list[Any], tuple[int, ...]]:
    """The leaves of nested lists, and the lists' shape.

    Not left to NumPy: among strings it would give each element the room of the longest.
    """
    level: list[Any] = [value]
    shape: list[int] = []
    while level and type(level[0]) is list:
        if set(map(type, level)) != {list} or len(set(map(len, level))) != 1:
            raise _wrong(spec, "has lists of unequal length")
        if len(shape) == MAX_RANK:
            raise _wrong(spec, f"is nested more than {MAX_RANK} lists deep")
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    if list in set(map(type, level)):
        raise _wrong(spec, "has lists of unequal length")
    return level, tuple(shape)


def _parse(spec: TensorSpec, value: Any) -> Array:
    """Numbers of any one kind, as bool, int64, uint64 or float64."""
    flat, shape = _flatten(spec, value)
    kinds = set(map(type, flat))
    if str in kinds:
        flat = [_SPECIAL.get(item, item) if type(item) is str else item for item in flat]
        kinds = set(map(type, flat))
    if kinds == {bool}:
        return np.array(flat, dtype=bool).reshape(shape)
    if kinds == {int}:
        return _integers(spec, flat).reshape(shape)
    if kinds == {float}:
        return np.array(flat, dtype=np.float64).reshape(shape)
    for item in flat if kinds - {int, float} or int in kinds else ():
        if type(item) not in (int, float):
            raise _wrong(spec, f"holds {_short(item)}, which is no number")
        if type(item) is int and abs(item) > _EXACT:
            raise _wrong(spec, f"holds {_short(item)} beside fractions, which loses digits")
    return np.array(flat, dtype=np.float64).reshape(shape)


def _integers(spec: TensorSpec, flat: list[int]) -> Array:
    for dtype in (np.int64, np.uint64):
        try:
            return np.array(flat, dtype=dtype)
        except OverflowError:
            continue
    raise _wrong(spec, "holds an integer of more than 64 bits")


def _cast(spec: TensorSpec, array: Array) -> Array:
    target = DTYPES[spec.dtype]
    if array.dtype == target:
        return array
    if array.size == 0:
        return array.astype(target)
    if array.dtype.kind == "b":
        raise _wrong(spec, "holds true or false")
    if target.kind == "f" and array.dtype.kind == "f":
        return _rounded(spec, array, target)
    if array.dtype.kind == "f":
        array = _whole(spec, array)
    return _exact(spec, array, target)


def _rounded(spec: TensorSpec, array: Array, target: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        cast = array.astype(target)
    if (np.isinf(cast) & ~np.isinf(array)).any():
        raise _wrong(spec, "holds a number too large for it")
    return cast


def _whole(spec: TensorSpec, array: Array) -> Array:
    fits = np.isfinite(array) & (array == np.trunc(array)) & (np.abs(array) <= _EXACT)
    if not fits.all():
        raise _wrong(spec, f"holds {array[~fits].flat[0]}, which is no whole number of that size")
    return array.astype(np.int64)


def _exact(spec: TensorSpec, array: Array, target: np.dtype[Any]) -> Array:
    """Integers into any dtype that holds each of them exactly."""
    if target.kind == "b":
        lost = (array != 0) & (array != 1)
    elif target.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(target)
            # Compared as integers; a float beyond their range has lost them anyway.
            lost = ~np.isfinite(cast) | (np.abs(cast.astype(np.float64)) >= 2.0**63)
            lost |= np.where(lost, 0, cast).astype(array.dtype) != array
    else:
        info = np.iinfo(target)
        lost = (array < info.min) | (array > info.max)
    if lost.any():
        raise _wrong(spec, f"holds {array[lost].flat[0]}, which it cannot hold exactly")
    return array.astype(target)


def _bytes_array(spec: TensorSpec, value: Any) -> Array:
    if isinstance(value, (str, dict)) and all(d in (1, -1) for d in spec.shape):
        for _ in spec.shape:
            value = [value]
    flat, shape = _flatten(spec, value)
    array = np.empty(len(flat), dtype=object)
    array[:] = [_element(spec, item) for item in flat]
    return array.reshape(shape)


def _element(spec: TensorSpec, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as err:
            raise _wrong(spec, "holds something that is no base64") from err
    raise _wrong(spec, f'holds {_short(value)}: give a string or {{"b64": "..."}}')


def from_array(array: Array) -> Any:
    """An output as JSON values: nested lists, or one value for a tensor without dimensions."""
    if array.dtype.kind in "OSU":
        flat = [_text(item) for item in array.reshape(-1).tolist()]
        return _nest(flat, array.shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        flat = [_number(item) for item in array.reshape(-1).tolist()]
        return _nest(flat, array.shape)
    return array.tolist()


def _number(item: float) -> float | str:
    if item != item:
        return "NaN"
    if item in (np.inf, -np.inf):
        return "Infinity" if item > 0 else "-Infinity"
    return item


def _text(item: Any) -> Any:
    raw = item.encode() if isinstance(item, str) else bytes(item)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(raw).decode()}


def _nest(flat: list[Any], shape: tuple[int, ...]) -> Any:
    boxed = np.empty(len(flat), dtype=object)
    boxed[:] = flat
    return boxed.reshape(shape).tolist()


def _short(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= 40 else text[:39] + "…"


def _wrong(spec: TensorSpec, what: str) -> InvalidInput:
    return InvalidInput(
        f"input {spec.name!r} {what}", hint=f"the model expects {spec.name}: {spec.describe()}"
    )
