# SPDX-License-Identifier: BUSL-1.1
"""Requests to warm a new version with: those that the old one answered, or given ones.

A worker remembers the inputs of a few requests of different form that it answered well. When
the model is swapped they go to the new worker in a memory file, never through the daemon's
own memory and never to disk.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mlos_core.errors import LoadFailed, MlosError
from mlos_core.types import BYTES, DTYPES, Array, decode_bytes, dtype_name, encode_bytes

MOST: Final = 8
MOST_BYTES: Final = 4 << 20

Inputs = dict[str, Array]


class _Tensor(msgspec.Struct, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Samples:
    """What a loop remembers. It writes, the control thread reads: a dict's items are taken
    as one step."""

    def __init__(self) -> None:
        self._kept: dict[object, Inputs] = {}
        self._room = MOST_BYTES

    def keep(self, inputs: Mapping[str, Array]) -> None:
        """Remember a request of a form not seen before, while there is room; a copy."""
        if len(self._kept) >= MOST:
            return
        form = tuple((name, array.dtype.str, array.shape) for name, array in inputs.items())
        size = sum(array.nbytes for array in inputs.values())
        if form in self._kept or size > self._room:
            return
        self._room -= size
        self._kept[form] = {name: np.array(array) for name, array in inputs.items()}

    def write(self) -> int:
        """All of them in a new memory file; the caller owns the descriptor."""
        kept = [
            {name: _pack(array) for name, array in inputs.items()}
            for inputs in list(self._kept.values())
        ]
        fd = os.memfd_create("mlos-samples", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(msgspec.msgpack.encode(kept))
        except BaseException:
            os.close(fd)
            raise
        return fd


def _pack(array: Array) -> _Tensor:
    dtype = dtype_name(array)
    return _Tensor(dtype, array.shape, encode_bytes(array) if dtype == BYTES else array.tobytes())


def read(fd: int) -> list[Inputs]:
    """What `Samples.write` wrote; nothing if it is damaged."""
    data = os.pread(fd, 2 * MOST_BYTES + (1 << 16), 0)
    with contextlib.suppress(msgspec.MsgspecError, ValueError, KeyError, MlosError):
        packed = msgspec.msgpack.decode(data, type=list[dict[str, _Tensor]])
        return [{name: _unpack(tensor) for name, tensor in one.items()} for one in packed]
    return []


def _unpack(tensor: _Tensor) -> Array:
    if tensor.dtype == BYTES:
        return decode_bytes(tensor.data, tensor.shape)
    return np.frombuffer(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape)


def read_file(path: str) -> Inputs:
    """The inputs in an `.npz` file; strings become byte strings.

    Raises:
        LoadFailed: it cannot be read, or holds objects.
    """
    try:
        with Path(path).open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            return {name: _plain(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as err:
        raise LoadFailed(
            f"the warm-up inputs {path} cannot be read: {err}",
            hint="write them with numpy.savez(path, name=array, ...)",
        ) from err


def _plain(array: Array) -> Array:
    if array.dtype.kind not in "SU":
        return array
    text = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
    return text.astype(object)
