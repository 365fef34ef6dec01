# SPDX-License-Identifier: BUSL-1.1
"""A strict reader of protobuf's wire format, for files that are mostly weights.

Guarantees: touches only the bytes of keys and lengths, so a field that is skipped is never
paged in; every length is checked against its enclosing message; raises `WireError` on
anything that is not well-formed. Does not recurse and holds no copy of the data.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

Buffer = bytes | mmap.mmap


class WireError(ValueError):
    """The bytes are not protobuf."""


class Field(NamedTuple):
    """One field: of a varint `value`, of all others the range `start:end` in the buffer."""

    number: int
    wire: int
    value: int
    start: int
    end: int


def fields(data: Buffer, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in `data[start:end]`, in file order."""
    at = start
    while at < end:
        key, at = varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0 or number >= 1 << 29:
            raise WireError(f"field number {number} at byte {at}")
        if wire == VARINT:
            value, at = varint(data, at, end)
            yield Field(number, wire, value, at, at)
            continue
        size, at = _size(data, wire, at, end)
        if size > end - at:
            raise WireError(f"field {number} at byte {at} is longer than its message")
        yield Field(number, wire, 0, at, at + size)
        at += size


def _size(data: Buffer, wire: int, at: int, end: int) -> tuple[int, int]:
    if wire == LENGTH:
        return varint(data, at, end)
    if wire == FIXED64:
        return 8, at
    if wire == FIXED32:
        return 4, at
    raise WireError(f"wire type {wire} at byte {at}")


def varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """The number at byte `at`, and where the next thing begins."""
    value = shift = 0
    while shift < 64:
        if at >= end:
            raise WireError(f"a number is cut off at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise WireError(f"a number of more than ten bytes at byte {at}")


def text(data: Buffer, field: Field, limit: int = 1 << 16) -> str:
    """A string field's text."""
    if field.wire != LENGTH or field.end - field.start > limit:
        raise WireError(f"field {field.number} at byte {field.start} is not a short text")
    try:
        return data[field.start : field.end].decode()
    except UnicodeDecodeError as error:
        raise WireError(f"field {field.number} at byte {field.start} is not UTF-8") from error


def signed(field: Field) -> int:
    """An int64 field's value."""
    if field.wire != VARINT:
        raise WireError(f"field {field.number} at byte {field.start} is not a number")
    return field.value - (1 << 64) if field.value >> 63 else field.value


def message(data: Buffer, field: Field) -> Iterator[Field]:
    """The fields of a field that is itself a message."""
    if field.wire != LENGTH:
        raise WireError(f"field {field.number} at byte {field.start} is not a message")
    return fields(data, field.start, field.end)


class Reader:
    """A whole message, of which at most `most` fields are looked at.

    A file may hold a field in every two bytes: the bound is on the work, not on the size.
    """

    def __init__(self, data: Buffer, size: int, most: int = 4_000_000) -> None:
        self.data = data
        self._size = size
        self._left = most

    def top(self) -> Iterator[Field]:
        """The fields of the whole message."""
        return self._counted(fields(self.data, 0, self._size))

    def message(self, field: Field) -> Iterator[Field]:
        """The fields of a field that is itself a message."""
        return self._counted(message(self.data, field))

    def text(self, field: Field, limit: int = 1 << 16) -> str:
        """A string field's text."""
        return text(self.data, field, limit)

    def numbers(self, field: Field) -> Iterator[int]:
        """A repeated int64 field's values, packed or one by one."""
        if field.wire == VARINT:
            yield signed(field)
            return
        if field.wire != LENGTH:
            raise WireError(f"field {field.number} at byte {field.start} is not a list of numbers")
        at = field.start
        while at < field.end:
            self._spend()
            value, at = varint(self.data, at, field.end)
            yield value - (1 << 64) if value >> 63 else value

    def _counted(self, found: Iterator[Field]) -> Iterator[Field]:
        for field in found:
            self._spend()
            yield field

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise WireError("it has more fields than any model")
