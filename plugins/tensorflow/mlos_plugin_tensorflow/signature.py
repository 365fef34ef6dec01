# SPDX-License-Identifier: BUSL-1.1
"""The signature of a traced function, from what TensorFlow says of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlos_core.errors import LoadFailed
from mlos_core.types import BYTES, DTYPES, Signature, TensorSpec
from mlos_plugin_tensorflow.framework import tf


def signature_of(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], batched: bool | None
) -> Signature:
    """Names, dtypes and shapes of tensors or `tf.TensorSpec`s by name.

    Batched, unless `batched` says otherwise, if dimension 0 of every tensor has no fixed
    size: by Keras' convention that is the batch.

    Raises:
        LoadFailed: a tensor is of a kind that no channel carries, or `batched` is claimed
            of a model with a scalar or a fixed dimension 0.
    """
    ins = tuple(_spec(name, value, f"input {name!r}") for name, value in inputs.items())
    outs = tuple(_spec(name, value, f"output {name!r}") for name, value in outputs.items())
    for name, value in inputs.items():
        if value.shape.rank is None:
            raise LoadFailed(
                f"the input {name!r} has no fixed number of dimensions",
                hint="export the model with a tf.TensorSpec that has a shape",
            )
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
                hint="leave the option batched out",
            )


def _spec(name: str, value: Any, what: str) -> TensorSpec:
    if not isinstance(value, tf.Tensor | tf.TensorSpec):
        raise LoadFailed(
            f"the {what} is a {type(value).__name__}, which cannot be sent over a channel",
            hint="export the model with dense tensors",
        )
    dtype = BYTES if value.dtype == tf.string else value.dtype.name
    if dtype not in DTYPES and dtype != BYTES:
        raise LoadFailed(
            f"the {what} is of {dtype}, which cannot be sent over a channel",
            hint="export the model with tensors of " + ", ".join((*DTYPES, BYTES)),
        )
    if value.shape.rank is None:
        return TensorSpec(name, dtype, (), description="of any number of dimensions")
    return TensorSpec(name, dtype, tuple(-1 if n is None else n for n in value.shape.as_list()))
