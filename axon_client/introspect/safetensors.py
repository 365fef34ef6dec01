# SPDX-License-Identifier: BUSL-1.1
"""safetensors: names, dtypes and shapes of all weights stand in front, as JSON.

What they are the weights of stands in the `config.json` beside them; see `hub_config`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import msgspec

from axon_client.introspect.header import BITS, Header, Tally
from axon_client.introspect.hub_config import read_config
from axon_client.introspect.mapped import refusal
from axon_client.introspect.shards import shards_of
from mlos_core.errors import LoadFailed

_KIND: Final = "a safetensors file"
_MOST_HEADER: Final = 16 << 20
_DTYPES: Final = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32",
    "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64", "F4": "float4_e2m1",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0",
}  # fmt: skip
_NO_IO: Final = "safetensors hold weights only: inputs and outputs follow from the architecture"


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_safetensors(path: Path) -> Header:
    """Read the header of a safetensors file, of all its shards, and its `config.json`.

    Raises:
        LoadFailed: it is none, or a shard is missing.
    """
    tally = Tally()
    for file in shards_of(path):
        _weigh(file, tally)
    told = read_config(path.parent)
    return msgspec.structs.replace(
        told,
        parameters=tally.parameters,
        dtypes=tally.dtypes,
        weight_bytes=tally.bytes,
        unknown=(_NO_IO,),
    )


def _weigh(path: Path, tally: Tally) -> None:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            body = path.stat().st_size - 8 - length
            if body < 0:
                raise ValueError("its header is longer than the file")
            if length > _MOST_HEADER:
                raise ValueError(f"its header has {length >> 20} MiB")
            _add(file.read(length), body, tally)
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise refusal(path, _KIND, error) from error


def _add(header: bytes, body: int, tally: Tally) -> None:
    for name, raw in msgspec.json.decode(header, type=dict[str, msgspec.Raw]).items():
        if name == "__metadata__":
            continue
        tensor = msgspec.json.decode(raw, type=_Tensor)
        begin, end = tensor.data_offsets
        if not 0 <= begin <= end <= body:
            raise ValueError(f"the tensor {name[:80]!r} lies outside of the file")
        dtype = _DTYPES.get(tensor.dtype, tensor.dtype.lower()[:32])
        tally.add(dtype, tensor.shape, end - begin)
        _check_size(name, dtype, tensor)


def _check_size(name: str, dtype: str, tensor: _Tensor) -> None:
    begin, end = tensor.data_offsets
    bits = BITS.get(dtype)
    if min(tensor.shape, default=0) < 0:
        raise ValueError(f"the tensor {name[:80]!r} has a negative size")
    if bits is not None and (math.prod(tensor.shape) * bits + 7) // 8 != end - begin:
        raise ValueError(f"the tensor {name[:80]!r} has {end - begin} bytes, not what it says")
