# SPDX-License-Identifier: BUSL-1.1
"""How fast bytes may come, and how slowly. Told the time; waits for nothing itself."""

from __future__ import annotations

import threading


class Limiter:
    """Spreads bytes evenly: so many per second, whoever asks.

    Args:
        rate: bytes per second; 0 is no limit.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, count: int, now: float) -> float:
        """Seconds to wait after `count` bytes came."""
        if not self._rate:
            return 0.0
        with self._lock:
            self._free_at = max(self._free_at, now) + count / self._rate
            return self._free_at - now

    @property
    def block(self) -> int:
        """How many bytes to ask for at once, so that waits stay short."""
        return max(512, self._rate // 8) if self._rate else 1 << 30


_limiters: dict[int, Limiter] = {}


def shared_limiter(rate: int) -> Limiter:
    """The one limiter of this process for a rate: parallel downloads share it."""
    return _limiters.setdefault(rate, Limiter(rate))


class Pace:
    """Tells when a body comes so slowly that it counts as stalled.

    Args:
        slowest: bytes per second.
        window_s: over how long that is measured.
    """

    def __init__(self, slowest: int, window_s: float) -> None:
        self._slowest = slowest
        self._window_s = window_s
        self._seconds = 0.0
        self._bytes = 0

    def too_slow(self, count: int, seconds: float) -> bool:
        """Whether the window that ends with these bytes, waited for so long, was too slow."""
        self._bytes += count
        self._seconds += seconds
        if self._seconds < self._window_s:
            return False
        slow = self._bytes < self._slowest * self._seconds
        self._bytes, self._seconds = 0, 0.0
        return slow
