# SPDX-License-Identifier: BUSL-1.1
"""GGUF: keys and values, then the list of tensors; both stand in front of the weights.

Long arrays, which are vocabularies, are stepped over and not kept.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from axon_client.introspect.header import Header, Tally
from axon_client.introspect.mapped import mapped, refusal
from axon_client.introspect.shards import shards_of

_MOST_KEYS: Final = 1 << 16
_MOST_TENSORS: Final = 1 << 18
_MOST_ITEMS: Final = 1 << 22
_MOST_TEXT: Final = 4 << 20
_KEPT_ITEMS: Final = 1024
_STRING, _ARRAY = 8, 9
_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
# By GGUF's number: the name of a tensor's type, elements of a block, bytes of a block.
_TYPES: Final = {
    0: ("float32", 1, 4), 1: ("float16", 1, 2), 2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22), 7: ("q5_1", 32, 24), 8: ("q8_0", 32, 34), 9: ("q8_1", 32, 40),
    10: ("q2_k", 256, 84), 11: ("q3_k", 256, 110), 12: ("q4_k", 256, 144),
    13: ("q5_k", 256, 176), 14: ("q6_k", 256, 210), 15: ("q8_k", 256, 292),
    16: ("iq2_xxs", 256, 66), 17: ("iq2_xs", 256, 74), 18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50), 20: ("iq4_nl", 32, 18), 21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82), 23: ("iq4_xs", 256, 136), 24: ("int8", 1, 1), 25: ("int16", 1, 2),
    26: ("int32", 1, 4), 27: ("int64", 1, 8), 28: ("float64", 1, 8), 29: ("iq1_m", 256, 56),
    30: ("bfloat16", 1, 2), 34: ("tq1_0", 256, 54), 35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17), 40: ("nvfp4", 64, 36), 41: ("q1_0", 128, 18),
}  # fmt: skip
_FILE_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0",
    38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
_CACHE_BYTES: Final = 2


def read_gguf(path: Path) -> Header:
    """Read the header of a GGUF file, and count the weights of all its parts.

    Raises:
        LoadFailed: it is none, or a part is missing.
    """
    tally = Tally()
    keys: dict[str, Any] = {}
    for file in shards_of(path):
        with mapped(file) as data:
            try:
                keys = _Cursor(data).read(tally) | keys
            except (ValueError, struct.error) as error:
                raise refusal(file, "a GGUF file", error) from error
    return _header(keys, tally)


class _Cursor:
    """Reads one file from front to back."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0
        self._items = _MOST_ITEMS

    def read(self, tally: Tally) -> dict[str, Any]:
        """The keys; the tensors are added to the tally."""
        if self._data[:4] != b"GGUF":
            raise ValueError("it does not begin like one")
        self._at = 4
        version, tensors, keys = self._number("<I"), self._number("<Q"), self._number("<Q")
        if version not in (2, 3):
            raise ValueError(f"version {version} is none that is known")
        if keys > _MOST_KEYS or tensors > _MOST_TENSORS:
            raise ValueError(f"it says that it has {tensors} tensors and {keys} keys")
        found = dict(self._pair() for _ in range(keys))
        for _ in range(tensors):
            self._tensor(tally)
        return found

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def _text(self) -> str:
        size = self._number("<Q")
        if size > _MOST_TEXT or size > len(self._data) - self._at:
            raise ValueError(f"a text of {size} bytes at byte {self._at}")
        raw = self._data[self._at : self._at + size]
        self._at += size
        return raw.decode(errors="replace")

    def _pair(self) -> tuple[str, Any]:
        name, kind = self._text(), self._number("<I")
        return name, self._array() if kind == _ARRAY else self._scalar(kind)

    def _scalar(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind not in _SCALARS:
            raise ValueError(f"a value of kind {kind} at byte {self._at}")
        return self._number(_SCALARS[kind])

    def _array(self) -> list[Any] | None:
        """A short array; None for a long one."""
        kind, count = self._number("<I"), self._number("<Q")
        self._items -= count
        if self._items < 0:
            raise ValueError("its arrays have more items than any vocabulary")
        if kind == _STRING:
            self._strings(count)
            return None
        if kind not in _SCALARS:
            raise ValueError(f"an array of kind {kind} at byte {self._at}")
        size = struct.calcsize(_SCALARS[kind])
        if count > _KEPT_ITEMS:
            self._skip(count * size)
            return None
        return [self._number(_SCALARS[kind]) for _ in range(count)]

    def _strings(self, count: int) -> None:
        for _ in range(count):
            self._skip(self._number("<Q"))

    def _skip(self, size: int) -> None:
        if size > len(self._data) - self._at:
            raise ValueError(f"{size} bytes at byte {self._at} are beyond its end")
        self._at += size

    def _tensor(self, tally: Tally) -> None:
        name, rank = self._text(), self._number("<I")
        if rank > 8:
            raise ValueError(f"the tensor {name[:80]!r} has {rank} dimensions")
        shape = [self._number("<Q") for _ in range(rank)]
        kind, offset = self._number("<I"), self._number("<Q")
        dtype, block, size = _TYPES.get(kind, (f"gguf_{kind}", 1, 0))
        before = tally.elements
        tally.add(dtype, shape, 0)
        tally.weigh((tally.elements - before) // block * size)
        if offset > len(self._data):
            raise ValueError(f"the tensor {name[:80]!r} lies beyond the end of the file")


def _header(keys: Mapping[str, Any], tally: Tally) -> Header:
    kind = _word(keys, "general.architecture")
    return Header(
        parameters=tally.parameters,
        dtypes=tally.dtypes,
        weight_bytes=tally.bytes,
        architecture=kind,
        quantization=_FILE_TYPES.get(_count(keys, "general.file_type", -1), ""),
        context_length=_count(keys, f"{kind}.context_length"),
        cache_bytes_per_token=sum(_cache(keys, kind)),
        chat_template=bool(keys.get("tokenizer.chat_template")),
        license=_word(keys, "general.license"),
        name=_word(keys, "general.name"),
        unknown=("a GGUF file holds a language model: it takes text, and tokens inside",),
    )


def _cache(keys: Mapping[str, Any], kind: str) -> Iterator[int]:
    """For each layer, bytes of a token's key and value in float16."""
    heads = _count(keys, f"{kind}.attention.head_count")
    width = _count(keys, f"{kind}.embedding_length") // heads if heads else 0
    key = _count(keys, f"{kind}.attention.key_length") or width
    value = _count(keys, f"{kind}.attention.value_length") or width
    pairs = keys.get(f"{kind}.attention.head_count_kv", heads)
    layers = min(_count(keys, f"{kind}.block_count"), _KEPT_ITEMS)
    for layer in range(layers):
        count = pairs[layer] if isinstance(pairs, list) and layer < len(pairs) else pairs
        yield (count if isinstance(count, int) else heads) * (key + value) * _CACHE_BYTES


def _word(keys: Mapping[str, Any], name: str) -> str:
    value = keys.get(name)
    return value if isinstance(value, str) else ""


def _count(keys: Mapping[str, Any], name: str, missing: int = 0) -> int:
    value = keys.get(name)
    return value if isinstance(value, int) and 0 <= value < 1 << 32 else missing
