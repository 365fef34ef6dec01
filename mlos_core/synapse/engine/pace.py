# SPDX-License-Identifier: BUSL-1.1
"""How much of a prompt fits into a step that others wait for.

Where prompts are cut changes no result, so it may follow the clock.
"""

from __future__ import annotations

from typing import Final

LEAST: Final = 32
_WEIGHT: Final = 0.25


class Pace:
    """Rows that a step may have to end in time.

    Args:
        seconds: how long a step may take; 0: any time.
        most: rows, however fast the machine is.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._per_row = 0.0

    def learn(self, rows: int, seconds: float) -> None:
        """A step took that long. Small ones tell little of what a row costs in a large one."""
        if rows < LEAST:
            return
        cost = seconds / rows
        self._per_row += (cost - self._per_row) * (_WEIGHT if self._per_row else 1.0)

    def rows(self) -> int:
        """The rows for the next step."""
        if not self._seconds or not self._per_row:
            return self._most
        return max(LEAST, min(self._most, int(self._seconds / self._per_row)))
