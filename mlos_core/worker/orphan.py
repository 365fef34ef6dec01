# SPDX-License-Identifier: BUSL-1.1
"""Times without a daemon: when to knock again, and when to give up. Pure decisions."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.05
LONGEST_S: Final = 1.0


class Backoff:
    """Delays between attempts: 50 ms, doubling up to 1 s."""

    def __init__(self) -> None:
        self._delay_s = FIRST_S
        self._next_s = 0.0

    def reset(self) -> None:
        """The next attempt may come at once."""
        self._delay_s, self._next_s = FIRST_S, 0.0

    def failed(self, now_s: float) -> None:
        """An attempt failed at `now_s`."""
        self._next_s = now_s + self._delay_s
        self._delay_s = min(self._delay_s * 2, LONGEST_S)

    def wait_s(self, now_s: float) -> float:
        """How long until the next attempt."""
        return max(0.0, self._next_s - now_s)


class Orphanhood:
    """How long a worker has had neither a daemon nor a living client.

    Args:
        grace_s: how long it may last.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since_s: float | None = None

    def look(self, now_s: float, *, needed: bool) -> None:
        """Note whether anybody is there at `now_s`."""
        if needed:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s

    def over(self, now_s: float) -> bool:
        """True once the grace has run out."""
        return self._since_s is not None and now_s - self._since_s >= self._grace_s
