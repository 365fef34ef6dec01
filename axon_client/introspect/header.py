# SPDX-License-Identifier: BUSL-1.1
"""What can be read of a model file without loading it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from axon_client.manifest import IO

MOST_DIMENSIONS: Final = 64
MOST_ELEMENTS: Final = 1 << 62

NOT_PARAMETERS = frozenset({"int64", "bool", "bytes"})
"""Shapes, indices and texts: constants that no training has set."""
BITS = {
    "float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "int64": 64, "int32": 32,
    "int16": 16, "int8": 8, "uint64": 64, "uint32": 32, "uint16": 16, "uint8": 8, "bool": 8,
    "complex64": 64, "complex128": 128, "int4": 4, "uint4": 4, "float4_e2m1": 4,
    "float8_e4m3fn": 8, "float8_e5m2": 8, "float8_e4m3fnuz": 8, "float8_e5m2fnuz": 8,
    "float8_e8m0": 8,
}  # fmt: skip
"""Bits of one element, for the dtypes that have a fixed size."""


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model file says of itself. Every field is empty where the file does not say.

    Attributes:
        io: names, dtypes and shapes; a dtype of `unknown` and a shape of None are honest.
        parameters: how many numbers the weights are, constants such as shapes left out.
        dtypes: elements of the weights by dtype, the most frequent first.
        weight_bytes: bytes of the weights in memory, if they are loaded as they are.
        cache_bytes_per_token: what a decoder keeps of each token, in float16.
        external: files beside the model, relative to its folder, that hold its weights.
        opsets: ONNX's operator sets by domain.
        custom_code: Python modules that transformers would import from the package.
        runs_code: why loading it may run code that came with it; empty if it cannot.
        unknown: what the format does not say, and why.
    """

    io: IO = IO()
    parameters: int | None = None
    dtypes: dict[str, int] = {}
    weight_bytes: int | None = None
    architecture: str = ""
    quantization: str = ""
    context_length: int = 0
    cache_bytes_per_token: int = 0
    chat_template: bool = False
    license: str = ""
    name: str = ""
    producer: str = ""
    ir_version: int = 0
    opsets: dict[str, int] = {}
    external: tuple[str, ...] = ()
    custom_code: str = ""
    runs_code: str = ""
    unknown: tuple[str, ...] = ()


class Tally:
    """Adds up weights: elements and bytes by dtype."""

    def __init__(self) -> None:
        self._elements: Counter[str] = Counter()
        self._bytes = 0

    def add(self, dtype: str, shape: Sequence[int], size: int | None = None) -> None:
        """A tensor. `size` is its bytes, for dtypes that have no fixed size.

        Raises:
            ValueError: no tensor has that shape.
        """
        if len(shape) > MOST_DIMENSIONS:
            raise ValueError(f"a tensor has {len(shape)} dimensions")
        self.count(dtype, math.prod(max(side, 0) for side in shape), size)

    def count(self, dtype: str, elements: int, size: int | None = None) -> None:
        """Elements, wherever they lie.

        Raises:
            ValueError: there are more than any memory holds.
        """
        if not 0 <= elements <= MOST_ELEMENTS - self._elements.total():
            raise ValueError("its tensors are larger than any memory")
        self._elements[dtype] += elements
        self._bytes += elements * BITS.get(dtype, 0) // 8 if size is None else size

    def weigh(self, size: int) -> None:
        """Bytes of tensors that were counted without."""
        self._bytes += size

    @property
    def elements(self) -> int:
        """Elements of all dtypes."""
        return self._elements.total()

    @property
    def dtypes(self) -> dict[str, int]:
        """Elements by dtype, the most frequent first."""
        return dict(sorted(self._elements.items(), key=lambda item: (-item[1], item[0])))

    @property
    def parameters(self) -> int:
        """Elements of all dtypes that weights have."""
        return parameters_in(self._elements)

    @property
    def bytes(self) -> int:
        """Bytes of all of them."""
        return self._bytes


def parameters_in(dtypes: Mapping[str, int]) -> int:
    """How many of the elements are parameters."""
    return sum(count for dtype, count in dtypes.items() if dtype not in NOT_PARAMETERS)
