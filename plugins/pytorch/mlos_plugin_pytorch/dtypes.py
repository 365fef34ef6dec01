# SPDX-License-Identifier: BUSL-1.1
"""Torch's dtypes under the names that a channel knows."""

from __future__ import annotations

from typing import Any, Final

import torch

from mlos_core.errors import LoadFailed, ModelFailed

NAMES: Final[dict[Any, str]] = {
    torch.bool: "bool",
    torch.uint8: "uint8",
    torch.uint16: "uint16",
    torch.uint32: "uint32",
    torch.uint64: "uint64",
    torch.int8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.float16: "float16",
    torch.float32: "float32",
    torch.float64: "float64",
}


def name_of(dtype: Any, whose: str) -> str:
    """The NumPy name of a torch dtype.

    Raises:
        LoadFailed: NumPy has no such dtype (`bfloat16`), or no channel carries it.
    """
    name = NAMES.get(dtype)
    if name is None:
        short = str(dtype).removeprefix("torch.")
        raise LoadFailed(
            f"{whose} is {short}, which cannot be sent over a channel",
            hint="let the model convert it, with .float() for one; inside it may be what it is",
        )
    return name


def name_at_run(tensor: Any, whose: str) -> str:
    """Like `name_of`, for an output that a model has just returned."""
    name = NAMES.get(tensor.dtype)
    if name is None or tensor.layout is not torch.strided:
        kind = tensor.dtype if name is None else tensor.layout
        short = str(kind).removeprefix("torch.")
        raise ModelFailed(
            f"{whose} is {short}, which cannot be sent over a channel",
            hint="let the model return plain dense tensors",
        )
    return name
