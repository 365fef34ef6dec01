# SPDX-License-Identifier: BUSL-1.1
"""The signature of a `.tflite` model, from what its interpreter says of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mlos_core.errors import LoadFailed
from mlos_core.types import BYTES, DTYPES, Signature, TensorSpec

Details = Mapping[str, Any]
"""What LiteRT says of one tensor."""


def signature_of(
    inputs: Mapping[str, Details], outputs: Mapping[str, Details], batched: bool | None
) -> Signature:
    """Names, dtypes and shapes; `batched` overrides what the shapes suggest.

    Raises:
        LoadFailed: a tensor has a type that no channel carries, or `batched` is claimed of
            a model with a scalar or a fixed dimension 0.
    """
    ins = tuple(_spec(name, details) for name, details in inputs.items())
    outs = tuple(_spec(name, details) for name, details in outputs.items())
    every = (*ins, *outs)
    if batched:
        _check_can_batch(every)
    return Signature(ins, outs, batched=looks_batched(every) if batched is None else batched)


def looks_batched(specs: Iterable[TensorSpec]) -> bool:
    """True if dimension 0 of every tensor may have any size."""
    return all(spec.shape and spec.shape[0] < 0 for spec in specs)


def _check_can_batch(specs: Iterable[TensorSpec]) -> None:
    for spec in specs:
        if not spec.shape or spec.shape[0] >= 0:
            raise LoadFailed(
                f"the model cannot be batched: dimension 0 of {spec.name!r} is fixed or missing",
                hint="convert it with an unknown batch size, or leave the option batched out",
            )


def _spec(name: str, details: Details) -> TensorSpec:
    dtype = np.dtype(details["dtype"])
    word = BYTES if dtype.kind in "OSU" else dtype.name
    if word != BYTES and word not in DTYPES:
        raise LoadFailed(
            f"{name!r} is of {word}, which cannot be sent over a channel",
            hint="convert the model with tensors of " + ", ".join((*DTYPES, BYTES)),
        )
    # Of a tensor without unknown sizes the file gives the shape alone.
    sizes = details["shape_signature"]
    shape = sizes if len(sizes) else details["shape"]
    return TensorSpec(name, word, tuple(map(int, shape)), description=_quantisation(details))


def _quantisation(details: Details) -> str:
    scale, zero = details["quantization"]
    return f"quantised: (value - {zero}) * {scale:.9g}" if scale else ""
