# SPDX-License-Identifier: BUSL-1.1
"""A walker over protobuf's wire format, for bytes that nobody has checked.

Reads only what it is asked for and allocates nothing that the bytes did not pay for: every
field is at least two bytes long, and a length beyond the end is an error before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT: Final = 10
_MAX_KEY: Final = 0xFFFF_FFFF
"""Protobuf's own reader drops the bits above: there, such a key is that of another field."""

Value = int | memoryview
"""A varint, or the bytes of a text, a message or a packed list."""


class Malformed(ValueError):
    """The bytes are no protobuf message."""


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field, in order; fields of fixed width are skipped.

    Raises:
        Malformed: as soon as the bytes make no sense.
    """
    place, end = 0, len(message)
    while place < end:
        key, place = varint(message, place)
        number, kind = key >> 3, key & 7
        if not number or key > _MAX_KEY:
            raise Malformed(f"a field has the number {number}")
        if kind == _VARINT:
            value, place = varint(message, place)
            yield number, value
        elif kind == _BYTES:
            size, place = varint(message, place)
            if size > end - place:
                raise Malformed(f"field {number} reaches {size - (end - place)} bytes too far")
            yield number, message[place : place + size]
            place += size
        elif kind in _FIXED:
            place += _FIXED[kind]
        else:
            raise Malformed(f"field {number} has the unknown wire type {kind}")
    if place > end:
        raise Malformed("the last field is cut off")


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """The number at `place`, 64 bits unsigned, and the place behind it."""
    value = shift = 0
    for index in range(place, min(place + _MAX_VARINT, len(message))):
        byte = message[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, index + 1
        shift += 7
    raise Malformed(f"the number at byte {place} has no end")
