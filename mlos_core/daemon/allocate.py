# SPDX-License-Identifier: BUSL-1.1
"""Owner numbers and lanes.

Guarantee: an owner number is never given out twice, not even by a daemon that was killed
and restarted, because a recovery scan tells the dead from the living by it alone. A block
of numbers is reserved on disk before its first one is used; a restart skips the rest of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from mlos_core.daemon.files import write_atomic
from mlos_core.errors import ConfigError, OutOfMemory, Overloaded

LAST_OWNER: Final = (1 << 24) - 1
LANES: Final = 32
BLOCK: Final = 256


class Owners:
    """Gives out owner numbers in ascending order.

    Args:
        first: the first number that was never reserved.
        reserve: called with the new end of the reservation before a number of it is used.
    """

    def __init__(self, first: int, reserve: Callable[[int], None], block: int = BLOCK) -> None:
        self._next = max(1, first)
        self._reserved = self._next
        self._reserve = reserve
        self._block = block

    @property
    def next(self) -> int:
        """The number that will be given out next: the limit of a recovery scan."""
        return self._next

    def seen(self, owner: int) -> None:
        """A number known to be in use: never give it out."""
        self._next = max(self._next, owner + 1)

    def take(self) -> int:
        """The next number.

        Raises:
            OutOfMemory: all 2**24 are used up.
        """
        if self._next > LAST_OWNER:
            raise OutOfMemory(
                "all owner numbers are used up",
                hint="stop the daemon and all its workers, then remove owners.json",
            )
        if self._next >= self._reserved:
            end = min(self._next + self._block, LAST_OWNER + 1)
            self._reserve(end)
            self._reserved = end
        owner = self._next
        self._next += 1
        return owner


class OwnersFile:
    """The end of the last reservation, on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Owners:
        """Owners that continue behind everything ever reserved.

        Raises:
            ConfigError: the file is damaged; guessing a number could lose requests.
        """
        try:
            first = msgspec.json.decode(self.path.read_bytes(), type=dict[str, int])["next"]
        except FileNotFoundError:
            first = 1
        except (OSError, msgspec.MsgspecError, KeyError) as err:
            raise ConfigError(
                f"{self.path} cannot be read: {err}",
                hint='stop all workers of the old daemon, then write {"next": 1} into it',
            ) from err
        return Owners(first, self._reserve)

    def _reserve(self, end: int) -> None:
        write_atomic(self.path, msgspec.json.encode({"next": end}))


class Lanes:
    """The doorbell bits of one model's living workers: 0 to 31, each at most once."""

    def __init__(self) -> None:
        self._used: set[int] = set()

    def take(self) -> int:
        """The lowest free lane.

        Raises:
            Overloaded: 32 workers of the model live.
        """
        for lane in range(LANES):
            if lane not in self._used:
                self._used.add(lane)
                return lane
        raise Overloaded(f"a model has at most {LANES} workers", hint="register fewer instances")

    def claim(self, lane: int) -> bool:
        """Note that an adopted worker has this lane; false if it is impossible."""
        if not 0 <= lane < LANES or lane in self._used:
            return False
        self._used.add(lane)
        return True

    def give_back(self, lane: int) -> None:
        """The worker is gone and its bit in the doorbell is cleared."""
        self._used.discard(lane)
