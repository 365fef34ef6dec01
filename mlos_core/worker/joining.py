# SPDX-License-Identifier: BUSL-1.1
"""Merging requests into one call along dimension 0, and splitting its outputs again.

Only requests of equal shape but for dimension 0 are merged, so nothing is ever padded.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import msgspec
import numpy as np

from mlos_core.errors import ModelFailed
from mlos_core.types import Array
from mlos_core.worker.port import Request

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def rows_of(inputs: Mapping[str, Array]) -> int:
    """The common size of dimension 0; 0 when the inputs have none in common."""
    sizes = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    return sizes.pop() if len(sizes) == 1 else 0


def key_of(request: Request) -> Hashable:
    """Equal for requests that may be merged: shapes, dtypes, parameters, wanted outputs."""
    shapes = frozenset((n, a.dtype.str, a.shape[1:]) for n, a in request.inputs.items())
    parameters = _encode(request.parameters) if request.parameters else b""
    return shapes, parameters, request.outputs


def join(requests: Sequence[Request]) -> dict[str, Array]:
    """The inputs of all requests, one behind the other. A copy, by nature."""
    first = requests[0].inputs
    return {name: np.concatenate([r.inputs[name] for r in requests]) for name in first}


def split(outputs: Mapping[str, Array], rows: Sequence[int]) -> list[dict[str, Array]]:
    """Each request's part of merged outputs, as views.

    Raises:
        ModelFailed: an output does not have one row for each row of input.
    """
    total = sum(rows)
    for name, array in outputs.items():
        if not array.ndim or array.shape[0] != total:
            raise ModelFailed(
                f"output {name!r} has shape {list(array.shape)} for a batch of {total} rows",
                hint="the model does not batch along dimension 0; set max_batch_size to 1",
            )
    parts: list[dict[str, Array]] = []
    start = 0
    for size in rows:
        parts.append({name: array[start : start + size] for name, array in outputs.items()})
        start += size
    return parts
