# SPDX-License-Identifier: BUSL-1.1
"""GGUF files: metadata and tensors of a mapped file, each decoded when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

from mlos_core.errors import LoadFailed, MlosError
from mlos_core.synapse.native import check, ffi, lib

_SCALARS: Final[dict[int, str]] = {
    lib.SYN_GGUF_UINT8: "u1",
    lib.SYN_GGUF_INT8: "i1",
    lib.SYN_GGUF_UINT16: "<u2",
    lib.SYN_GGUF_INT16: "<i2",
    lib.SYN_GGUF_UINT32: "<u4",
    lib.SYN_GGUF_INT32: "<i4",
    lib.SYN_GGUF_FLOAT32: "<f4",
    lib.SYN_GGUF_BOOL: "?",
    lib.SYN_GGUF_UINT64: "<u8",
    lib.SYN_GGUF_INT64: "<i8",
    lib.SYN_GGUF_FLOAT64: "<f8",
}


class GgufTensor(NamedTuple):
    """Where a tensor lies: `offset` and `nbytes` in the file; `type` is GGUF's number."""

    name: str
    type: int
    dimensions: int
    rows: int
    columns: int
    offset: int
    nbytes: int


class GgufMetadata(Mapping[str, Any]):
    """The keys of a file.

    Scalars are Python's, strings str, arrays of numbers NumPy arrays (copies), arrays of
    strings list[bytes].
    """

    def __init__(self, data: memoryview, handle: Any) -> None:
        self._data = data
        self._values: dict[str, Any] = {}
        for index in range(lib.syn_gguf_values(handle)):
            value = lib.syn_gguf_value_at(handle, index)
            self._values[_name(data, value)] = value
        self._handle = handle  # owns what the values point to
        self._decode = cache(self._decode_now)

    def __getitem__(self, key: str) -> Any:
        if self._values[key].kind == lib.SYN_GGUF_ARRAY:
            return self._decode_now(key)  # a vocabulary is read once and would stay for megabytes
        return self._decode(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _decode_now(self, key: str) -> Any:
        value = self._values[key]
        if value.kind == lib.SYN_GGUF_STRING:
            return self._text(key, value)
        if value.element == lib.SYN_GGUF_STRING:
            return self._strings(value)
        form = np.dtype(_SCALARS[value.element])
        array = np.frombuffer(self._data, form, value.count, value.offset)
        return array.copy() if value.kind == lib.SYN_GGUF_ARRAY else array[0].item()

    def _text(self, key: str, value: Any) -> str:
        raw = bytes(self._data[value.offset : value.offset + value.count])
        try:
            return raw.decode()
        except UnicodeDecodeError as err:
            raise LoadFailed(
                f"the value of {key} at byte {value.offset} is not UTF-8: {err.reason}"
            ) from None

    def _strings(self, value: Any) -> list[bytes]:
        begins, ends = (np.empty(value.count, np.uint64) for _ in range(2))
        pointers = (ffi.from_buffer("uint64_t[]", array) for array in (begins, ends))
        source = ffi.from_buffer(self._data)
        check(lib.syn_gguf_strings(value, source, self._data.nbytes, *pointers))
        if not value.count:
            return []
        start = int(begins[0])
        text = bytes(self._data[start : int(ends[-1])])
        begins -= np.uint64(start)
        ends -= np.uint64(start)
        return [text[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]


def _name(data: memoryview, item: Any) -> str:
    """A key's or tensor's name; the parser saw to it that it is ASCII."""
    return str(data[item.name : item.name + item.name_bytes], "ascii", "replace")


def parse(data: memoryview) -> tuple[GgufMetadata, dict[str, GgufTensor]]:
    """What the file in `data` holds. `data` must stay valid while the metadata are used.

    Raises:
        LoadFailed: the header is wrong; the message names the key or tensor and the offset.
        Unsupported: a version, an array of arrays, a tensor type that nobody knows.
    """
    out = ffi.new("syn_gguf **")
    try:
        check(lib.syn_gguf_open(out, ffi.from_buffer(data), data.nbytes))
    except MlosError as err:
        # Which C function noticed is of no use to the owner of a broken file.
        raise type(err)(err.message.partition(": ")[2]) from None
    handle = ffi.gc(out[0], lib.syn_gguf_free)
    tensors = {}
    for index in range(lib.syn_gguf_tensors(handle)):
        t = lib.syn_gguf_tensor_at(handle, index)
        name = _name(data, t)
        tensors[name] = GgufTensor(name, t.type, t.dimensions, t.rows, t.columns, t.offset, t.bytes)
    return GgufMetadata(data, handle), tensors


def type_name(number: int) -> str:
    """What GGUF calls a tensor type."""
    return str(ffi.string(lib.syn_gguf_type_name(number)), "ascii") or f"type {number}"
