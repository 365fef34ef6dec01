# SPDX-License-Identifier: BUSL-1.1
"""What a model returns, in one row and with names; and how it gets to the client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from mlos_core.errors import ModelFailed
from mlos_core.smi import Allocate
from mlos_core.types import Array
from mlos_plugin_pytorch.dtypes import name_at_run


def flatten(result: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and leaves of whatever a model returns.

    A single value is called `output`, the parts of a tuple or list `output_0`, `output_1`, …,
    those of a dict or a named tuple as their keys say; what lies deeper is joined with `_`.
    None is no output.
    """
    if isinstance(result, Mapping):
        parts = [(str(key), part) for key, part in result.items()]
    elif isinstance(result, tuple) and hasattr(result, "_fields"):
        parts = list(zip(result._fields, result, strict=True))
    elif isinstance(result, tuple | list):
        prefix = "" if name else "output_"
        parts = [(f"{prefix}{place}", part) for place, part in enumerate(result)]
    else:
        if result is not None:
            yield name or "output", result
        return
    for key, part in parts:
        yield from flatten(part, f"{name}_{key}" if name else key)


def named(result: Any) -> dict[str, Any]:
    """The leaves by name.

    Raises:
        ModelFailed: two have the same name.
    """
    if type(result) is tuple and all(isinstance(part, torch.Tensor) for part in result):
        return {f"output_{place}": part for place, part in enumerate(result)}
    leaves = list(flatten(result))
    by_name = dict(leaves)
    if len(by_name) < len(leaves):
        raise ModelFailed("the model returned two outputs of one name: " + ", ".join(by_name))
    return by_name


def deliver(name: str, leaf: Any, allocate: Allocate) -> Array:
    """A leaf as an array that lies where `allocate` says: one copy, from wherever it is.

    Raises:
        ModelFailed: it is neither tensor nor number, or of a dtype that no channel carries.
    """
    if isinstance(leaf, torch.Tensor):
        array = allocate(name, name_at_run(leaf, f"output {name!r}"), tuple(leaf.shape))
        torch.from_numpy(array).copy_(leaf)
        return array
    if isinstance(leaf, bool | int | float):
        value = np.asarray(leaf)
        array = allocate(name, value.dtype.name, ())
        array[()] = value
        return array
    raise ModelFailed(
        f"output {name!r} is a {type(leaf).__name__}, which cannot be sent over a channel",
        hint="let the model return tensors and numbers",
    )
