# SPDX-License-Identifier: BUSL-1.1
"""What one rendering may cost: time, and characters or elements made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

FUEL: Final = 16_000_000
"""Characters and list elements that a rendering may make, besides what its input allows."""
FUEL_PER_INPUT: Final = 64
SECONDS: Final = 1.0
_WALK: Final = 256


class TooCostly(Exception):
    """The template used up its time or its fuel."""


class Meter:
    """Counts down. Every operation that makes something pays for its size before it is made.

    Args:
        size: characters and elements of the input; a long chat may cost more.
        seconds: wall-clock time from now.
    """

    def __init__(self, size: int = 0, seconds: float = SECONDS) -> None:
        self._left = FUEL + FUEL_PER_INPUT * size
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def charge(self, cost: int) -> None:
        """Pay `cost`.

        Raises:
            TooCostly: there is not so much left, or the time is up.
        """
        self._left -= cost
        if self._left < 0:
            raise TooCostly("it makes more text than its input can explain")
        if time.monotonic() > self._deadline:
            raise TooCostly(f"it takes more than {self._seconds:g} s")

    def charge_all(self, *values: Any) -> None:
        """Pay for everything inside `values`, as often as it is reached."""
        self.charge(weigh(values, self.charge))


def weigh(value: Any, pay: Any = None) -> int:
    """Characters and elements of `value`, containers included; `pay` is called on the way."""
    total, steps = 0, 0
    stack = [value]
    while stack:
        value = stack.pop()
        total += 1
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, Mapping):
            stack.extend(value.keys())
            stack.extend(value.values())
        elif isinstance(value, (list, tuple)):
            stack.extend(value)
        steps += 1
        if pay is not None and steps % _WALK == 0:
            pay(total)
            total = 0
    return total


def length(value: Any) -> int:
    """The length of what has one; 1 for the rest."""
    return len(value) + 1 if isinstance(value, (str, list, tuple, dict, range)) else 1
