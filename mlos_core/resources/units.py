# SPDX-License-Identifier: BUSL-1.1
"""Bytes and seconds as people write and read them."""

from __future__ import annotations

import re
from typing import Final

from mlos_core.errors import InvalidInput

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", re.IGNORECASE)
_SECONDS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def size(count: int) -> str:
    """`1.5 MiB`."""
    value = float(count)
    for unit in _UNITS[:-1]:
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_UNITS[-1]}"


def parse_size(text: str) -> int:
    """Bytes: `512M`, `1.5 GiB`, `2GB`, `1048576`. Every letter counts in steps of 1024.

    Raises:
        InvalidInput: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise InvalidInput(f"{text!r} is no size", hint="write e.g. 512M, 1.5GiB, or bytes")
    exponent = "kmgt".index(match[2].lower()) + 1 if match[2] else 0
    return int(float(match[1]) * 1024**exponent)


def parse_seconds(text: str) -> float:
    """Seconds: `300`, `5m`, `1h`, `1.5d`, `200ms`; `-1` (or `never`) means for ever.

    Raises:
        InvalidInput: it is no time.
    """
    plain = text.strip().lower()
    if plain in ("-1", "never"):
        return -1.0
    match = _TIME.fullmatch(plain)
    if match is None:
        raise InvalidInput(
            f"{text!r} is no time", hint="write e.g. 300, 5m, 1h, or -1 for no limit"
        )
    return float(match[1]) * _SECONDS[match[2]]
