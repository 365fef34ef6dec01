# SPDX-License-Identifier: BUSL-1.1
"""The index of a SavedModel's variables: a sorted table of keys, each with dtype and shape.

    data blocks | index block | footer: where the index block is, and a magic number

A block is entries, each with the length of the prefix it shares with the key before, and
behind them the places where keys are whole; those are not needed to read it from the front.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from axon_client import wire
from axon_client.introspect.header import Tally
from axon_client.introspect.tensorflow_types import DTYPES

_MAGIC: Final = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER: Final = 48
_MOST_BYTES: Final = 32 << 20
_MOST_ENTRIES: Final = 1 << 18
_BOOKKEEPING: Final = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter", "_all_variables/")
"""Keys that are no weights; the last are the copies that an export of Keras keeps of all."""
_OF_TRAINING: Final = ("/.OPTIMIZER_SLOT/", "optimizer/")


def weigh_variables(path: Path, tally: Tally) -> bool:
    """Add the variables that the index at `path` lists; False if there is no index.

    Raises:
        ValueError: it is no such index.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError:
        return False
    if len(data) > _MOST_BYTES or len(data) < _FOOTER or data[-8:] != _MAGIC:
        raise ValueError("it is no index of variables")
    for seen, (key, value) in enumerate(_entries(data)):
        if seen > _MOST_ENTRIES:
            raise ValueError("it has more entries than any model")
        name = key.decode(errors="replace")
        if name and not name.startswith(_BOOKKEEPING) and not any(w in name for w in _OF_TRAINING):
            _add(value, tally)
    return True


def _entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = len(data) - _FOOTER
    at = footer
    for _ in range(2):  # the block of metadata, which is empty
        _, at = wire.varint(data, at, len(data))
    for _, handle in _block(data, *_handle(data, at, len(data)), footer):
        yield from _block(data, *_handle(handle, 0, len(handle)), footer)


def _handle(data: bytes, at: int, end: int) -> tuple[int, int]:
    offset, at = wire.varint(data, at, end)
    size, _ = wire.varint(data, at, end)
    return offset, size


def _block(data: bytes, offset: int, size: int, limit: int) -> Iterator[tuple[bytes, bytes]]:
    end = offset + size
    if size < 4 or end >= limit or data[end] != 0:
        raise ValueError("a block lies beyond its end, or is compressed")
    whole_keys = int.from_bytes(data[end - 4 : end], "little")
    stop = end - 4 - 4 * whole_keys
    key, at = b"", offset
    while at < stop:
        shared, at = wire.varint(data, at, stop)
        rest, at = wire.varint(data, at, stop)
        length, at = wire.varint(data, at, stop)
        if shared > len(key) or rest + length > stop - at or shared + rest > 1 << 16:
            raise ValueError("an entry is longer than its block")
        key = key[:shared] + data[at : at + rest]
        yield key, data[at + rest : at + rest + length]
        at += rest + length


def _add(value: bytes, tally: Tally) -> None:
    reader = wire.Reader(value, len(value), most=10_000)
    dtype, shape = "unknown", list[int]()
    size = 0
    for field in reader.top():
        if field.number == 1:
            dtype = DTYPES.get(field.value, f"tensorflow_{field.value}")
        elif field.number == 2:
            shape = [
                wire.signed(p)
                for dim in reader.message(field)
                if dim.number == 2
                for p in reader.message(dim)
                if p.number == 1
            ]
        elif field.number == 5:
            size = max(wire.signed(field), 0)
    tally.add(dtype, shape, size)
