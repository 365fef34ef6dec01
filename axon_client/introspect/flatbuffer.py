# SPDX-License-Identifier: BUSL-1.1
"""A strict reader of FlatBuffers, for files that are mostly weights.

Guarantees: every offset is checked against the file before it is followed, and only as many
are followed as the reader allows; raises `ValueError` on anything else.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import Final

Buffer = bytes | mmap.mmap
_MOST_STEPS: Final = 4_000_000


class Flat:
    """A FlatBuffer: `root` is the place of its first table."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self._left = _MOST_STEPS  # of files that name one part many times

    @property
    def root(self) -> int:
        """The first table."""
        return self._follow(0)

    def number(self, form: str, at: int) -> int:
        """The number at a place, in a form of `struct`."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("it has more parts than any model")
        size = struct.calcsize(form)
        if not 0 <= at <= len(self._data) - size:
            raise ValueError(f"an offset leads to byte {at}, beyond its end")
        (value,) = struct.unpack_from(form, self._data, at)
        return int(value)

    def _follow(self, at: int) -> int:
        return at + self.number("<I", at)

    def field(self, table: int, index: int) -> int:
        """Where a table's field lies; 0 if it is left out."""
        layout = table - self.number("<i", table)
        if 4 + 2 * index + 2 > self.number("<H", layout):
            return 0
        offset = self.number("<H", layout + 4 + 2 * index)
        return table + offset if offset else 0

    def scalar(self, table: int, index: int, form: str) -> int:
        """A field that is a number; 0 if it is left out."""
        at = self.field(table, index)
        return self.number(form, at) if at else 0

    def text(self, table: int, index: int, limit: int = 1 << 16) -> str:
        """A field that is a text; empty if it is left out."""
        at = self.field(table, index)
        if not at:
            return ""
        place = self._follow(at)
        size = self.number("<I", place)
        if size > limit or place + 4 + size > len(self._data):
            raise ValueError(f"a text of {size} bytes at byte {place}")
        return self._data[place + 4 : place + 4 + size].decode(errors="replace")

    def length(self, table: int, index: int) -> int:
        """How many items a field that is a list has."""
        at = self.field(table, index)
        return self.number("<I", self._follow(at)) if at else 0

    def numbers(self, table: int, index: int, limit: int = 1 << 16) -> list[int]:
        """A field that is a list of int32."""
        at = self.field(table, index)
        if not at:
            return []
        place = self._follow(at)
        count = self.number("<I", place)
        if count > limit:
            raise ValueError(f"a list of {count} numbers at byte {place}")
        return [self.number("<i", place + 4 + 4 * i) for i in range(count)]

    def tables(self, table: int, index: int) -> Iterator[int]:
        """A field that is a list of tables."""
        at = self.field(table, index)
        if not at:
            return
        place = self._follow(at)
        for item in range(self.number("<I", place)):
            yield self._follow(place + 4 + 4 * item)
