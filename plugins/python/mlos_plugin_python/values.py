# SPDX-License-Identifier: BUSL-1.1
"""Tensors as the Python values that hints name, and back."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from mlos_core.errors import InvalidInput, ModelFailed
from mlos_core.smi import Allocate
from mlos_core.types import BYTES, DTYPES, Array, TensorSpec
from mlos_plugin_python.hints import Hint

_PLAIN: Final = (str, int, float, bool, bytes)


def to_python(array: Array, hint: Hint, name: str) -> Any:
    """What `predict` gets for the input `name`; arrays are passed as they are.

    Raises:
        InvalidInput: text that is no UTF-8.
    """
    if hint.form == "array":
        return array
    if hint.element is str:
        items = [_text(item, name) for item in array.reshape(-1)]
    else:
        items = array.reshape(-1).tolist()
    return items[0] if hint.form == "scalar" else items


def _text(item: Any, name: str) -> str:
    if isinstance(item, str):
        return item
    try:
        return bytes(item).decode()
    except UnicodeDecodeError as err:
        raise InvalidInput(
            f"input {name!r} is no text: {err}", hint="send UTF-8, or hint it as bytes"
        ) from None


def to_array(value: Any, hint: Hint, name: str, allocate: Allocate) -> Array:
    """What `predict` returned for the output `name`, where the client reads it.

    A number may become another dtype of its kind (float64 to float32), or a float.

    Raises:
        ModelFailed: the value is not what the hint says.
    """
    spec = hint.spec(name)
    if hint.dtype == BYTES:
        return _strings(value, spec)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as err:
        raise _unlike(f"{type(value).__name__} ({err})", spec) from None
    if not array.size and array.dtype != hint.dtype:
        array = array.astype(hint.dtype)  # an empty list is one of floats to NumPy
    dtype = DTYPES[hint.dtype]
    whole = array.dtype.kind in "iu" and dtype.kind in "iu"
    if not whole and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise _unlike(_describe(value, array), spec)
    _check_shape(value, array, spec)
    if whole:
        _check_range(array, dtype, spec)
    out = allocate(name, hint.dtype, array.shape)
    np.copyto(out, array, casting="unsafe")
    return out


def _strings(value: Any, spec: TensorSpec) -> Array:
    if isinstance(value, str | bytes | bytearray):
        array = np.empty((), object)
        array[()] = value
    else:
        try:
            array = np.asarray(value, object)
        except ValueError as err:
            raise _unlike(f"{type(value).__name__} ({err})", spec) from None
    if not all(isinstance(item, str | bytes | bytearray) for item in array.reshape(-1)):
        raise _unlike(f"{type(value).__name__} that is not all text or bytes", spec)
    _check_shape(value, array, spec)
    return array


def _check_shape(value: Any, array: Array, spec: TensorSpec) -> None:
    fits = len(array.shape) == len(spec.shape) and all(
        want in (-1, got) for want, got in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise _unlike(_describe(value, array), spec)


def _check_range(array: Array, dtype: np.dtype[Any], spec: TensorSpec) -> None:
    limits = np.iinfo(dtype)
    if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise _unlike("a number that does not fit", spec)


def _describe(value: Any, array: Array) -> str:
    if array.dtype.kind == "O" or not array.ndim:
        return type(value).__name__
    return f"{array.dtype}{list(array.shape)}"


def _unlike(got: str, spec: TensorSpec) -> ModelFailed:
    return ModelFailed(
        f"predict gave {got} for {spec.name!r}, which is hinted {spec.describe()}",
        hint="correct the hint in model.py, or what predict returns",
    )


def to_event(value: Any) -> Any:
    """A yielded value as a stream carries it: msgpack's types, NumPy's as lists and numbers.

    Raises:
        ModelFailed: it has another type.
    """
    if type(value) in _PLAIN:
        return value
    try:
        return msgspec.to_builtins(
            value, builtin_types=(bytes, bytearray, memoryview), enc_hook=_numpy
        )
    except (TypeError, ValueError, NotImplementedError) as err:
        raise ModelFailed(
            f"predict yielded {type(value).__name__}, which no stream carries: {err}",
            hint="yield text, numbers, bytes, and lists, dicts or dataclasses of them",
        ) from None


def _numpy(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} is not supported")
