# SPDX-License-Identifier: BUSL-1.1
"""Whether a new version can answer the clients of the old one. Pure."""

from __future__ import annotations

from mlos_core.errors import LoadFailed
from mlos_core.types import Signature, TensorSpec


def check_successor(old: Signature, new: Signature, title: str) -> None:
    """Raise `LoadFailed` unless whatever `old` accepts is accepted by `new`, and what `new`
    answers is what clients of `old` expect."""
    problem = _problem(old, new)
    if problem:
        raise LoadFailed(
            f"the new {title} does not answer the clients of the old one: {problem}",
            hint="serve it beside the old one with --add, or swap with --allow-new-signature",
        )


def _problem(old: Signature, new: Signature) -> str:
    if old.streaming != new.streaming:
        return "one of them streams"
    inputs = {spec.name: spec for spec in new.inputs}
    outputs = {spec.name: spec for spec in new.outputs}
    for spec in old.inputs:
        if problem := _input_problem(spec, inputs.pop(spec.name, None)):
            return f"input {spec.name!r} {problem}"
    for spec in inputs.values():
        if not spec.optional:
            return f"it needs a new input {spec.name!r}"
    for spec in old.outputs:
        if problem := _output_problem(spec, outputs.get(spec.name)):
            return f"output {spec.name!r} {problem}"
    return ""


def _input_problem(old: TensorSpec, new: TensorSpec | None) -> str:
    if new is None:
        return "is gone"
    if old.optional and not new.optional:
        return "is optional no more"
    return "" if _within(old, new) else f"was {old.describe()} and is {new.describe()}"


def _output_problem(old: TensorSpec, new: TensorSpec | None) -> str:
    if new is None:
        return "is gone"
    return "" if _within(new, old) else f"was {old.describe()} and is {new.describe()}"


def _within(narrow: TensorSpec, wide: TensorSpec) -> bool:
    """Whether every tensor that fits `narrow` fits `wide`."""
    return (
        narrow.dtype == wide.dtype
        and len(narrow.shape) == len(wide.shape)
        and all(w in (-1, n) for n, w in zip(narrow.shape, wide.shape, strict=True))
    )
