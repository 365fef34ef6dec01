# SPDX-License-Identifier: BUSL-1.1
"""Waiting for what another process does: as long as it moves, and no longer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from mlos_core.errors import DeadlineExceeded

STALLED_S: Final = 600.0
"""How long another process may hold something without getting on."""


class Wait:
    """Another's work that is waited for, as long as it moves.

    Args:
        what: is worked on.
        look: gives something that changes while the work goes on.
        stalled_s: for how long it may stay the same.
    """

    def __init__(self, what: str, look: Callable[[], object], stalled_s: float) -> None:
        self._what = what
        self._look = look
        self._stalled_s = stalled_s
        self._seen: object = None
        self._since = time.monotonic()

    def step(self) -> None:
        """Look again.

        Raises:
            DeadlineExceeded: it has not moved for too long.
        """
        now, seen = time.monotonic(), self._look()
        if seen != self._seen:
            self._seen, self._since = seen, now
        elif now - self._since >= self._stalled_s:
            raise DeadlineExceeded(
                f"another axon process holds {self._what} and has not moved "
                f"for {self._stalled_s:g} s",
                hint="end that process; what it fetched is used by the next one",
            )


def seen_of(path: Path) -> tuple[int, int]:
    """A file's bytes on disk, and when they last changed, in nanoseconds; zero if it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return min(status.st_size, status.st_blocks * 512), status.st_mtime_ns


def traces(folders: Iterable[Path]) -> frozenset[tuple[str, str, int, int]]:
    """What changes below `folders`, two levels deep, while somebody installs."""
    found = set()
    for folder in folders:
        for parent, below, names in os.walk(folder):
            found |= {(parent, name, *seen_of(Path(parent, name))) for name in below + names}
            if Path(parent) != folder:
                below.clear()
    return frozenset(found)
