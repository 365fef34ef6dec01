# SPDX-License-Identifier: BUSL-1.1
"""Which bytes of a file are still to come, and who fetches them. Plain values, no I/O.

A file is cut into parts of one size. A part is missing, kept (an earlier download says that
it is there, and it has yet to be checked), taken (somebody works on it) or done; done is
final. Parts are handed out from the front, so that whoever hashes the file in order is never
far behind.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_PARTS = 4096
MISSING, KEPT, TAKEN, DONE = range(4)


def part_size(size: int, wanted: int) -> int:
    """Bytes of a part, so that a file has at most `MOST_PARTS`."""
    return max(wanted, -(-size // MOST_PARTS))


class Plan:
    """The parts of one file.

    Args:
        size: of the file, in bytes.
        part_bytes: of every part but the last.
        kept: parts that an earlier download says are there.
    """

    def __init__(self, size: int, part_bytes: int, kept: Iterable[int] = ()) -> None:
        self.size = size
        self.part_bytes = part_bytes
        self._state = bytearray(-(-size // part_bytes))
        self._front = 0
        for part in kept:
            self._state[part] = KEPT

    def bounds(self, part: int) -> tuple[int, int]:
        """Offsets of a part's first byte and of the first one behind it."""
        start = part * self.part_bytes
        return start, min(start + self.part_bytes, self.size)

    def take_kept(self) -> int | None:
        """A part to check; None if there is none."""
        part = self._state.find(KEPT)
        if part < 0:
            return None
        self._state[part] = TAKEN
        return part

    def take_run(self, most: int) -> range | None:
        """At most so many parts to fetch, one behind the other; None if there are none."""
        first = self._state.find(MISSING)
        if first < 0:
            return None
        last = first
        while last < min(first + most, len(self._state)) and self._state[last] == MISSING:
            self._state[last] = TAKEN
            last += 1
        return range(first, last)

    def finish(self, part: int) -> None:
        """A taken part is there and has been hashed."""
        assert self._state[part] == TAKEN
        self._state[part] = DONE
        while self._front < len(self._state) and self._state[self._front] == DONE:
            self._front += 1

    def give_back(self, parts: Iterable[int]) -> None:
        """Whatever of these is not done has to be fetched by somebody else."""
        for part in parts:
            if self._state[part] == TAKEN:
                self._state[part] = MISSING

    @property
    def front(self) -> int:
        """All bytes before this offset are there."""
        return min(self._front * self.part_bytes, self.size)

    @property
    def complete(self) -> bool:
        """Whether every part is done."""
        return self._front == len(self._state)

    @property
    def missing(self) -> int:
        """How many parts nobody has fetched or is fetching."""
        return self._state.count(MISSING)
