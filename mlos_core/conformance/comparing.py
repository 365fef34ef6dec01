# SPDX-License-Identifier: BUSL-1.1
"""Whether two answers are the same, bit for bit or nearly. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from mlos_core.types import Array, TensorSpec, dtype_name

TOLERANCE: Final = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}


def difference(got: Mapping[str, Array], want: Mapping[str, Array]) -> str:
    """Where the answers differ in any bit; empty if nowhere."""
    if set(got) != set(want):
        return f"the outputs are {sorted(got)}, not {sorted(want)}"
    for name, array in got.items():
        if (array.dtype, array.shape) != (want[name].dtype, want[name].shape):
            return f"{name!r} is {_form(array)}, not {_form(want[name])}"
        if not _same(array, want[name]):
            return f"{name!r} differs{_how_much(array, want[name])}"
    return ""


def nearly(got: Mapping[str, Array], want: Mapping[str, Array]) -> bool:
    """Whether the answers differ by rounding at most."""
    return set(got) == set(want) and all(_near(got[name], want[name]) for name in got)


def _near(got: Array, want: Array) -> bool:
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    if got.dtype.kind != "f":
        return _same(got, want)
    limit = TOLERANCE[got.dtype.name]
    scale = float(np.max(np.abs(want[np.isfinite(want)]), initial=1.0))
    return bool(np.allclose(got, want, rtol=limit, atol=limit * scale, equal_nan=True))


def _same(got: Array, want: Array) -> bool:
    if got.dtype.kind == "O":
        return bool(got.tolist() == want.tolist())
    return got.tobytes() == want.tobytes()


def _how_much(got: Array, want: Array) -> str:
    if got.dtype.kind != "f":
        return ""
    with np.errstate(all="ignore"):
        worst = np.nanmax(np.abs(got.astype("f8") - want.astype("f8")), initial=0.0)
    return f" by up to {worst:.3g}"


def _form(array: Array) -> str:
    return f"{dtype_name(array)}{list(array.shape)}"


def misfit(outputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> str:
    """How the outputs do not fit their specs; empty if they do."""
    known = {spec.name: spec for spec in specs}
    for name in outputs:
        if name not in known:
            return f"the output {name!r} is not in the signature"
    for name, spec in known.items():
        if name not in outputs:
            if spec.optional:
                continue
            return f"the output {name!r} is missing"
        array = outputs[name]
        fits = len(array.shape) == len(spec.shape) and all(
            want in (-1, got) for want, got in zip(spec.shape, array.shape, strict=True)
        )
        if dtype_name(array) != spec.dtype or not fits:
            return f"the output {name!r} is {_form(array)}, not {spec.describe()}"
    return ""
