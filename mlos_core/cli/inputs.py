# SPDX-License-Identifier: BUSL-1.1
"""What people type after `mlosctl infer MODEL`, as the arrays the model expects.

'{"x": [1, 2]}'   JSON: an object names inputs, anything else is the only input
x=[1,2]           one input; the value is JSON, or text
x=@image.npy      one input from a file (.npy, .json, anything else for bytes inputs)
@data.npz         several inputs; also @data.npy and @data.json
-                 JSON, .npy or .npz from the standard input
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from mlos_core.errors import InvalidInput
from mlos_core.types import BYTES, DTYPES, Array, Signature, TensorSpec

ReadStdin = Callable[[], bytes]
_NPY: Final = b"\x93NUMPY"
_ZIP: Final = b"PK\x03\x04"


def gather(signature: Signature, words: Sequence[str], stdin: ReadStdin) -> dict[str, Array]:
    """The inputs that `words` name, cast to the model's dtypes where that loses nothing.

    Raises:
        InvalidInput: a word cannot be read, names no input, or does not fit.
    """
    values: dict[str, Any] = {}
    for word in words:
        for name, value in _read_word(signature, word, stdin).items():
            if name in values:
                raise InvalidInput(f"input {name!r} is given twice", hint="give it once")
            values[name] = value
    specs = {spec.name: spec for spec in signature.inputs}
    unknown = [name for name in values if name not in specs]
    if unknown:
        raise InvalidInput(f"unknown input {unknown[0]!r}", hint=expectation(signature))
    return {name: cast(value, specs[name]) for name, value in values.items()}


def expectation(signature: Signature) -> str:
    """What the model takes, on one line."""
    parts = (
        f"{spec.name}: {spec.describe()}" + (" (optional)" if spec.optional else "")
        for spec in signature.inputs
    )
    return "the model expects " + (", ".join(parts) or "no input")


def _read_word(signature: Signature, word: str, stdin: ReadStdin) -> Mapping[str, Any]:
    if word == "-":
        return _named(signature, _from_bytes(stdin(), "the standard input"))
    if word.startswith("@"):
        return _named(signature, _from_file(word[1:], None))
    name, equals, text = word.partition("=")
    spec = next((spec for spec in signature.inputs if spec.name == name), None)
    if equals and (spec is not None or name.isidentifier()):
        return {name: _value(text, spec, stdin)}
    try:
        return _named(signature, msgspec.json.decode(word))
    except msgspec.DecodeError as err:
        raise InvalidInput(
            f"{word!r} is neither JSON nor NAME=VALUE nor @FILE: {err}",
            hint=expectation(signature),
        ) from None


def _named(signature: Signature, value: Any) -> Mapping[str, Any]:
    """Values by input name; a lone value belongs to the only input that must be given."""
    if isinstance(value, Mapping):
        return value
    needed = [spec.name for spec in signature.inputs if not spec.optional]
    if len(needed) != 1:
        raise InvalidInput("the value does not say which input it is", hint=expectation(signature))
    return {needed[0]: value}


def _value(text: str, spec: TensorSpec | None, stdin: ReadStdin) -> Any:
    if text == "-":
        return _from_bytes(stdin(), "the standard input")
    if text.startswith("@"):
        return _from_file(text[1:], spec)
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _from_file(name: str, spec: TensorSpec | None) -> Any:
    path = Path(name)
    try:
        data = path.read_bytes()
    except OSError as err:
        raise InvalidInput(f"{name}: {err.strerror}", hint="give a file that can be read") from None
    if spec is not None and spec.dtype == BYTES and path.suffix not in (".npy", ".json"):
        return data
    return _from_bytes(data, name)


def _from_bytes(data: bytes, name: str) -> Any:
    """The content of an .npy, .npz or JSON file, told by its first bytes."""
    try:
        if data.startswith(_NPY):
            return np.load(io.BytesIO(data), allow_pickle=False)
        if data.startswith(_ZIP):
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        return msgspec.json.decode(data)
    except (ValueError, OSError, EOFError, KeyError) as err:
        raise InvalidInput(
            f"{name} cannot be read as .npy, .npz or JSON: {err}", hint="check the file"
        ) from None


# --- casting --------------------------------------------------------------------------


def cast(value: Any, spec: TensorSpec) -> Array:
    """`value` as an array of the dtype that `spec` asks for.

    Numbers written as text take the nearest value of a float dtype; those of an array must
    keep their value exactly.

    Raises:
        InvalidInput: that would change a value, or the value is no tensor.
    """
    if spec.dtype == BYTES:
        return _fit(_strings(value, spec), spec)
    written = not isinstance(value, np.ndarray)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as err:
        raise _misfit(spec, f"is no tensor: {err}") from None
    if array.dtype.kind not in "biuf":
        raise _misfit(spec, f"holds {array.dtype}, not numbers")
    want = DTYPES[spec.dtype]
    if array.dtype == want:
        return _fit(array, spec)
    with np.errstate(all="ignore"):
        converted = array.astype(want)
        same = _same(converted, array)
        rounded = want.kind == array.dtype.kind == "f" and written and not _overflows(converted)
    if array.size and not same and not rounded:
        raise _misfit(spec, f"cannot be {spec.dtype} without changing its values")
    return _fit(converted, spec)


def _same(converted: Array, array: Array) -> bool:
    back = converted.astype(array.dtype)
    # Signed and unsigned integers wrap around, there and back again.
    return np.array_equal(back, array, equal_nan=True) and np.array_equal(converted < 0, array < 0)


def _overflows(converted: Array) -> bool:
    return bool(np.isinf(converted).any())


def _strings(value: Any, spec: TensorSpec) -> Array:
    if isinstance(value, bytes):
        return _single(value)
    try:
        array = np.asarray(value, dtype=object)
    except ValueError as err:
        raise _misfit(spec, f"is no tensor: {err}") from None
    if not all(isinstance(item, str | bytes) for item in array.reshape(-1)):
        raise _misfit(spec, "holds something else than text")
    return array


def _single(data: bytes) -> Array:
    array = np.empty((), dtype=object)
    array[()] = data
    return array


def _fit(array: Array, spec: TensorSpec) -> Array:
    """A lone number fits every shape that can hold exactly one element."""
    if array.ndim == 0 and spec.shape and all(dim in (-1, 1) for dim in spec.shape):
        return array.reshape((1,) * len(spec.shape))
    return array


def _misfit(spec: TensorSpec, why: str) -> InvalidInput:
    return InvalidInput(
        f"input {spec.name!r} {why}", hint=f"the model expects {spec.name}: {spec.describe()}"
    )


# --- options --------------------------------------------------------------------------


def pairs(words: Sequence[str], option: str) -> dict[str, Any]:
    """`k=v` words as a mapping; values are JSON, or text.

    Raises:
        InvalidInput: a word has no `=`.
    """
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{option} {word}", hint=f"write {option} KEY=VALUE")
        try:
            values[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            values[name] = text
    return values
