# SPDX-License-Identifier: BUSL-1.1
"""Inputs that are wrong, odd or hostile: refused or answered, and the worker lives on."""

from __future__ import annotations

from typing import Final

import numpy as np

from mlos_core.conformance import values
from mlos_core.conformance.outcome import Failed, Skipped
from mlos_core.conformance.subject import Subject
from mlos_core.types import BYTES, MAX_RANK, Array

_STRINGS: Final = (b"", b"\xff\xfe\x00", b"x" * 65536, "\u00fc\U0001f30d".encode() * 100)


def a_wrong_name_is_refused(subject: Subject) -> None:
    """`InvalidInput`."""
    extra = {**subject.inputs, "mlos_no_such_input": np.zeros(1, np.float32)}
    _refused(subject, extra, "an unknown input")


def a_missing_input_is_refused(subject: Subject) -> None:
    """`InvalidInput`."""
    needed = [spec.name for spec in subject.signature.inputs if not spec.optional]
    if not needed:
        raise Skipped("every input may be left out")
    rest = {name: a for name, a in subject.inputs.items() if name != needed[0]}
    _refused(subject, rest, f"a request without {needed[0]!r}")


def a_wrong_dtype_is_refused(subject: Subject) -> None:
    """`InvalidInput`."""
    for spec in subject.signature.inputs:
        if spec.name in subject.inputs:
            array = subject.inputs[spec.name]
            other = np.zeros(array.shape, "int8" if spec.dtype != "int8" else "float64")
            _refused(subject, {**subject.inputs, spec.name: other}, f"{other.dtype} {spec.name!r}")


def a_wrong_shape_is_refused(subject: Subject) -> None:
    """`InvalidInput`."""
    for name, array in subject.inputs.items():
        if array.ndim < MAX_RANK:
            deeper = np.ascontiguousarray(array)[None]
            _refused(subject, {**subject.inputs, name: deeper}, f"a {name!r} of rank {deeper.ndim}")


def _refused(subject: Subject, inputs: dict[str, Array], what: str) -> None:
    code = subject.survives(inputs)
    if code != "invalid_input":
        raise Failed(f"{what} is {code if code else 'answered'}, not refused as invalid_input")


def nan_and_infinity_do_not_end_the_worker(subject: Subject) -> None:
    """They are answered, or refused."""
    if not any(array.dtype.kind == "f" for array in subject.inputs.values()):
        raise Skipped("the model takes no floats")
    for value in (np.nan, np.inf, -np.inf):
        subject.survives(values.with_value(subject.inputs, "f", lambda _, v=value: v))  # type: ignore[misc]


def extreme_numbers_do_not_end_the_worker(subject: Subject) -> None:
    """An index far outside of a table, for one."""
    if not any(array.dtype.kind in "iuf" for array in subject.inputs.values()):
        raise Skipped("the model takes no numbers")
    for largest in (True, False):

        def limit(array: Array, largest: bool = largest) -> object:
            info = np.iinfo(array.dtype) if array.dtype.kind in "iu" else np.finfo(array.dtype)
            return info.max if largest else info.min

        subject.survives(values.with_value(subject.inputs, "iuf", limit))


def odd_strings_do_not_end_the_worker(subject: Subject) -> None:
    """Empty ones, long ones, ones that are no UTF-8."""
    if not any(spec.dtype == BYTES for spec in subject.signature.inputs):
        raise Skipped("the model takes no strings")
    for text in _STRINGS:
        subject.survives(values.with_value(subject.inputs, "O", lambda _, t=text: t))  # type: ignore[misc]


def odd_sizes_do_not_end_the_worker(subject: Subject) -> None:
    """None, one, a prime, a thousand, where the signature says that any will do."""
    tried = 0
    for _, inputs in values.odd_sizes(subject.signature, subject.inputs):
        subject.survives(inputs)
        tried += 1
    if not tried:
        raise Skipped("no size is open")
