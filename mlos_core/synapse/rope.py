# SPDX-License-Identifier: BUSL-1.1
"""Inverse frequencies of rotary embeddings, with the scalings that model files ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlos_core.errors import LoadFailed, Unsupported

Frequencies = npt.NDArray[np.float32]
_KNOWN = ("default", "none", "linear", "llama3")


def frequencies(base: float, dimensions: int) -> Frequencies:
    """1 / base**(2i / dimensions), float32[dimensions / 2]; each step rounded to float32."""
    exponents = np.arange(0, dimensions, 2, dtype=np.float32) / np.float32(dimensions)
    powers = np.power(float(base), exponents.astype(np.float64)).astype(np.float32)
    inverse: Frequencies = np.float32(1) / powers
    return inverse


def scale(values: Frequencies, kind: str, options: Mapping[str, Any]) -> Frequencies:
    """Frequencies under a scaling of `kind`, with the options that Hugging Face names.

    Raises:
        Unsupported: a kind that is not known.
        LoadFailed: an option is missing or no positive number.
    """
    if kind in ("default", "none", ""):
        return values
    if kind == "linear":
        linear: Frequencies = values / np.float32(_number(options, "factor"))
        return linear
    if kind == "llama3":
        return _llama3(values, options)
    raise Unsupported(
        f"the rope scaling {kind!r} is unknown", hint="known are " + ", ".join(_KNOWN)
    )


def divide(values: Frequencies, factors: Sequence[float] | Frequencies) -> Frequencies:
    """Frequencies divided by the factors that a GGUF file keeps as rope_freqs.weight."""
    divisors = np.asarray(factors, np.float32)
    if divisors.shape != values.shape:
        raise LoadFailed(
            f"rope_freqs.weight has {divisors.size} elements and not {values.size}, "
            "one for each pair of a head"
        )
    if not (np.isfinite(divisors).all() and (divisors > 0).all()):
        raise LoadFailed("rope_freqs.weight has an element that is no positive number")
    divided: Frequencies = values / divisors
    return divided


def _llama3(values: Frequencies, options: Mapping[str, Any]) -> Frequencies:
    """Long waves are stretched by `factor`, short ones kept, those between are blended."""
    factor, low, high, context = (
        np.float32(_number(options, name))
        for name in (
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        )
    )
    if not high > low:
        raise LoadFailed("the rope scaling's high_freq_factor is not above its low_freq_factor")
    waves = np.float32(2 * math.pi) / values
    blend = (context / waves - low) / (high - low)
    blended = (1 - blend) * values / factor + blend * values
    long, short = waves > context / low, waves < context / high
    scaled: Frequencies = np.where(long, values / factor, np.where(short, values, blended))
    return scaled.astype(np.float32)


def _number(options: Mapping[str, Any], name: str) -> float:
    value = options.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e12:
        raise LoadFailed(f"the rope scaling's {name} is {value!r} and no positive number")
    return float(value)
