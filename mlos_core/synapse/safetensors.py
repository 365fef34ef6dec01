# SPDX-License-Identifier: BUSL-1.1
"""Safetensors files: where the tensors of one file, or of a folder of parts, lie.

The format's rules are all checked: the header's length, one entry per name, sizes that follow
from type and shape, data that cover the file without a gap or an overlap.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse.mapping import map_file, read_file
from mlos_core.synapse.wording import clean

LONGEST_HEADER: Final = 100_000_000
LARGEST_INDEX: Final = 100_000_000
SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_MOST_DIMENSIONS: Final = 8
_MOST_PARTS: Final = 1000
_SIZES: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}

Length = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[Length, ...], msgspec.Meta(max_length=_MOST_DIMENSIONS)]
    data_offsets: tuple[Length, Length]


class SafeTensor(NamedTuple):
    """A tensor in a file; `dtype` is the format's word."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def parse(data: memoryview) -> dict[str, SafeTensor]:
    """The tensors of the file in `data`, as views of it.

    Raises:
        LoadFailed: the header breaks a rule of the format; the message names the tensor.
        Unsupported: a tensor's type is unknown.
    """
    header, begin = _header(data)
    body = data[begin:]
    entries = {name: _entry(name, raw) for name, raw in header.items()}
    _check_names(bytes(data[8:begin]))
    _check_cover(entries, body.nbytes)
    return {
        name: SafeTensor(name, entry.dtype, entry.shape, body[slice(*entry.data_offsets)])
        for name, entry in entries.items()
    }


def _header(data: memoryview) -> tuple[dict[str, msgspec.Raw], int]:
    """The header's entries without the metadata, and where the data begin."""
    if data.nbytes < 8:
        raise LoadFailed(f"the file has {data.nbytes} bytes, too few for a header")
    length = int.from_bytes(data[:8], "little")
    if length > LONGEST_HEADER:
        raise LoadFailed(f"the header is {length} bytes long; {LONGEST_HEADER} are allowed")
    if length > data.nbytes - 8:
        raise LoadFailed(f"the header of {length} bytes goes beyond the file's end")
    raw = data[8 : 8 + length]
    if bytes(raw[:1]) != b"{":
        raise LoadFailed("the header does not begin with an opening brace")
    try:
        header = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        metadata = header.pop("__metadata__", msgspec.Raw(b"{}"))
        msgspec.json.decode(metadata, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise LoadFailed(f"the header is not what it should be: {clean(str(err))}") from None
    return header, 8 + length


def _check_names(header: bytes) -> None:
    """Refuse a header that says something twice; what is said first is not checked otherwise."""
    try:
        json.loads(header, object_pairs_hook=_once)
    except (ValueError, RecursionError) as err:
        raise LoadFailed(f"the header is not what it should be: {clean(str(err))}") from None


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object that has a name twice; the decoders would take the last one."""
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise LoadFailed(f"the header has {_short(name)} twice")
        seen.add(name)


def _entry(name: str, raw: msgspec.Raw) -> _Entry:
    try:
        entry = msgspec.json.decode(raw, type=_Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise LoadFailed(f"the entry of tensor {_short(name)}: {clean(str(err))}") from None
    if entry.dtype not in _SIZES:
        raise Unsupported(
            f"tensor {_short(name)} is of the unknown type {_short(entry.dtype)}",
            hint="known are " + ", ".join(_SIZES),
        )
    begin, end = entry.data_offsets
    size = math.prod(entry.shape) * _SIZES[entry.dtype]
    if end < begin or end - begin != size:
        raise LoadFailed(
            f"tensor {_short(name)} lies from {begin} to {end}, but its shape takes {size} bytes"
        )
    return entry


def _check_cover(entries: dict[str, _Entry], length: int) -> None:
    """Data follow each other from the first byte to the last."""
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        if begin != at:
            how = "overlaps the one before it" if begin < at else "leaves a gap before it"
            raise LoadFailed(f"tensor {_short(name)} at {begin} {how}, which ends at {at}")
        if end > length:
            raise LoadFailed(f"tensor {_short(name)} ends at {end}, beyond the file's end")
        at = end
    if at != length:
        raise LoadFailed(f"{length - at} bytes at the file's end belong to no tensor")


def _short(name: str) -> str:
    """A name from a file, fit for a message."""
    return repr(name if len(name) <= 80 else name[:80] + "...")


def has_safetensors(folder: Path) -> bool:
    """Whether a folder has weights of this format where Hugging Face puts them."""
    return (folder / SINGLE).exists() or (folder / INDEX).exists()


def open_folder_tensors(folder: Path) -> tuple[tuple[Path, ...], dict[str, SafeTensor]]:
    """The tensors of a folder's model.safetensors, or of the parts that its index names.

    Raises:
        LoadFailed: a file is missing or wrong; it is named.
        Unsupported: there are weights, but in another format.
    """
    if (folder / INDEX).exists() and not (folder / SINGLE).exists():
        return _open_parts(folder)
    if not (folder / SINGLE).exists() and list(folder.glob("*.bin")):
        raise Unsupported(
            f"{folder} has weights in PyTorch's format", hint="convert them to safetensors"
        )
    return (folder / SINGLE,), _open_part(folder / SINGLE)


def _open_part(path: Path) -> dict[str, SafeTensor]:
    try:
        return parse(map_file(path))
    except (LoadFailed, Unsupported) as err:
        raise type(err)(f"{path.name}: {err.message}", hint=err.hint) from None


def _open_parts(folder: Path) -> tuple[tuple[Path, ...], dict[str, SafeTensor]]:
    where = _index(folder)
    names = sorted(set(where.values()))
    if len(names) > _MOST_PARTS:
        raise LoadFailed(f"{INDEX} names {len(names)} files, more than {_MOST_PARTS}")
    for name in names:
        if name != Path(name).name or name in ("", ".", ".."):
            raise LoadFailed(f"{INDEX} names {_short(name)}, which is no file of the folder")
    parts = {name: _open_part(folder / name) for name in names}
    tensors = {}
    for tensor, name in where.items():
        if tensor not in parts[name]:
            raise LoadFailed(f"{name} does not have tensor {_short(tensor)}, as {INDEX} says")
        tensors[tensor] = parts[name][tensor]
    return tuple(folder / name for name in names), tensors


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def _index(folder: Path) -> dict[str, str]:
    try:
        raw = read_file(folder / INDEX, LARGEST_INDEX)
        return msgspec.json.decode(raw, type=_Index).weight_map
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise LoadFailed(f"{INDEX}: {clean(str(err))}") from None
