# SPDX-License-Identifier: BUSL-1.1
"""The signature of a traced function, from what TensorFlow says of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mlos_core.errors import LoadFailed
from mlos_core.types import BYTES, DTYPES, Signature, TensorSpec
from mlos_plugin_tensorflow.framework import tf

Call = Callable[[Sequence[Any]], Sequence[Any]]
"""Tensors in the order of the inputs to tensors in the order of the outputs."""


def signature_of(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], call: Call, batched: bool | None
) -> Signature:
    """Names, dtypes and shapes of tensors or `tf.TensorSpec`s by name.

    Batched, unless `batched` says otherwise, if dimension 0 of every tensor has no fixed
    size: by Keras' convention that is the batch. An output of which not even the number of
    dimensions is known is computed once, with zeros, to learn that.

    Raises:
        LoadFailed: a tensor is of a kind that no channel carries, or `batched` is claimed
            of a model with a scalar or a fixed dimension 0.
    """
    ins = tuple(_spec(name, value, f"input {name!r}") for name, value in inputs.items())
    for spec in ins:
        if _unranked(inputs[spec.name]):
            raise LoadFailed(
                f"the input {spec.name!r} has no fixed number of dimensions",
                hint="export the model with a tf.TensorSpec that has a shape",
            )
    outs = tuple(_spec(name, value, f"output {name!r}") for name, value in outputs.items())
    if any(_unranked(value) for value in outputs.values()):
        outs = _learn_ranks(inputs, outs, call)
        batched = bool(batched)
    every = (*ins, *outs)
    if batched:
        _check_can_batch(every)
    return Signature(ins, outs, batched=looks_batched(every) if batched is None else batched)


def _unranked(value: Any) -> bool:
    return value.shape.rank is None


def _learn_ranks(
    inputs: Mapping[str, Any], outputs: tuple[TensorSpec, ...], call: Call
) -> tuple[TensorSpec, ...]:
    try:
        results = call([_zeros(value) for value in inputs.values()])
    except tf.errors.OpError as err:
        raise LoadFailed(
            "the model does not say how many dimensions its outputs have, and computes nothing "
            "from zeros that would show it",
            hint="export it with outputs of a known number of dimensions",
        ) from err
    return tuple(
        msgspec.structs.replace(spec, shape=spec.shape or (-1,) * len(result.shape))
        for spec, result in zip(outputs, results, strict=True)
    )


def _zeros(value: Any) -> Any:
    shape = [1 if size is None else size for size in value.shape.as_list()]
    return tf.fill(shape, tf.constant("" if value.dtype == tf.string else 0, value.dtype))


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
    if _unranked(value):
        return TensorSpec(name, dtype, ())
    return TensorSpec(name, dtype, tuple(-1 if n is None else n for n in value.shape.as_list()))
