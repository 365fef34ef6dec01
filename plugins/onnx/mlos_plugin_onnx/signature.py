# SPDX-License-Identifier: BUSL-1.1
"""The signature of an ONNX model, as its file states it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from mlos_core.errors import LoadFailed
from mlos_core.types import Signature, TensorSpec

DTYPES: Final = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "bytes",
}
_BATCH_SYMBOL: Final = re.compile(r"(?i)(n|b|bs|batch.*|.*_batch|.*batch_?size.*)")


class NodeArg(Protocol):
    """An input or output, as onnxruntime describes it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def type(self) -> str:
        """`tensor(float)` and the like."""
        ...

    @property
    def shape(self) -> Sequence[int | str | None]:
        """Sizes; a symbol or None where the file fixes none."""
        ...


def signature_of(
    inputs: Sequence[NodeArg], outputs: Sequence[NodeArg], batched: bool | None
) -> Signature:
    """Names, dtypes and shapes; `batched` overrides what the symbols suggest.

    Raises:
        LoadFailed: a tensor has a type that no channel can carry, or `batched` is
            claimed of a model with a scalar or with a fixed dimension 0.
    """
    every = (*inputs, *outputs)
    if batched:
        _check_can_batch(every)
    joined = looks_batched(every) if batched is None else batched
    return Signature(_specs(inputs), _specs(outputs), batched=joined)


def looks_batched(args: Iterable[NodeArg]) -> bool:
    """True if dimension 0 of all tensors is one symbol, named like a batch, and only there."""
    firsts: set[int | str | None] = set()
    others: set[int | str | None] = set()
    for arg in args:
        if not arg.shape:
            return False
        firsts.add(arg.shape[0])
        others.update(arg.shape[1:])
    if len(firsts) != 1:
        return False
    symbol = firsts.pop()
    named = isinstance(symbol, str) and _BATCH_SYMBOL.fullmatch(symbol) is not None
    return named and symbol not in others


def _check_can_batch(args: Iterable[NodeArg]) -> None:
    for arg in args:
        if not arg.shape or isinstance(arg.shape[0], int):
            raise LoadFailed(
                f"the model cannot be batched: dimension 0 of {arg.name!r} is fixed or missing",
                hint="leave the option batched out",
            )


def _specs(args: Sequence[NodeArg]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(arg) for arg in args)


def _spec(arg: NodeArg) -> TensorSpec:
    dtype = DTYPES.get(arg.type)
    if dtype is None:
        raise LoadFailed(
            f"{arg.name!r} is a {arg.type}, which cannot be sent over a channel",
            hint="export the model with plain tensors of " + ", ".join(DTYPES.values()),
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in arg.shape)
    return TensorSpec(arg.name, dtype, shape)
