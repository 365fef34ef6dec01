# SPDX-License-Identifier: BUSL-1.1
"""Inputs that fit a signature: ordinary ones, many different ones, and nasty ones. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from mlos_core.types import BYTES, DTYPES, Array, Signature, TensorSpec

Inputs = dict[str, Array]
SIZES: Final = (3, 1, 2, 4, 8, 16, 32, 64, 128, 224, 256, 512, 640)
"""What is tried for sizes that a signature leaves open, in this order."""


def shape_of(spec: TensorSpec, size: int, rows: int = 0) -> tuple[int, ...]:
    """The shape with `size` for what is open, and `rows`, unless 0, as the batch."""
    shape = tuple(size if dim < 0 else dim for dim in spec.shape)
    return (rows, *shape[1:]) if rows and shape else shape


def fill(spec: TensorSpec, shape: tuple[int, ...], seed: int) -> Array:
    """Ordinary values: floats from 0 to 1, integers from 0 to 3, short words."""
    random = np.random.default_rng([seed, len(spec.name)])
    if spec.dtype == BYTES:
        words = np.empty(shape, object)
        for index in np.ndindex(shape):
            words[index] = b"word %d" % random.integers(1000)
        return words
    dtype = DTYPES[spec.dtype]
    if dtype.kind == "f":
        return random.random(shape).astype(dtype)
    return random.integers(0, 2 if dtype.kind == "b" else 4, shape).astype(dtype)


def make(
    signature: Signature, names: frozenset[str], size: int, seed: int = 0, rows: int = 0
) -> Inputs:
    """Values for the inputs called `names`."""
    batch = rows if signature.batched else 0
    return {
        spec.name: fill(spec, shape_of(spec, size, batch), seed)
        for spec in signature.inputs
        if spec.name in names
    }


def choices(signature: Signature) -> Iterator[frozenset[str]]:
    """Which inputs to give: those that must be, or where all may be left out one of them."""
    needed = frozenset(spec.name for spec in signature.inputs if not spec.optional)
    if needed or not signature.inputs:
        yield needed
    else:
        yield from (frozenset({spec.name}) for spec in signature.inputs)
    yield frozenset(spec.name for spec in signature.inputs)


def changed(inputs: Mapping[str, Array], seed: int) -> Inputs:
    """The inputs a user gave, varied where that is surely harmless: floats, a little."""
    factor = 1.0 - seed / 64.0
    return {
        name: (array * factor).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in inputs.items()
    }


def tiled(inputs: Mapping[str, Array], rows: int) -> Inputs:
    """The rows a user gave, again and again, each time a little different."""
    out: Inputs = {}
    for name, array in inputs.items():
        again = [array] * (rows // max(1, len(array)) + 1)
        whole = np.concatenate(again)[:rows]
        if whole.dtype.kind == "f":
            factors = 1.0 - np.arange(rows) / 64.0
            scaled = whole * factors.reshape((-1,) + (1,) * (whole.ndim - 1))
            whole = scaled.astype(array.dtype)
        out[name] = whole
    return out


# --- nasty ones -------------------------------------------------------------------------------


def with_value(inputs: Mapping[str, Array], kinds: str, value: Callable[[Array], object]) -> Inputs:
    """The inputs, those whose dtype is of one of `kinds` filled with `value(array)`."""
    out = dict(inputs)
    for name, array in inputs.items():
        if array.dtype.kind in kinds:
            out[name] = np.empty_like(array)
            out[name].fill(value(array))
    return out


def odd_sizes(signature: Signature, inputs: Mapping[str, Array]) -> Iterator[tuple[int, Inputs]]:
    """The inputs with other sizes where the signature leaves them open, the batch aside."""
    first = 1 if signature.batched else 0
    specs = [spec for spec in signature.inputs if spec.name in inputs]
    if not any(dim < 0 for spec in specs for dim in spec.shape[first:]):
        return
    for size in (0, 1, 7, 1000):
        yield size, {spec.name: fill(spec, _resized(spec, first, size), 1) for spec in specs}


def _resized(spec: TensorSpec, first: int, size: int) -> tuple[int, ...]:
    """One open dimension takes the size, so that rank does not make memory explode."""
    shape = [max(1, dim) for dim in spec.shape]
    for at in range(first, len(shape)):
        if spec.shape[at] < 0:
            shape[at] = size
            break
    return tuple(shape)
